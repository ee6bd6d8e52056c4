"""The operating point keeps its promise on the scans it was chosen on; counts of likeness are counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from pipeline.errors import InputError
from pipeline.evaluation.classifier.decision import (
    choose_operating_point,
    coverage_by_class,
    describe_operating_point,
    likeness_counts,
    set_sizes,
)


def two_class(confidence):
    confidence = np.asarray(confidence, dtype=float)
    return np.stack([confidence, 1 - confidence], axis=1)


confidences = hnp.arrays(np.float64, st.integers(1, 40), elements=st.integers(51, 99).map(lambda n: n / 100))


@settings(deadline=None)
@given(confidences, st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_smallest_confidence_within_the_risk(confidence, max_risk, random):
    y = np.array([random.random() < 0.4 for _ in confidence], dtype=int)
    found = choose_operating_point(two_class(confidence), y, max_risk)
    fine = [t for t in confidence if y[confidence >= t].mean() <= max_risk + 1e-12]
    assert found == (min(fine) if fine else 1.0)
    point = describe_operating_point(two_class(confidence), y, found)
    assert point.answered == (confidence >= found).sum()
    assert not fine or point.risk <= max_risk + 1e-12


@settings(deadline=None)
@given(confidences, st.randoms(use_true_random=False))
def test_a_larger_tolerated_risk_answers_no_fewer(confidence, random):
    y = np.array([random.random() < 0.4 for _ in confidence], dtype=int)
    points = [choose_operating_point(two_class(confidence), y, r) for r in (0.05, 0.2, 0.5, 0.9)]
    assert points == sorted(points, reverse=True)


def test_certainty_asks_for_enough_scans():
    """The bound of no error in n scans at 95 % is 1 - .05^(1/n): .206 for 13, .193 for 14."""
    right = np.zeros(13, dtype=int)
    assert choose_operating_point(two_class([0.9] * 13), right, 0.2) == 0.9
    assert choose_operating_point(two_class([0.9] * 13), right, 0.2, certainty=0.95) == 1.0
    assert choose_operating_point(two_class([0.9] * 14), np.zeros(14, dtype=int), 0.2, certainty=0.95) == 0.9


def test_all_wrong_refers_everything():
    p, y = two_class([0.9, 0.99]), np.array([1, 1])
    assert choose_operating_point(p, y, 0.5) == 1.0
    point = describe_operating_point(p, y, 1.0)
    assert (point.answered, point.coverage, point.low, point.high) == (0, 0, 0, 1)
    assert np.isnan(point.risk)


def test_interval_of_the_risk_is_scipys():
    confidence = np.linspace(0.6, 0.95, 40)
    y = (np.arange(40) % 5 == 0).astype(int)
    point = describe_operating_point(two_class(confidence), y, 0.6)
    exact = stats.binomtest(point.wrong, point.answered).proportion_ci(0.95)
    assert (point.low, point.high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize(("max_risk", "certainty"), [(0, None), (1, None), (1.5, None), (0.2, 0), (0.2, 1)])
def test_shares_outside_zero_to_one_are_refused(max_risk, certainty):
    with pytest.raises(InputError, match="expected above 0 and below 1"):
        choose_operating_point(two_class([0.9]), np.array([0]), max_risk, certainty=certainty)


@settings(deadline=None)
@given(confidences, st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.3, 1.0]))
def test_every_scan_is_counted_in_the_bin_of_its_own_confidence(confidence, width):
    y = (np.arange(len(confidence)) % 3 == 0).astype(int)
    bins = {likeness_counts(two_class(confidence), y, c, width) for c in confidence}
    assert sum(b.scans for b in bins) == len(confidence)
    assert sum(b.right for b in bins) == (y == 0).sum()
    for c in confidence:
        own = likeness_counts(two_class(confidence), y, c, width)
        assert own.low < c <= own.high
        assert own.high - own.low <= width + 1e-9


def test_counts_at_the_edges():
    p, y = two_class([0.8, 0.85, 0.9, 0.91, 1.0]), np.array([0, 0, 1, 0, 0])
    assert str(likeness_counts(p, y, 0.9)) == "of 2 held-out scans rated 80% to 90%, 1 was right"
    assert str(likeness_counts(p, y, 0.8)) == "of 1 held-out scans rated 70% to 80%, 1 was right"
    assert likeness_counts(p, y, 1.0).scans == 2
    assert likeness_counts(p, y, 0.0).scans == 0
    with pytest.raises(InputError, match="The confidence is 90, expected 0 to 1"):
        likeness_counts(p, y, 90)
    with pytest.raises(InputError, match="width of the bins"):
        likeness_counts(p, y, 0.9, width=0)


def test_coverage_is_counted_class_by_class(rng):
    sets, y = rng.random((200, 3)) < 0.7, rng.integers(0, 2, 200)
    first, _, absent = coverage_by_class(sets, y, ("CN", "MCI", "AD"))
    assert (first.scans, first.covered) == ((y == 0).sum(), sets[y == 0, 0].sum())
    assert first.mean_size == pytest.approx(sets[y == 0].sum() / (y == 0).sum())
    wilson = stats.binomtest(first.covered, first.scans).proportion_ci(0.95, method="wilson")
    assert (first.low, first.high) == pytest.approx((wilson.low, wilson.high))
    assert (absent.scans, absent.low, absent.high) == (0, 0, 1)
    with pytest.raises(InputError, match=r"The sets have shape \(200, 3\), expected \(200, 2\)"):
        coverage_by_class(sets, y, ("CN", "MCI"))
    with pytest.raises(InputError, match=r"Labels range from 0 to 3, expected 0 to 2"):
        coverage_by_class(np.ones((2, 3), dtype=bool), [0, 3], ("CN", "MCI", "AD"))


def test_sizes_of_sets_and_how_many_are_too_large(rng):
    sets = rng.random((200, 4)) < 0.5
    found = set_sizes(sets, largest_set=2)
    assert found.scans == 200
    assert found.mean_size == pytest.approx(sets.sum() / 200)
    assert found.referred == np.mean([row.sum() > 2 for row in sets])
    assert set_sizes(sets, largest_set=4).referred == 0
    none = set_sizes(np.empty((0, 3)), largest_set=2)
    assert none.scans == 0
    assert np.isnan([none.mean_size, none.referred]).all()
