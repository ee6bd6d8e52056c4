from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibrators import softmax
from pipeline.config import CalibrationSettings, Study
from pipeline.errors import CohortError
from pipeline.learning.cross_fitting import assign_folds, combine, scheme_of
from pipeline.learning.predictions import Predictions
from pipeline.learning.split import development
from pipeline.scan import Split


def whole(classes: dict[str, int], visits: int = 1) -> tuple[Split, dict[str, str]]:
    """Return development scans with so many subjects of each class, and their classes."""
    label_of, subject_of = {}, {}
    for name, subjects in classes.items():
        for n in range(subjects):
            for visit in range(visits):
                scan = f"sub-{name}{n:03d}_ses-M{visit}"
                label_of[scan], subject_of[scan] = name, f"sub-{name}{n:03d}"
    return Split(tuple(label_of), (), (), (), subject_of), label_of


@settings(max_examples=40)
@given(st.integers(4, 40), st.integers(4, 40), st.integers(2, 7), st.integers(1, 3), st.integers(1, 3))
def test_every_scan_is_held_out_once_in_a_repeat_by_networks_that_never_saw_its_subject(
    a, b, folds, repeats, visits
):
    split, label_of = whole({"CN": a, "AD": b}, visits)
    assigned = assign_folds(split, label_of, CalibrationSettings(folds=folds, repeats=repeats), 0.1, seed=3)
    for repeat in range(repeats):
        held_out = [i for n in assigned if n.repeat == repeat for i in n.split.calibration]
        assert Counter(held_out) == Counter(split.train)
    for network in assigned:
        own = network.split
        assert set(own.train) | set(own.validation) | set(own.calibration) == set(split.train)
        seen = {own.subject_of[i] for i in own.train + own.validation}
        assert seen.isdisjoint({own.subject_of[i] for i in own.calibration})
        # Every class is learned from and validated.
        for part in (own.train, own.validation):
            assert {label_of[i] for i in part} == {"CN", "AD"}
    assert len({network.seed for network in assigned}) == len(assigned)


def test_folds_are_balanced_by_class_and_differ_between_repeats():
    split, label_of = whole({"CN": 52, "MCI": 31, "AD": 11})
    assigned = assign_folds(split, label_of, CalibrationSettings(folds=5, repeats=2), 0.1, seed=0)
    for name in ("CN", "MCI", "AD"):
        counts = [sum(label_of[i] == name for i in n.split.calibration) for n in assigned]
        assert max(counts) - min(counts) <= 1
    first, second = ({n.split.calibration for n in assigned if n.repeat == r} for r in (0, 1))
    assert not first & second


def test_folds_do_not_depend_on_the_order_of_the_scans():
    split, label_of = whole({"CN": 20, "AD": 9})
    turned = Split(split.train[::-1], (), (), (), split.subject_of)
    one, two = (assign_folds(s, label_of, CalibrationSettings(), 0.1, seed=0) for s in (split, turned))
    for a, b in zip(one, two, strict=True):
        assert (set(a.split.calibration), a.seed) == (set(b.split.calibration), b.seed)
        assert set(a.split.validation) == set(b.split.validation)


def test_a_class_with_fewer_subjects_than_folds_is_missing_from_some_folds_only():
    split, label_of = whole({"CN": 20, "AD": 3})
    assigned = assign_folds(split, label_of, CalibrationSettings(folds=5), 0.1, seed=0)
    held_out = [sum(label_of[i] == "AD" for i in n.split.calibration) for n in assigned]
    assert sorted(held_out) == [0, 0, 1, 1, 1]


def test_a_class_of_two_subjects_is_refused_by_name():
    split, label_of = whole({"CN": 20, "AD": 2})
    with pytest.raises(CohortError, match="class AD: AD has 2 subjects outside the test part"):
        assign_folds(split, label_of, CalibrationSettings(), 0.1, seed=0)


def test_a_class_that_has_only_odd_scans_of_other_subjects_is_refused_by_name():
    """Its scans may all be in one fold, whose network would then learn without the class."""
    split, label_of = whole({"CN": 8, "MCI": 8}, visits=3)
    label_of |= dict.fromkeys(("sub-CN000_ses-M1", "sub-MCI003_ses-M2"), "AD")
    with pytest.raises(CohortError, match="class AD: AD has 0 subjects outside the test part"):
        assign_folds(split, label_of, CalibrationSettings(), 0.1, seed=0)


def test_every_network_learns_every_class_where_subjects_have_scans_of_several():
    split, label_of = whole({"CN": 9, "MCI": 6, "AD": 4}, visits=3)
    label_of |= {i: "MCI" for i in label_of if i.endswith("M0") and "-AD" in i}
    for seed in range(20):
        for network in assign_folds(split, label_of, CalibrationSettings(folds=7), 0.3, seed=seed):
            assert {label_of[i] for i in network.split.train} == {"CN", "MCI", "AD"}


def predictions(ids, logits, names=("CN", "AD")):
    return Predictions(
        tuple(ids),
        tuple(ids),
        np.array(logits, dtype=float),
        np.zeros(len(ids), dtype=int),
        np.zeros((len(ids), 4)),
        names,
    )


def test_combining_averages_the_log_probabilities_of_the_repeats():
    parts = [
        predictions("ab", [[0, 1], [3, 3]]),
        predictions("c", [[2, 0]]),
        predictions("ca", [[12, 14], [7, 9]]),  # a constant added to a scan's logits means nothing
        predictions("b", [[0, 4]]),
    ]
    found = combine(parts, "abc")
    assert found.scan_ids == ("a", "b", "c")
    expected = softmax(np.array([[0, 1.5], [0, 2.0], [0, 0]]))
    np.testing.assert_allclose(softmax(found.logits), expected)


def test_development_scans_are_all_but_the_test_part():
    split = Split(("a",), ("b",), ("c",), ("d",), {i: i for i in "abcd"})
    assert (development(split).train, development(split).test) == (("a", "b", "c"), ("d",))


@pytest.mark.parametrize(
    ("scheme", "scans", "expected"), [("split", 50, "split"), ("cross_fit", 5000, "cross_fit")]
)
def test_a_stated_scheme_is_used_whatever_the_size(scheme, scans, expected):
    study = Study(name="x", output="out", cohort={"path": "bids"}, calibration={"scheme": scheme})
    assert scheme_of(study, scans) == expected


def test_an_ensemble_on_one_split_is_not_cross_fitted_unasked():
    study = Study(name="x", output="out", cohort={"path": "bids"}, ensemble=3)
    assert scheme_of(study, 200) == "split"


def test_each_network_has_its_own_random_numbers():
    split, label_of = whole({"CN": 12, "AD": 9})
    for seed in (0, 1):
        assigned = assign_folds(split, label_of, CalibrationSettings(repeats=2), 0.1, seed=seed)
        assert all(a.seed != b.seed for a, b in pairwise(assigned))
