"""Shares of the training subjects: nested, of every class, the other parts untouched."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.learning.nested_subsets import share_of_subjects
from pipeline.scan import Split

SHARES = (0.25, 0.5, 0.75, 1.0)


def cohort(subjects: int, seed: int) -> tuple[Split, dict[str, str]]:
    """Subjects of three classes with one to three scans each."""
    rng = np.random.default_rng(seed)
    subject_of, label_of = {}, {}
    for n in range(subjects):
        name = ("CN", "MCI", "AD")[n % 3]
        for visit in range(rng.integers(1, 4)):
            scan = f"sub-{n:03}_ses-M{visit:02}"
            subject_of[scan], label_of[scan] = f"sub-{n:03}", name
    ids = tuple(subject_of)
    tested = tuple(i for i in ids if subject_of[i] < "sub-003")
    return Split(ids[len(tested) :], (), (), tested, subject_of), label_of


@given(st.integers(9, 60), st.integers(0, 20))
def test_a_smaller_share_is_a_part_of_a_larger_one_and_takes_whole_subjects(subjects, seed):
    split, label_of = cohort(subjects, seed)
    parts = [share_of_subjects(split, label_of, share, seed=seed) for share in SHARES]
    assert parts[-1] is split
    for small, large in itertools.pairwise(parts):
        assert set(small.train) <= set(large.train)
    for part in parts:
        assert part.test == split.test
        people = {split.subject_of[i] for i in part.train}
        assert part.train == tuple(i for i in split.train if split.subject_of[i] in people)
        assert {label_of[i] for i in part.train} == {label_of[i] for i in split.train}


def test_every_class_has_its_share_and_another_seed_takes_other_subjects():
    split, label_of = cohort(120, 1)
    half = share_of_subjects(split, label_of, 0.5, seed=0)
    for name in ("CN", "MCI", "AD"):
        before, after = (
            {part.subject_of[i] for i in part.train if label_of[i] == name} for part in (split, half)
        )
        assert len(after) == pytest.approx(len(before) / 2, abs=0.5)
    assert set(share_of_subjects(split, label_of, 0.5, seed=1).train) != set(half.train)
    assert share_of_subjects(split, label_of, 0.5, seed=0) == half
