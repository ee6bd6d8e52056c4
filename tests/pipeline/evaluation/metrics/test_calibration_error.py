"""Binned calibration errors against naive loops, and their bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from judged_scans import judged, simulated

from pipeline.errors import InputError
from pipeline.evaluation import metrics


def two_class(confidence):
    """Rows whose predicted class is 0, with the given probability."""
    confidence = np.asarray(confidence, dtype=float)
    return np.stack([confidence, 1 - confidence], axis=1)


def naive_gaps(stated, came_true, bins):
    """The textbook loop over bins (lo, hi], with 0 in the first."""
    for b in range(bins):
        low, high = np.linspace(0, 1, bins + 1)[b : b + 2]
        inside = (stated > low) & (stated <= high) | ((b == 0) & (stated == 0))
        if inside.any():
            yield inside.mean(), stated[inside].mean(), came_true[inside].mean()


@settings(deadline=None)
@given(judged())
def test_binned_errors_equal_naive_loops(case):
    p, y = case
    confidence, correct = p.max(axis=1), (p.argmax(axis=1) == y) * 1.0
    gaps = list(naive_gaps(confidence, correct, 15))
    assert metrics.expected_calibration_error(p, y) == pytest.approx(sum(w * abs(c - a) for w, c, a in gaps))
    assert metrics.maximum_calibration_error(p, y) == pytest.approx(max(abs(c - a) for _, c, a in gaps))
    assert metrics.overconfidence_error(p, y) == pytest.approx(sum(w * c * max(c - a, 0) for w, c, a in gaps))
    by_class = [sum(w * abs(c - a) for w, c, a in naive_gaps(p[:, k], (y == k) * 1.0, 15)) for k in range(3)]
    assert metrics.classwise_ece(p, y) == pytest.approx(np.mean(by_class))


@pytest.mark.parametrize("n", [300, 308])
def test_equal_mass_bins_hold_equal_counts(n):
    p, y, _ = simulated(n=n, k=2)
    confidence, correct = p.max(axis=1), (p.argmax(axis=1) == y) * 1.0
    runs = np.array_split(np.argsort(confidence), 15)
    expected = sum(len(r) / n * abs(confidence[r].mean() - correct[r].mean()) for r in runs)
    assert metrics.expected_calibration_error(p, y, scheme="mass") == pytest.approx(expected)
    assert metrics.reliability_curve(p, y, scheme="mass").counts.tolist() == [len(r) for r in runs]


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float64, st.integers(1, 60), elements=st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 0.9, 1.0])
    ),
    st.integers(1, 30),
)
def test_equal_mass_keeps_ties_together_and_loses_nothing(values, bins):
    edges = metrics.bin_edges(values, bins, "mass")
    index = metrics.bin_index(values, edges)
    assert np.all(np.diff(edges) >= 0)
    assert edges[0] == 0
    assert edges[-1] == 1
    assert index.min() >= 0
    assert index.max() < bins
    assert all(len(set(index[values == v])) == 1 for v in values)
    assert np.all(np.diff(index[np.argsort(values, kind="stable")]) >= 0)


@pytest.mark.parametrize("bins", [10, 15, 20])
def test_edges_belong_to_the_bin_below(bins):
    edges = metrics.bin_edges(np.empty(0), bins, "width")
    index = metrics.bin_index(edges, edges)
    assert index.tolist() == [0, *range(bins)]  # 0 in the first, 1 in the last


def test_classwise_error_counts_absent_classes():
    p = np.array([[0.6, 0.1, 0.3]] * 10)
    y = np.array([0] * 6 + [1] * 4)
    assert metrics.classwise_ece(p, y) == pytest.approx((0 + 0.3 + 0.3) / 3)


@pytest.mark.parametrize("confidence", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_all_confidences_equal(confidence, scheme):
    p, y = two_class([confidence] * 8), np.array([0, 0, 0, 0, 0, 1, 1, 1])
    gap = abs(confidence - 5 / 8)
    assert metrics.expected_calibration_error(p, y, scheme=scheme) == pytest.approx(gap)
    assert metrics.maximum_calibration_error(p, y, scheme=scheme) == pytest.approx(gap)
    assert metrics.ks_calibration_error(p, y) == pytest.approx(gap)
    assert metrics.risk_coverage_area(p, y) == pytest.approx(3 / 8)
    assert metrics.macro_auroc(p, y) == 0.5


@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_fewer_scans_than_bins(scheme):
    p, y = two_class([0.62, 0.81, 0.97]), np.array([0, 1, 0])
    expected = (0.38 + 0.81 + 0.03) / 3
    assert metrics.expected_calibration_error(p, y, bins=50, scheme=scheme) == pytest.approx(expected)


def test_unknown_bins_are_refused():
    p, y, _ = simulated(n=5)
    with pytest.raises(InputError, match="number of bins is 0, expected at least 1"):
        metrics.expected_calibration_error(p, y, bins=0)
    with pytest.raises(InputError, match="no binning scheme 'equal'"):
        metrics.expected_calibration_error(p, y, scheme="equal")
