"""One temperature: the exact optimum, scikit-learn's value, and what happens where there is no optimum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibrators import build_calibrator, softmax


def fitted(logits, labels):
    return build_calibrator("temperature").fit(logits, labels)


@pytest.mark.parametrize(
    ("n", "k", "scale"), [(40, 2, 1.0), (200, 3, 0.1), (1000, 5, 3.0), (300, 4, 300.0), (80, 3, 0.01)]
)
def test_equals_scikit_learn(drawn, n, k, scale):
    from sklearn.calibration import _TemperatureScaling

    logits, labels = drawn(n, k, scale)
    reference = 1 / _TemperatureScaling().fit(logits, labels).beta_
    assert fitted(logits, labels).temperature == pytest.approx(reference, rel=1e-6)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), k=st.integers(2, 5), scale=st.floats(0.05, 50))
@settings(max_examples=100, deadline=None)
def test_likelihood_on_its_own_scans_is_never_below_that_of_any_other_temperature(
    drawn, nll, seed, n, k, scale
):
    logits, labels = drawn(n, k, scale, seed)
    calibrator = fitted(logits, labels)
    reached = nll(calibrator.transform(logits), labels)
    assert reached <= nll(softmax(logits), labels) + 1e-12
    if not 0.0 < (softmax(logits).argmax(axis=1) == labels).mean() < 1.0:
        return  # every scan right or wrong: no optimum inside the range
    for log_temperature in np.linspace(-4, 6, 41):
        assert reached <= nll(softmax(logits / math.exp(log_temperature)), labels) + 1e-12


def test_the_predicted_class_is_unchanged(drawn):
    logits, labels = drawn(400, 5, scale=7.0)
    calibrated = fitted(logits, labels).transform(logits)
    np.testing.assert_array_equal(calibrated.argmax(axis=1), logits.argmax(axis=1))


def test_scaled_logits_give_scaled_temperature_and_shifts_change_nothing(drawn, rng):
    logits, labels = drawn(300)
    plain = fitted(logits, labels)
    assert fitted(logits * 100, labels).temperature == pytest.approx(plain.temperature * 100, rel=1e-9)
    shifted = logits + rng.normal(size=(len(logits), 1)) * 10
    assert fitted(shifted, labels).temperature == pytest.approx(plain.temperature, rel=1e-9)


def test_finds_the_temperature_that_the_labels_were_drawn_at(drawn):
    assert fitted(*drawn(200_000, 3, scale=2.5)).temperature == pytest.approx(2.5, rel=0.02)


def test_all_right_stops_at_the_confidence_of_laplace():
    # Eight right of eight: confidence 9/10, not certainty.
    calibrator = fitted(np.tile([0.5, 0.0], (8, 1)), np.zeros(8, int))
    assert calibrator.transform([[0.5, 0.0]])[0, 0] == pytest.approx(0.9, abs=1e-9)


def test_all_right_and_surer_than_that_already_is_left_alone():
    assert fitted(np.tile([9.0, 0.0], (8, 1)), np.zeros(8, int)).temperature == 1.0


def test_all_right_but_tied_is_left_alone():
    assert fitted(np.tile([3.0, 3.0, 0.0], (8, 1)), np.zeros(8, int)).temperature == 1.0


def test_all_wrong_becomes_uniform():
    calibrator = fitted(np.tile([4.0, 0.0], (8, 1)), np.ones(8, int))
    np.testing.assert_allclose(calibrator.transform([[4.0, 0.0]]), [[0.5, 0.5]], atol=1e-4)


def test_equal_logits_have_no_temperature():
    assert fitted(np.full((5, 3), -2.0), [0, 1, 2, 0, 1]).temperature == 1.0


def test_extreme_logits(nll):
    logits = np.array([[1000.0, -1000.0]] * 9 + [[-1000.0, 1000.0]])
    calibrator = fitted(logits, np.zeros(10, int))
    # Nine of ten right at a gap of 2,000: log 9 is 2,000 / T.
    assert calibrator.temperature == pytest.approx(2000 / math.log(9), rel=1e-9)
    assert nll(calibrator.transform(logits), np.zeros(10, int)) == pytest.approx(0.325083, abs=1e-6)
