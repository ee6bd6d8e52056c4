"""Linear maps: stationary points, nested models, scikit-learn's logistic regression as a witness."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrators import build_calibrator, log_softmax, softmax


def mean_error(probabilities, labels, k):
    return (probabilities - np.eye(k)[labels]) / len(labels)


def test_vector_undoes_a_known_scale_and_bias(drawn):
    logits, labels = drawn(60_000, 3, 1.0)
    scale, bias = np.array([0.5, 1.0, 2.0]), np.array([1.0, 0.0, -1.0])
    calibrated = build_calibrator("vector").fit((logits - bias) / scale, labels)
    truth = softmax(logits)
    assert np.abs(calibrated.transform((logits - bias) / scale) - truth).mean() < 0.01
    np.testing.assert_allclose(calibrated.scale, scale, rtol=0.05)
    np.testing.assert_allclose(calibrated.bias - calibrated.bias[1], bias, atol=0.06)


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_vector_is_stationary_and_no_worse_than_one_temperature(drawn, nll, scale):
    logits, labels = drawn(500, 4, scale)
    calibrator = build_calibrator("vector", ridge=0.0).fit(logits, labels)
    calibrated = calibrator.transform(logits)
    error = mean_error(calibrated, labels, 4)
    np.testing.assert_allclose((error * logits).sum(axis=0) / scale, 0, atol=1e-7)
    np.testing.assert_allclose(error.sum(axis=0), 0, atol=1e-7)
    tempered = build_calibrator("temperature", prior=None).fit(logits, labels).transform(logits)
    assert nll(calibrated, labels) <= nll(tempered, labels) + 1e-9


@pytest.mark.parametrize("scale", [0.3, 3.0, 100.0])
def test_dirichlet_is_stationary_under_its_penalties(drawn, scale):
    logits, labels = drawn(400, 3, scale)
    calibrator = build_calibrator("dirichlet", off_diagonal=0.05, intercept=0.2).fit(logits, labels)
    error = mean_error(calibrator.transform(logits), labels, 3)
    penalty = 2 * 0.05 / 6 * np.where(np.eye(3, dtype=bool), 0.0, calibrator.weights)
    slope = error.T @ log_softmax(logits) + penalty
    np.testing.assert_allclose(slope / scale, 0, atol=5e-6)  # the diagonal holds a ridge of 1e-6
    np.testing.assert_allclose(error.sum(axis=0) + 2 * 0.2 / 3 * calibrator.bias, 0, atol=1e-7)


def test_dirichlet_with_next_to_no_penalty_is_multinomial_regression_on_log_probabilities(drawn):
    from sklearn.linear_model import LogisticRegression

    logits, labels = drawn(400, 3, 2.0)
    inputs = log_softmax(logits)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(inputs, labels)
    ours = build_calibrator("dirichlet", off_diagonal=1e-9, intercept=1e-9).fit(logits, labels)
    np.testing.assert_allclose(ours.transform(logits), peer.predict_proba(inputs), atol=2e-3)


def test_dirichlet_under_heavy_penalties_keeps_only_the_diagonal(drawn):
    calibrator = build_calibrator("dirichlet", off_diagonal=1e6, intercept=1e6).fit(*drawn(400, 3, 2.0))
    assert np.abs(calibrator.weights - np.diag(np.diag(calibrator.weights))).max() < 1e-5
    assert np.abs(calibrator.bias).max() < 1e-5


@pytest.mark.parametrize("name", ["vector", "dirichlet"])
def test_scans_of_one_class_alone_teach_one_temperature(name):
    logits = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [2.0, 0.0, 1.0]])
    tempered = build_calibrator("temperature", prior=None).fit(logits, [0, 0, 0])
    linear = build_calibrator(name).fit(logits, [0, 0, 0])
    np.testing.assert_allclose(linear.transform(logits), tempered.transform(logits), atol=1e-6)


@pytest.mark.parametrize("name", ["vector", "dirichlet"])
def test_extreme_logits_stay_finite(name):
    logits = np.array([[1000.0, -1000.0], [-1000.0, 1000.0]] * 10)
    calibrated = build_calibrator(name).fit(logits, [0, 1] * 9 + [1, 0]).transform(logits)
    np.testing.assert_allclose(calibrated[:2], [[0.9, 0.1], [0.1, 0.9]], atol=1e-3)


def test_vector_without_a_ridge_answers_equal_logits_with_the_class_shares():
    labels = [0] * 15 + [1] * 10 + [2] * 5
    calibrated = build_calibrator("vector", ridge=0.0).fit(np.zeros((30, 3)), labels)
    np.testing.assert_allclose(calibrated.transform([[0.0, 0.0, 0.0]])[0], [0.5, 1 / 3, 1 / 6], atol=0.01)


def test_vector_is_drawn_less_to_one_temperature_the_more_scans_there_are(drawn):
    shift = np.array([1.0, 0.0, -1.0])
    biases = []
    for n in (30, 300, 3000):
        logits, labels = drawn(n, 3, 1.0)
        biases.append(np.ptp(build_calibrator("vector").fit(logits - shift, labels).bias))
    assert biases == sorted(biases)


@pytest.mark.parametrize("name", ["vector", "dirichlet"])
def test_a_hundred_classes_are_fitted_on_five_hundred_scans_and_explain_them_better(drawn, nll, name):
    logits, labels = drawn(500, 100, 2.0)
    calibrated = build_calibrator(name).fit(logits, labels).transform(logits)
    assert nll(calibrated, labels) < nll(softmax(logits), labels)
