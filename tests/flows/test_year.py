"""A small year: judged before it is learned from, gone on with after a kill, and told in a table."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from flows import year
from flows.year import POLICIES, run_year, what_came
from pipeline import tracking
from pipeline.config import BatchSettings, Study, load_study, shipped_study
from pipeline.errors import ConfigError, InputError
from pipeline.evaluation.monitoring.prospective import PeriodPredictions
from pipeline.files import read_json, write_json

pytestmark = [pytest.mark.slow, pytest.mark.server]

ROOT = Path(__file__).resolve().parents[2]
BATCHES = ({"scans": 5}, {"scans": 5, "new_scanner": 0.4})


@dataclass(frozen=True)
class Lived:
    """A finished year: its study and what it returned."""

    study: Study
    result: dict

    def predicted(self, month):
        return PeriodPredictions.from_dict(
            read_json(self.study.output / "months" / f"{month:02d}" / "predictions.json")
        )

    def audit(self):
        return [(e.kind, e.who, e.version) for e in tracking.audit_of(self.study.output / "gate").entries()]


@pytest.fixture(scope="module")
def lived(whole_way, tmp_path_factory):
    """Two months after the demo's cohort, whose scans are ingested already."""
    folder = tmp_path_factory.mktemp("year")
    for name in ("adni", "bids"):
        shutil.copytree(whole_way.folder / name, folder / name, copy_function=os.link)
    shutil.copy(whole_way.folder / "bids.key", folder / "bids.key")
    places = (f"output={folder}", f"cohort.path={folder / 'bids'}", f"ingest.source={folder / 'adni'}")
    phantom = whole_way.study.phantom.model_dump() | {"batches": BATCHES}
    given = (f"phantom={phantom | {'batches': list(BATCHES)}}", f"seed={whole_way.study.seed}")
    few = (
        "cohort.min_subjects_per_class=4",
        "training.epochs=2",
        "evaluation.draws=100",
    )
    study = load_study(shipped_study("year"), (*places, *given, *few))
    return Lived(study, run_year(study))


def test_a_month_without_a_test_has_no_answer_of_the_shift_check():
    nothing = {"answer": "nothing", "reasons": ["No scan is new."]}
    assert year._answer_of(None) == year._answer_of({**nothing, "tested": False}) == ""
    assert year._answer_of({**nothing, "tested": True}) == "nothing"
    assert year._answer_of(nothing) == "nothing", "as written before it was known"
    assert year._answer_of({"answer": "retrain", "tested": False}) == "retrain"


def test_each_month_is_judged_by_all_before_anyone_learned_from_it(lived):
    first, second = lived.predicted(1), lived.predicted(2)
    assert len(first) == len(second) == 5
    start = set(lived.predicted(0).scan_ids)
    assert not start & {*first.scan_ids, *second.scan_ids}
    assert not set(first.scan_ids) & set(second.scan_ids)
    # All start from one classifier.
    for policy in POLICIES:
        np.testing.assert_array_equal(
            first.by_policy[policy].probabilities, first.by_policy["never"].probabilities
        )
    assert (second.by_policy["never"].version, second.by_policy["always"].version) == (1, 2)


def test_the_page_and_the_table_tell_every_month(lived):
    year = lived.result["year"]
    assert [m["month"] for m in year["months"]] == [1, 2]
    assert "a new scanner" in year["months"][1]["events"]
    assert len(year["sentences"]) == 2
    assert Path(lived.result["pages"]["html"]).is_file()
    lines = Path(lived.result["pages"]["tsv"]).read_text().splitlines()
    assert len(lines) == 1 + 2 * len(POLICIES)


def test_killed_after_retraining_it_goes_on_without_deciding_again(lived):
    audit, predicted = lived.audit(), lived.predicted(2).to_dict()
    folder = lived.study.output / "months" / "02"
    decided = (folder / "decided.json").read_bytes()
    for name in ("decided.json", "done.json"):
        (folder / name).unlink()
    again = run_year(lived.study)
    assert lived.audit() == audit
    assert lived.predicted(2).to_dict() == predicted
    assert (folder / "decided.json").read_bytes() == decided
    assert again["year"] == lived.result["year"]


def test_decisions_and_expectations_are_compared_with_the_truth(lived):
    folder = lived.study.output
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    script = ROOT / "tests" / "benchmarks" / "year_truth.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = [sys.executable, str(script), str(folder)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    judged = {
        entry.version
        for entry in tracking.audit_of(folder / "gate").entries()
        if entry.version != 1 and entry.kind in ("promote", "reject", "wait")
    }
    counts = re.findall(r"^\| (?:better|about equal|worse) \| (\d+) \|", done.stdout, flags=re.MULTILINE)
    assert sum(map(int, counts)) == len(judged) > 0
    # Ten subjects are too few to expect anything of.
    assert len(re.findall(r"withheld: there are \d+ subjects", done.stdout)) == 2 * len(BATCHES)


def test_the_files_of_an_older_version_are_read(tmp_path):
    study = Study(name="x", output=tmp_path, cohort={"path": tmp_path / "bids"})
    assert year._predictions_file(study, 1).name == "predictions.json"
    month = tmp_path / "months" / "01"
    write_json(month / "said.json", {})
    write_json(month / "decided.json", {"gate": {"action": "nothing", "outcome": "kept"}})
    assert year._predictions_file(study, 1) == month / "said.json"
    assert year._decided(study, 1) == {"action": "nothing", "outcome": "unchanged"}


def test_another_year_needs_another_folder(lived):
    other = lived.study.model_copy(update={"seed": lived.study.seed + 1})
    with pytest.raises(InputError, match="holds a simulated year with other settings"):
        run_year(other)
    without = lived.study.phantom.model_copy(update={"batches": ()})
    with pytest.raises(ConfigError, match=r"phantom\.batches: a year needs a batch for each month"):
        run_year(lived.study.model_copy(update={"phantom": without}))


def test_what_changes_is_told_once_and_what_ends_too():
    sound, new = BatchSettings(), BatchSettings(new_scanner=0.5)
    doubled = BatchSettings(new_scanner=0.5, prevalence=(0.5, 0.3, 0.2))
    broken = doubled.model_copy(update={"broken": 0.25})
    told = [
        what_came(before, now, ("CN", "MCI", "AD"))
        for before, now in ((sound, sound), (sound, new), (new, new), (new, doubled), (doubled, broken))
    ]
    assert told == [
        "",
        "a new scanner for 50 % of scans",
        "",
        "prevalence becomes CN 50 %, MCI 30 %, AD 20 %",
        "a broken reconstruction for 25 % of scans",
    ]
    assert what_came(broken, doubled, ("CN", "MCI", "AD")) == "a broken reconstruction no more"
