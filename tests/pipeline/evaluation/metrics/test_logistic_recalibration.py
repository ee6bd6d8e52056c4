"""Slope and intercepts: against scikit-learn's logistic fits, and where no fit exists."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from pipeline.evaluation.inference.intervals import bootstrap
from pipeline.evaluation.metrics import calibration_intercepts, calibration_slope
from pipeline.evaluation.metrics.logistic_recalibration import recalibration_over_draws
from pipeline.evaluation.metrics.sample import Sample


def drawn(n, k=3, slope=1.0, intercepts=(0.0, 0.0, 0.0), seed=0):
    """Probabilities, and labels whose true probabilities are softmax(intercepts + slope log p)."""
    rng = np.random.default_rng(seed)
    p = softmax(1.5 * rng.normal(size=(n, k)), axis=1)
    true = softmax(np.asarray(intercepts[:k]) + slope * np.log(p), axis=1)
    return p, (rng.random(n)[:, None] > true.cumsum(axis=1)[:, :-1]).sum(axis=1)


def test_two_classes_are_the_logistic_regression_on_the_log_odds():
    p, y = drawn(200, k=2, slope=0.6, intercepts=(0.5, -0.5))
    log_odds = np.log(p[:, 1] / p[:, 0])[:, None]
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(log_odds, y)
    assert calibration_slope(p, y) == pytest.approx(peer.coef_[0, 0], abs=1e-5)
    intercepts = calibration_intercepts(p, y)
    assert intercepts[1] - intercepts[0] == pytest.approx(peer.intercept_[0], abs=1e-5)
    assert intercepts.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(60, 3), (400, 5)])
def test_several_classes_are_where_a_general_optimiser_ends(n, k):
    p, y = drawn(n, k, slope=0.7, intercepts=(0.4, -0.1, -0.3, 0.0, 0.0))

    def loss(at):
        return -log_softmax(np.append(at[1:], 0.0) + at[0] * np.log(p), axis=1)[np.arange(n), y].sum()

    peer = minimize(loss, np.r_[1.0, np.zeros(k - 1)], method="BFGS", options={"gtol": 1e-8}).x
    assert calibration_slope(p, y) == pytest.approx(peer[0], abs=1e-4)
    theirs = np.append(peer[1:], 0.0)
    assert calibration_intercepts(p, y) == pytest.approx(theirs - theirs.mean(), abs=1e-4)


def test_calibrated_is_one_and_zero_and_known_distortions_are_found():
    p, y = drawn(40_000)
    assert calibration_slope(p, y) == pytest.approx(1, abs=0.03)
    assert calibration_intercepts(p, y) == pytest.approx(np.zeros(3), abs=0.04)
    p, y = drawn(40_000, slope=0.5, intercepts=(-0.6, 0.1, 0.5))
    assert calibration_slope(p, y) == pytest.approx(0.5, abs=0.02)
    assert calibration_intercepts(p, y) == pytest.approx([-0.6, 0.1, 0.5], abs=0.04)


def test_temperature_and_offsets_move_slope_and_intercepts_exactly():
    p, y = drawn(150)
    moved = softmax(2 * np.log(p) + np.array([0.3, 0.0, -0.3]), axis=1)
    slope, before, after = (
        calibration_slope(p, y),
        calibration_intercepts(p, y),
        calibration_intercepts(moved, y),
    )
    assert calibration_slope(moved, y) == pytest.approx(slope / 2)
    assert after == pytest.approx(before - slope / 2 * np.array([0.3, 0.0, -0.3]))


@pytest.mark.parametrize(
    ("p", "y"),
    [
        (np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 0]),  # each class is certain and right
        ([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], [0, 0, 1]),  # separable
        ([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], [1, 1, 0]),  # separable the wrong way
        ([[0.8, 0.2], [0.7, 0.3]], [0, 0]),  # one class
        ([[0.6, 0.3, 0.1]] * 9, [0, 1, 2] * 3),  # all scans look alike
        ([[0.7, 0.2, 0.1]], [1]),  # one scan
    ],
)
def test_without_a_maximum_there_is_no_slope(p, y):
    assert np.isnan(calibration_slope(p, y))
    assert np.isnan(calibration_intercepts(p, y)).all()


def test_a_class_without_scans_has_no_intercept_and_the_others_are_fitted_without_it():
    p, y = drawn(100)
    of_two = y < 2
    p, y = p[of_two], y[of_two]
    conditional = p[:, :2] / p[:, :2].sum(axis=1, keepdims=True)
    assert calibration_slope(p, y) == pytest.approx(calibration_slope(conditional, y), abs=1e-6)
    found = calibration_intercepts(p, y)
    assert np.isnan(found[2])
    assert found[:2] == pytest.approx(calibration_intercepts(conditional, y), abs=1e-6)


def test_probabilities_of_zero_and_one_are_fitted():
    p, y = drawn(300)
    before = calibration_slope(p, y)
    p[:5] = np.eye(3)[[0, 1, 2, 0, 1]]
    y[:5] = [0, 1, 2, 1, 1]  # one certain and wrong
    assert 0 < calibration_slope(p, y) < before - 0.1


@pytest.mark.parametrize("surest", [1e-4, 1e-9, 1e-14, 0.0])
def test_however_overconfident_a_slope_that_exists_is_found(surest):
    """Nine of ten scans of each certain answer are right, so the log-odds of 9 are what it should state."""
    p = [[1 - surest, surest]] * 10 + [[surest, 1 - surest]] * 10
    y = [0] * 9 + [1] + [1] * 9 + [0]
    stated = np.log(max(1 - surest, 2.3e-16)) - np.log(max(surest, np.finfo(float).eps))
    assert calibration_slope(p, y) == pytest.approx(np.log(9) / stated, rel=1e-4)
    assert calibration_intercepts(p, y) == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_logits_of_a_thousand_have_a_slope(k):
    p, y = drawn(60, k, intercepts=(0.0,) * k)
    surer = softmax(200 * np.log(p), axis=1)
    assert 0 < calibration_slope(surer, y) < 0.3
    assert np.isfinite(calibration_intercepts(surer, y)[np.unique(y)]).all()


def test_draws_are_fits_of_their_own_and_chunks_make_no_difference(monkeypatch):
    p, y = drawn(40)
    weights = np.random.default_rng(1).integers(0, 4, size=(12, 40)).astype(float)
    found = recalibration_over_draws(Sample(p, y), weights)
    for row, counts in zip(found, weights.astype(int), strict=True):
        copies = np.repeat(p, counts, axis=0), np.repeat(y, counts)
        assert row[0] == pytest.approx(calibration_slope(*copies), nan_ok=True)
        assert row[1:] == pytest.approx(calibration_intercepts(*copies), nan_ok=True)
    monkeypatch.setattr("pipeline.evaluation.metrics.logistic_recalibration._CELLS_AT_ONCE", 5 * p.size)
    assert recalibration_over_draws(Sample(p, y), weights) == pytest.approx(found)


def test_the_interval_of_the_slope_holds_the_truth_about_as_often_as_stated():
    held = 0
    for seed in range(60):
        p, y = drawn(120, slope=0.7, seed=seed)
        found = bootstrap(p, y, [str(n) for n in range(120)], ["calibration_slope"], draws=300)
        held += found["calibration_slope"].low <= 0.7 <= found["calibration_slope"].high
    assert held >= 53
