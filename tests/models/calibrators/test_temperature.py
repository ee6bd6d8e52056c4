"""One temperature: the exact optimum, scikit-learn's value, and what happens where there is no optimum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibrators import Calibrator, build_calibrator, softmax


def fitted(logits, labels):
    return build_calibrator("temperature", prior=None).fit(logits, labels)


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


def test_a_prior_is_hardly_felt_by_many_scans_and_holds_few_back(drawn):
    many, few = drawn(5000, 3, 2.5), drawn(10, 3, 2.5)
    learned = build_calibrator("temperature")
    assert learned.fit(*many).temperature == pytest.approx(fitted(*many).temperature, rel=0.01)
    tight = build_calibrator("temperature", prior=(0.0, 0.1)).fit(*few)
    assert abs(math.log(tight.temperature)) < 0.15 < abs(math.log(fitted(*few).temperature))


def test_the_posterior_mean_by_numbers(drawn):
    logits, labels = drawn(30, 3, 2.0)
    calibrator = build_calibrator("temperature", prior=(0.2, 0.5)).fit(logits, labels)
    grid = np.linspace(-2, 3, 2001)
    tempered = np.stack([softmax(logits / math.exp(t)) for t in grid])
    log_posterior = np.log(tempered[:, np.arange(30), labels]).sum(axis=1) - (grid - 0.2) ** 2 / 0.5
    weights = np.exp(log_posterior - log_posterior.max())
    expected = np.einsum("s,snk->nk", weights / weights.sum(), tempered)
    np.testing.assert_allclose(calibrator.transform(logits), expected, atol=0.004)


@pytest.mark.parametrize("options", [{}, {"prior": None}])
def test_draws_have_the_probabilities_as_their_mean(drawn, options):
    logits, labels = drawn(40)
    calibrator = build_calibrator("temperature", **options).fit(logits, labels)
    draws = calibrator.draws(logits)
    assert len(draws) == (1 if options else 100)
    np.testing.assert_allclose(draws.mean(axis=0), calibrator.transform(logits), rtol=1e-12)


def test_bias_corrected_temperature_finds_scale_and_offsets(drawn):
    logits, labels = drawn(20_000, 3, 1.0)
    offset = np.array([1.2, 0.0, -0.4])
    calibrator = build_calibrator("bias_corrected_temperature").fit((logits - offset) * 2, labels)
    assert calibrator.log_temperatures.mean() == pytest.approx(math.log(2), abs=0.04)
    found = calibrator.biases.mean(axis=0)
    np.testing.assert_allclose(found - found.mean(), offset - offset.mean(), atol=0.06)


def test_bias_corrected_temperature_with_few_scans_hardly_shifts(drawn):
    logits, labels = drawn(20, 3, 1.0)
    calibrator = build_calibrator("bias_corrected_temperature").fit(logits, labels)
    assert np.abs(calibrator.biases.mean(axis=0)).max() < 0.5


def test_what_an_older_version_stored_transforms_to_the_same_bytes(drawn):
    logits, _ = drawn(30)
    older = {"name": "temperature", "options": {}, "fitted": {"num_classes": 3, "temperature": 1.7}}
    np.testing.assert_array_equal(Calibrator.from_dict(older).transform(logits), softmax(logits / 1.7))
