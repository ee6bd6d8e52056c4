"""Planned scans of every kind and one small cohort on disk, made once."""

from __future__ import annotations

import pytest

from pipeline.config import PhantomSettings
from pipeline.phantom import SPOILED_RULES, plan_cohort, write_cohort

SMALL = PhantomSettings(subjects=6, scans=8, spoiled=0.375, workers=1)
SEED = 7


@pytest.fixture(scope="session")
def small_settings():
    """Six subjects, eight scans, three of them spoiled."""
    return SMALL


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory):
    """A cohort on disk: folder, its plan and its seed."""
    out = tmp_path_factory.mktemp("phantom") / "cohort"
    write_cohort(SMALL, out, SEED)
    return out, plan_cohort(SMALL, SEED), SEED


@pytest.fixture(scope="session")
def big_plan():
    """A plan of many scans: plans cost nothing."""
    return plan_cohort(PhantomSettings(subjects=900, scans=1200, spoiled=0.05), seed=3)


@pytest.fixture(scope="session")
def one_of_each(big_plan):
    """One planned scan for each vendor, static and dynamic, and for each spoiling rule."""
    chosen = {}
    for scan in big_plan:
        kind = scan.spoiled or (scan.subject.vendor, "dynamic" if len(scan.frames_s) > 1 else "static")
        chosen.setdefault(kind, scan)
    assert len(chosen) == 6 + len(SPOILED_RULES)
    return chosen
