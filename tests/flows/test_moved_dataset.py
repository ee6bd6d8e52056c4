"""A project is moved: its study names the old place of the dataset, and every command says what to change."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.commands.options import check_cohort
from flows.ingest import ingest_study
from flows.report import Request, key_for
from pipeline import tracking
from pipeline.config import Study, load_study
from pipeline.errors import ConfigError, InputError
from pipeline.ingest.deidentify import key_beside, load_or_make_key
from pipeline.tracking import RunRecord


@pytest.fixture(scope="module")
def project(tmp_path_factory, small_classifier) -> Path:
    """A project folder: a trained study beside its dataset, with a champion and a key."""
    folder = tmp_path_factory.mktemp("project") / "old"
    places = {"cohort": {"path": folder / "bids"}, "ingest": {"source": folder / "scans"}}
    made = Study(name="x", output=folder / "study", **places)
    for inner in ("bids/derivatives/taucal", "scans", "study/.records"):
        (folder / inner).mkdir(parents=True)
    (folder / "bids" / "derivatives" / "taucal" / "cohort.tsv").write_text("scan_id\nsub-A_ses-1\n")
    load_or_make_key(key_beside(folder / "bids"), folder / "bids")
    (made.output / "study.yaml").write_text(made.to_yaml())
    store = tracking.store_of(made.tracking, made.output)
    run_id = tracking.log_run(store, RunRecord("r", "k", {}, {}, {}))
    bundle = small_classifier.save(made.output / "classifier")
    tracking.promote(store, tracking.register(store, run_id, bundle, {}, "a"))
    return folder


@pytest.fixture
def moved(project, tmp_path) -> Study:
    """The study of a project folder that was ``old`` and is ``new``."""
    file = Path(shutil.copytree(project, tmp_path / "new")) / "study" / "study.yaml"
    file.write_text(file.read_text().replace(str(project), str(tmp_path / "old")))
    return load_study(file)


def corrected(study: Study) -> Path:
    """Write into the study's file what the commands say."""
    new = study.output.parent
    file = study.output / "study.yaml"
    file.write_text(file.read_text().replace(f"{new.parent}/old", str(new)))
    return file


def status(folder: Path, *more: str) -> str:
    """Return what is printed, without spaces and lines: paths may be broken anywhere."""
    done = CliRunner().invoke(app, ["status", "--study", str(folder), *more])
    assert done.exit_code == 0, done.output
    return re.sub(r"[\s│]", "", done.stdout)


def test_the_status_says_where_the_dataset_probably_is(moved):
    new = moved.output.parent
    hint = f"correctcohort.pathin{moved.output}/study.yamlto{new}/bids"
    assert f"nodatasetat{new.parent}/old/bids;itmayhavebeenmovedwiththestudy:{hint}" in status(moved.output)
    assert f"ifitwaslost,`taucalingestSOURCE--out{new.parent}/old/bids`makesitagain" in status(moved.output)
    assert json.loads(status(moved.output, "--json"))["output"] == str(moved.output)
    corrected(moved)
    assert "1inthedataset" in status(moved.output)


def test_a_report_says_that_persons_get_other_pseudonyms_and_how_they_keep_theirs(moved, tmp_path, capsys):
    request = Request(tmp_path / "reports", "@champion", moved.output)
    assert key_for(request) == key_beside(tmp_path / "reports")
    told = capsys.readouterr().err
    assert "persons get other pseudonyms here" in told
    assert f"correct cohort.path in {moved.output}/study.yaml to {moved.output.parent}/bids, or name" in told
    own = key_beside(moved.output.parent / "bids")
    assert key_for(Request(tmp_path / "reports", "@champion", moved.output, key_file=own)) == own
    corrected(moved)
    assert key_for(request) == own
    assert capsys.readouterr().err == ""


def test_a_retraining_makes_no_second_dataset_at_the_old_place(moved, tmp_path):
    with pytest.raises(InputError, match=r"^cohort\.path: .*/old/bids, nor is its key.*another pseudonym"):
        ingest_study(moved)
    assert not (tmp_path / "old").exists()
    cohort = moved.cohort.model_copy(update={"path": moved.output.parent / "bids"})
    with pytest.raises(InputError, match=r"^ingest\.source: There is no such folder .*/old/scans"):
        ingest_study(moved.model_copy(update={"cohort": cohort}))


def test_commands_that_read_the_dataset_name_its_probable_place(moved):
    file, new = moved.output / "study.yaml", moved.output.parent
    with pytest.raises(ConfigError, match=f"orrect cohort.path in {file} to {new}/bids; `taucal ingest"):
        check_cohort(moved, file)
    (new / "bids").rename(new / "elsewhere")
    with pytest.raises(ConfigError, match=f"If it was moved, correct cohort.path in {file}; `taucal ingest"):
        check_cohort(moved, file)


def test_a_study_file_that_names_the_old_output_is_to_be_corrected(moved, tmp_path):
    file = tmp_path / "taucal.yaml"
    file.write_text(moved.model_copy(update={"output": tmp_path / "old" / "study"}).to_yaml())
    told = f"thereisno{tmp_path}/old/study:ifthestudywasmoved,correctoutputinitsfile"
    assert told in status(file)
    with pytest.raises(InputError, match=r"does not exist yet.*was moved, correct output in its file"):
        tracking.load_classifier(tracking.store_at(file))
    with pytest.raises(InputError, match=r"makes a first one\.$"):
        tracking.load_classifier(tracking.store_at(moved.output), "models:/taucal/7")
