"""Test folds: every subject is tested once, every class in every part."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import SplitSettings
from pipeline.errors import CohortError
from pipeline.learning.folds import split_folds
from pipeline.scan import PARTS, Cohort, Scan


def cohort(*sizes: int, visits: int = 2) -> Cohort:
    names = ("CN", "MCI", "AD")[: len(sizes)]
    scans = [
        Scan(f"{name}{n:03}", f"M{visit}", Path(), diagnosis=name)
        for name, size in zip(names, sizes, strict=True)
        for n in range(size)
        for visit in range(1 + n % visits)
    ]
    return Cohort(tuple(scans), names)


@given(
    sizes=st.lists(st.integers(8, 40), min_size=2, max_size=3),
    folds=st.integers(2, 7),
    seed=st.integers(0, 9),
)
def test_every_subject_is_tested_once_and_every_part_holds_every_class(sizes, folds, seed):
    of = cohort(*sizes)
    splits = split_folds(of, SplitSettings(), folds, seed=seed)
    tested = [{split.subject_of[i] for i in split.test} for split in splits]
    assert sum(map(len, tested)) == len(set().union(*tested)) == sum(sizes)
    assert max(map(len, tested)) - min(map(len, tested)) <= 1
    for split in splits:
        assert sum(len(split.part(part)) for part in PARTS) == len(of)
        for part in PARTS:
            assert {split.subject_of[i][:2] for i in split.part(part)} == {n[:2] for n in of.class_names}


def test_validation_and_calibration_keep_their_proportion_to_training():
    split = split_folds(cohort(100, 100, visits=1), SplitSettings(), 5, seed=0)[0]
    sizes = {part: len(split.part(part)) for part in PARTS}
    # 160 subjects are left: .12 / .75 and .2 / .75 of them.
    assert sizes == {"train": 92, "validation": 26, "calibration": 42, "test": 40}


def test_folds_do_not_calibrate_on_the_same_subjects_and_come_again_the_same():
    first, second = (split_folds(cohort(60, 60), SplitSettings(), 4, seed=3) for _ in range(2))
    assert [s.digest() for s in first] == [s.digest() for s in second]
    shared = set(first[0].calibration) & set(first[1].calibration)
    assert len(shared) < len(first[0].calibration) / 2


def test_a_class_with_too_few_subjects_is_named():
    with pytest.raises(
        CohortError,
        match=r"class MCI: CN has 30 subjects, MCI has 9 subjects. 10 folds need .* at least 10 each",
    ):
        split_folds(cohort(30, 9), SplitSettings(), 10, seed=0)


def test_without_a_calibration_part_the_same_scans_are_tested_and_more_are_learned_from():
    of = cohort(30, 20, 12)
    with_part, without = (
        split_folds(of, SplitSettings(), 5, seed=3, calibration=calibration) for calibration in (True, False)
    )
    for one, other in zip(with_part, without, strict=True):
        assert set(one.test) == set(other.test)
        assert other.calibration == ()
        assert not other.cross_fitted
        assert len(other.train) > len(one.train)
        assert len(other.validation) == len(one.validation)
