"""The mixture: weights on the simplex, likelihood not below one temperature's, class order unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrators import build_calibrator, softmax


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_weights_lie_on_the_simplex_and_the_class_order_stays(drawn, scale):
    logits, labels = drawn(400, 4, scale)
    calibrator = build_calibrator("ensemble_temperature").fit(logits, labels)
    assert calibrator.weights.min() >= 0
    assert calibrator.weights.sum() == pytest.approx(1)
    mixed = calibrator.transform(logits)
    np.testing.assert_array_equal(mixed.argmax(axis=1), logits.argmax(axis=1))


@pytest.mark.parametrize("seed", range(10))
def test_likelihood_is_never_below_that_of_one_temperature(drawn, nll, seed):
    logits, labels = drawn(80, 3, 3.0, seed)
    mixed = build_calibrator("ensemble_temperature").fit(logits, labels).transform(logits)
    tempered = build_calibrator("temperature", prior=None).fit(logits, labels).transform(logits)
    assert nll(mixed, labels) <= nll(tempered, labels) + 1e-12


def test_labels_that_are_partly_random_get_a_uniform_part(drawn, rng, nll):
    logits, labels = drawn(4000, 3, 3.0)
    labels = np.where(rng.random(4000) < 0.3, rng.integers(0, 3, 4000), labels)
    calibrator = build_calibrator("ensemble_temperature").fit(logits, labels)
    # Optimality on the simplex: the mean likelihood ratio is 1 for each part in use and at most 1 otherwise.
    rows = np.arange(4000)
    parts = [softmax(logits / calibrator.temperature), softmax(logits), np.full((4000, 3), 1 / 3)]
    mixed = calibrator.transform(logits)[rows, labels]
    ratios = np.array([(part[rows, labels] / mixed).mean() for part in parts])
    assert calibrator.weights[2] > 0.02
    np.testing.assert_allclose(ratios[calibrator.weights > 1e-6], 1, atol=1e-3)
    assert ratios.max() < 1 + 1e-3
