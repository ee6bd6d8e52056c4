"""What a new user types: a study file of one's own, and the question where a study stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.commands import first_steps, operation
from flows.commands.options import check_cohort
from flows.retraining.shift_check import ShiftResult
from pipeline.config import load_study
from pipeline.errors import ConfigError, InputError


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with scans and a table of diagnoses."""
    (tmp_path / "scans").mkdir()
    (tmp_path / "labels.csv").write_text("subject,diagnosis\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_options_answer_all_questions(here, capsys):
    first_steps.init(Path("mine"), Path("scans"), "CN, impaired", Path("labels.csv"))
    study = load_study(Path("mine/taucal.yaml"))
    assert (study.ingest.source, study.cohort.classes) == (Path("scans"), ("CN", "impaired"))
    assert study.cohort.labels is not None
    assert (
        "`taucal ingest scans --out mine/bids`, then `taucal train mine/taucal.yaml`"
        in capsys.readouterr().err
    )


def test_the_commands_that_are_printed_can_be_pasted(here, capsys):
    scans = (here / "scans").rename(here / "PET Müller")
    first_steps.init(Path("my study"), Path(scans.name))
    assert (
        "`taucal ingest 'PET Müller' --out 'my study/bids'`, then `taucal train 'my study/taucal.yaml'`"
        in capsys.readouterr().err
    )
    with pytest.raises(ConfigError, match=r"`taucal ingest SOURCE --out 'my study/bids'` makes a new one"):
        check_cohort(load_study(Path("my study/taucal.yaml")), Path("my study/taucal.yaml"))


def test_an_archive_is_a_source(here):
    shutil.make_archive("scans", "zip", "scans")
    first_steps.init(Path("mine"), Path("scans.zip"))
    assert load_study(Path("mine/taucal.yaml")).ingest.source == Path("scans.zip")


def test_a_terminal_is_asked_three_questions(here, monkeypatch):
    monkeypatch.setattr("flows.commands.first_steps.sys.stdin.isatty", lambda: True, raising=False)
    answers = iter(["scans", "CN,AD", ""])
    asked = []

    def prompt(text, **_given):
        asked.append(text)
        return next(answers)

    monkeypatch.setattr("typer.prompt", prompt)
    done = first_steps.init(Path("mine"))
    assert len(asked) == 3
    assert done == {"file": "mine/taucal.yaml", "source": "scans", "classes": ["CN", "AD"], "labels": None}


def test_an_existing_file_stays_unless_replacing_it_is_asked_for(here):
    first_steps.init(Path("mine"), Path("scans"))
    path = Path("mine/taucal.yaml")
    path.write_text("mine")
    with pytest.raises(
        InputError, match=r"mine/taucal\.yaml: This study file exists already\. .*--overwrite"
    ):
        first_steps.init(Path("mine"), Path("scans"))
    assert path.read_text() == "mine"
    first_steps.init(Path("mine"), Path("scans"), overwrite=True)
    assert load_study(path).name == "mine"


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (
            {"source": Path("nowhere")},
            InputError,
            "nowhere: There is no such folder or archive",
        ),
        ({"source": Path("labels.csv")}, InputError, r"labels\.csv: This file is no archive"),
        ({"source": Path("scans"), "labels": Path("no.csv")}, InputError, r"no\.csv: There is no such table"),
        ({"source": Path("scans"), "classes": "CN"}, InputError, "--classes: CN is named, expected two"),
        ({"source": Path("scans"), "classes": "CN;AD"}, InputError, "Separate them by commas, as in CN,MCI"),
        ({"source": Path("scans"), "classes": "CN,CN"}, ConfigError, "CN appears twice"),
        ({"source": Path()}, InputError, "FOLDER mine: The dataset would be mine/bids, which overlaps"),
    ],
    ids=["no folder", "a file", "no table", "one class", "semicolons", "a class twice", "overlap"],
)
def test_a_wrong_answer_is_explained_and_writes_nothing(here, given, error, match):
    with pytest.raises(error, match=match):
        first_steps.init(Path("mine"), **given)
    assert not (here / "mine").exists()


def test_status_is_a_table_or_json(here):
    first_steps.init(Path("mine"), Path("scans"))
    table = CliRunner().invoke(app, ["status", "--study", "mine/taucal.yaml"])
    assert table.exit_code == 0
    assert "none yet: `taucal train` makes the first" in table.stdout
    answer = CliRunner().invoke(app, ["--quiet", "status", "--study", "mine/taucal.yaml", "--json"])
    found = json.loads(answer.stdout)
    assert (found["study"], found["champion"], found["waits_for_approval"]) == ("mine", None, None)
    assert [run["what"] for run in found["runs"]] == ["ingest", "reports", "shift", "week", "retrain"]


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (
            {"scans": 0, "tested": False, "reasons": ("No scan is new.",)},
            ", 0 new scans. Not tested. No scan",
        ),
        ({"tested": True, "reasons": ("None of 5.",)}, ", 20 new scans. No action is needed. None of 5."),
        ({"scans": 1, "tested": False, "reasons": ("Not tested: few.",)}, ", 1 new scan. Not tested: few."),
        ({"answer": "retrain", "tested": True, "reasons": ("More.",)}, ". Retrain the champion. More."),
        (
            {"answer": "unknown", "scans": None, "reasons": ("x cannot be read.",)},
            " UTC. Not known. x cannot",
        ),
    ],
    ids=["no scan", "tested", "few scans", "retrain", "cannot be read"],
)
def test_status_states_what_a_shift_test_found_or_that_none_was_made(found, state):
    given = {"time": "2026-11-30T05:00:00Z", "scans": 20, "answer": "nothing", "tested": False, **found}
    assert state in first_steps._shift_test(given)


@pytest.mark.parametrize(
    ("tested", "told"), [(False, "0 new scans, champion: 3. Not tested."), (True, "No action is needed.")]
)
def test_shift_states_that_nothing_was_tested(here, monkeypatch, capsys, tested, told):
    first_steps.init(Path("mine"), Path("scans"))
    monkeypatch.setattr(operation, "check_cohort", lambda *_given: None)
    done = ShiftResult(3, 0, "nothing", ("No scan is new.",), tested=tested)
    monkeypatch.setattr("flows.running.doors.run_door", lambda *_given: done)
    found = operation.shift(Path("mine/taucal.yaml"))
    assert told in capsys.readouterr().err
    assert found["tested"] is tested


def test_status_of_a_folder_without_a_study_file_says_what_to_name(here):
    (here / "out").mkdir()
    (here / "out" / "mlflow.db").touch()
    with pytest.raises(InputError, match=r"out: This folder has no study\.yaml.*--study CONFIG"):
        first_steps.status(Path("out"))
