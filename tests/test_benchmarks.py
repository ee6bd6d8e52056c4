"""The benchmarks can be run as RESULTS.md and their first lines state it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "tests" / "benchmarks").glob("*.py"))
RESULTS = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the project on its path."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    call = [sys.executable, str(script), *arguments]
    return subprocess.run(call, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_its_help_names_every_option_that_the_results_name(script):
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    calls = re.findall(rf"`(?:tests/benchmarks/)?{script.name} ([^`]+)`", RESULTS)
    named = {option for call in calls for option in re.findall(r"--[a-z-]+", call)}
    assert {option for option in named if option not in done.stdout} == set()


@pytest.mark.slow
def test_a_cohort_is_measured_against_its_truth(tmp_path):
    done = run(ROOT / "tests/benchmarks/imaging_truth.py", "--cohort", str(tmp_path), "--scans", "3")
    assert done.returncode == 0, done.stderr
    assert "SUVR" in done.stdout


@pytest.mark.slow
def test_an_ingest_on_dask_is_measured(tmp_path):
    from pipeline.config import PhantomSettings
    from pipeline.phantom import write_cohort

    source = write_cohort(PhantomSettings(subjects=2, scans=2, spoiled=0), tmp_path / "adni", seed=5)
    done = run(ROOT / "tests/benchmarks/ingest_scale.py", str(source), "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert re.findall(r": \d+ s, (\d+) converted, 0 refused", done.stdout) == ["2", "2"]


@pytest.mark.slow
def test_rules_against_a_champions_luck_are_measured():
    few = ("--trials", "3", "--years", "2")
    done = run(ROOT / "tests/benchmarks/gate_luck.py", *few)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    decisions = [cell.split(" / ") for row in rows for cell in row[3:] if row[0] in ("0.00", "0.05")]
    assert len(decisions) == 48
    for shares in decisions:
        assert sum(map(float, shares)) == pytest.approx(100, abs=0.2)
    assert sum(row[1:2] == ["none"] for row in rows) == 6, "one scenario has one row without a rule"
    of_rule = [row for row in rows if row[1:2] == ["margin .05"]]
    assert all("±" in row[-1] and "±" in row[-2] for row in of_rule)


@pytest.mark.slow
def test_sets_and_scans_from_elsewhere_are_measured_on_a_comparison(tmp_path):
    made = run(ROOT / "tests/benchmarks/painted_cohort.py", str(tmp_path / "painted"), "--scans", "100")
    assert made.returncode == 0, made.stderr
    losses = "[{name: ce, label: CE}, {name: focal, label: focal}]"
    small = (f"cohort.path={tmp_path / 'painted'}", f"output={tmp_path / 'out'}", f"compare.losses={losses}")
    few = ("compare.seeds=[0]", "compare.folds=2", "training.epochs=1", "calibration.scheme=split")
    two = ("cohort.classes=[CN, impaired]", "cohort.merge={impaired: [MCI, AD]}")
    chosen = [word for change in (*small, *few, *two) for word in ("--set", change)]
    study = str(ROOT / "configs" / "compare_phantom.yaml")

    early = run(ROOT / "tests/benchmarks/phantom_study.py", study, *chosen)
    assert early.returncode != 0
    assert "cells are not finished" in early.stderr

    compared = run(ROOT / "flows" / "cli.py", "compare", study, *chosen)
    assert compared.returncode == 0, compared.stderr
    done = run(ROOT / "tests/benchmarks/phantom_study.py", study, *chosen)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == ["loss", "CE", "focal", "loss", "CE", "CE"]
    assert all(re.fullmatch(r"[\d.]+% \([012] of 2\)", share) for row in rows[1:3] for share in row[1:3])
