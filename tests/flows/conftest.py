"""One small cohort taken the whole way, shared by the tests of this folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.demo import run_demo
from flows.running.console import chosen
from pipeline.config import Study, load_study, shipped_study

SMALL = (
    "phantom.subjects=48",
    "phantom.scans=56",
    "phantom.spoiled=0.06",
    "cohort.min_subjects_per_class=4",
    "training.epochs=3",
    "evaluation.draws=200",
)


@dataclass(frozen=True)
class WholeWay:
    """A finished demo: its study, its folder and what it returned."""

    study: Study
    folder: Path
    result: dict


@pytest.fixture(autouse=True)
def _console_as_usual() -> None:
    """Let no test inherit --quiet or --json of a command or a worker that ran in this process before."""
    chosen.quiet = chosen.verbose = chosen.json = False


@pytest.fixture(scope="session")
def whole_way(tmp_path_factory) -> WholeWay:
    """Run the demo small: about two minutes on one core, once a session."""
    folder = tmp_path_factory.mktemp("whole") / "demo"
    places = (f"output={folder}", f"cohort.path={folder / 'bids'}", f"ingest.source={folder / 'adni'}")
    study = load_study(shipped_study("demo"), (*places, *SMALL))
    return WholeWay(study, folder, run_demo(study))
