"""No subject in two parts, every class in every part, and the same answer every time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import SplitSettings
from pipeline.errors import CohortError, LeakageError
from pipeline.learning.split import development, extend_split, split_subjects, subject_classes
from pipeline.scan import PARTS, Cohort, Scan, Split

NAMES = ("CN", "MCI", "AD")


def cohort(diagnoses_of: dict[str, list[str | None]]) -> Cohort:
    scans = tuple(
        Scan(subject, f"M{12 * visit:02d}", Path("none.nii.gz"), diagnosis=diagnosis)
        for subject, visits in diagnoses_of.items()
        for visit, diagnosis in enumerate(visits)
    )
    return Cohort(scans, NAMES)


@st.composite
def cohorts(draw) -> Cohort:
    sizes = draw(st.tuples(*[st.integers(8, 60)] * 3))
    visits = draw(st.lists(st.integers(1, 4), min_size=sum(sizes), max_size=sum(sizes)))
    diagnoses = np.repeat(NAMES, sizes).tolist()
    return cohort({f"{n:04d}": [d] * v for n, (d, v) in enumerate(zip(diagnoses, visits, strict=True))})


shares = st.builds(
    SplitSettings,
    validation=st.floats(0.05, 0.25),
    calibration=st.floats(0.05, 0.3),
    test=st.floats(0.05, 0.3),
)


@given(cohort=cohorts(), settings=shares, seed=st.integers(0, 2**32))
def test_parts_are_disjoint_by_subject_and_hold_every_scan_and_class(cohort, settings, seed):
    split = split_subjects(cohort, settings, seed=seed)
    parts = [split.part(name) for name in PARTS]
    assert sorted(i for part in parts for i in part) == sorted(cohort.scan_ids)
    subjects = [{split.subject_of[i] for i in part} for part in parts]
    assert sum(map(len, subjects)) == len(set(cohort.subjects))
    for part in parts:
        assert set(cohort.subset(part).labels.tolist()) == {0, 1, 2}


@given(cohort=cohorts(), seed=st.integers(0, 2**32), data=st.data())
def test_the_order_of_scans_does_not_matter(cohort, seed, data):
    shuffled = Cohort(tuple(data.draw(st.permutations(cohort.scans))), NAMES)
    first = split_subjects(cohort, SplitSettings(), seed=seed)
    assert split_subjects(shuffled, SplitSettings(), seed=seed).digest() == first.digest()


def test_shares_of_subjects_are_kept_in_every_class():
    diagnoses = ["CN"] * 100 + ["MCI"] * 60 + ["AD"] * 20
    whole = cohort({f"{n:03d}": [d] for n, d in enumerate(diagnoses)})
    split = split_subjects(whole, SplitSettings(validation=0.1, calibration=0.2, test=0.25), seed=4)
    counts = {part: np.bincount(whole.subset(split.part(part)).labels).tolist() for part in PARTS}
    assert counts == {
        "train": [45, 27, 9],
        "validation": [10, 6, 2],
        "calibration": [20, 12, 4],
        "test": [25, 15, 5],
    }


def test_another_seed_gives_another_split():
    whole = cohort({f"{n:03d}": [NAMES[n % 3]] for n in range(90)})
    digests = {split_subjects(whole, SplitSettings(), seed=seed).digest() for seed in range(5)}
    assert len(digests) == 5


def test_a_cohort_that_grows_moves_few_subjects():
    small = cohort({f"{n:04d}": [NAMES[n % 3]] for n in range(600)})
    grown = cohort({f"{n:04d}": [NAMES[n % 3]] for n in range(660)})
    before, after = (split_subjects(c, SplitSettings(), seed=1) for c in (small, grown))
    moved = sum(len(set(before.part(p)) - set(after.part(p))) for p in PARTS)
    assert moved < 60  # a shuffle would move two thirds of the 600


def test_a_subject_that_converts_is_what_most_of_its_scans_say():
    classes = subject_classes(
        ["a", "a", "a", "b", "b"],
        ["CN", "CN", "MCI", "CN", "MCI"],
        ["sub-a_ses-M00", "sub-a_ses-M12", "sub-a_ses-M24", "sub-b_ses-M00", "sub-b_ses-M12"],
    )
    assert classes == {"a": "CN", "b": "MCI"}


def test_visits_of_a_subject_stay_together_though_its_class_changes():
    subjects = {f"{n:03d}": [NAMES[n % 3], NAMES[n % 3], NAMES[min(2, n % 3 + 1)]] for n in range(60)}
    split = split_subjects(cohort(subjects), SplitSettings(), seed=0)
    for part in PARTS:
        assert set(Counter(split.subject_of[i] for i in split.part(part)).values()) == {3}


def test_an_empty_cohort_is_refused():
    with pytest.raises(CohortError, match=r"The cohort has no scans.*taucal ingest"):
        split_subjects(Cohort((), NAMES), SplitSettings(), seed=0)


def test_one_class_only_is_refused():
    whole = cohort({f"{n}": ["CN"] for n in range(30)})
    with pytest.raises(
        CohortError, match=r"The only class is CN \(30 subjects\)\. .*Add subjects of MCI, AD"
    ):
        split_subjects(whole, SplitSettings(), seed=0)


def test_a_class_with_two_subjects_is_refused_by_name_with_what_is_needed():
    whole = cohort({f"{n:02d}": [("CN", "MCI")[n % 2]] for n in range(30)} | {"x": ["AD"] * 9, "y": ["AD"]})
    with pytest.raises(
        CohortError, match=r"class AD: AD has 2 subjects\. .*at least 8 of each class\. Add subjects"
    ):
        split_subjects(whole, SplitSettings(), seed=0)


def test_one_subject_is_one():
    whole = cohort({f"{n:02d}": [("CN", "MCI")[n % 2]] for n in range(30)} | {"x": ["AD"]})
    with pytest.raises(CohortError, match=r"class AD: AD has 1 subject\. train"):
        split_subjects(whole, SplitSettings(), seed=0)


def test_a_class_without_any_subject_is_refused():
    whole = cohort({f"{n:02d}": [("CN", "MCI")[n % 2]] for n in range(30)})
    with pytest.raises(CohortError, match="class AD: AD has 0 subjects"):
        split_subjects(whole, SplitSettings(), seed=0)


def test_a_scan_without_a_diagnosis_is_refused_by_name():
    whole = cohort({f"{n:02d}": [NAMES[n % 3]] for n in range(30)} | {"zz": [None]})
    with pytest.raises(
        CohortError, match=r"sub-zz_ses-M00: Training needs a diagnosis of every scan; 1 of 31 have none"
    ):
        split_subjects(whole, SplitSettings(), seed=0)


def test_a_split_that_shares_a_subject_cannot_be_made():
    with pytest.raises(LeakageError, match=r"07: Subjects in both train and test: 1\. Split by subject"):
        Split(("a",), (), (), ("b",), {"a": "07", "b": "07"})


def many(count: int, start: int = 0) -> Cohort:
    return cohort({f"{n:04d}": [NAMES[n % 3]] for n in range(start, start + count)})


def test_an_extended_split_leaves_everybody_where_they_were():
    settings = SplitSettings()
    old = split_subjects(many(90), settings, seed=3)
    grown = extend_split(old, many(400), settings, seed=3)
    for part in PARTS:
        assert set(old.part(part)) <= set(grown.part(part))
    assert sum(len(grown.part(part)) for part in PARTS) == 400


def test_new_subjects_go_where_their_name_says_whatever_comes_with_them():
    settings = SplitSettings()
    old = split_subjects(many(90), settings, seed=3)
    some, more = (extend_split(old, many(n), settings, seed=3) for n in (120, 400))
    for part in PARTS:
        assert set(some.part(part)) <= set(more.part(part))


def test_new_subjects_are_shared_out_as_asked():
    settings = SplitSettings(validation=0.1, calibration=0.2, test=0.3)
    empty = Split((), (), (), (), {})
    split = extend_split(empty, many(4000), settings, seed=0)
    shares = [len(split.part(part)) / 4000 for part in PARTS]
    np.testing.assert_allclose(shares, [0.4, 0.1, 0.2, 0.3], atol=0.03)
    without = extend_split(empty, many(4000), settings, seed=0, train=False)
    assert not without.train
    assert not without.validation
    assert len(without.test) / 4000 == pytest.approx(0.6, abs=0.03)


def test_a_new_visit_follows_its_subject():
    old = split_subjects(many(90), SplitSettings(), seed=3)
    again = cohort({f"{n:04d}": [NAMES[n % 3]] * 2 for n in range(90)})
    split = extend_split(old, again, SplitSettings(), seed=4)
    for part in PARTS:
        assert {split.subject_of[i] for i in split.part(part)} == {old.subject_of[i] for i in old.part(part)}


def test_scans_that_are_gone_are_left_out():
    old = split_subjects(many(90), SplitSettings(), seed=3)
    split = extend_split(old, many(60, start=30), SplitSettings(), seed=3)
    assert sum(len(split.part(part)) for part in PARTS) == 60


def test_a_split_reads_back_from_what_was_stored():
    split = split_subjects(many(90), SplitSettings(), seed=3)
    assert Split.from_dict(split.to_dict()) == split


def test_only_new_subjects_recalibrate_what_was_cross_fitted():
    old = development(split_subjects(many(90), SplitSettings(), seed=3))
    split = extend_split(old, many(150), SplitSettings(), seed=3, train=False)
    assert set(split.train) == set(old.train)
    assert not split.validation
    assert set(old.test) <= set(split.test)
    new = set(many(60, start=90).scan_ids)
    assert split.calibration
    assert set(split.calibration) <= new


def test_without_new_subjects_what_was_cross_fitted_is_not_recalibrated():
    old = development(split_subjects(many(90), SplitSettings(), seed=3))
    with pytest.raises(CohortError, match="found none of new subjects in the calibration part"):
        extend_split(old, many(90), SplitSettings(), seed=3, train=False)
