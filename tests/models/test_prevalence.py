"""Prevalence: Bayes' rule both ways, and EM that finds the shares it was not told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize

from models.prevalence import adjust_prevalence, estimate_prevalence


def shares(classes=3):
    return hnp.arrays(np.float64, classes, elements=st.floats(0.02, 1)).map(lambda a: a / a.sum())


def clinic(rng, n, prevalence, trained, told=2.0):
    """Scans of a clinic, with the exact posterior at the prevalence of training."""
    y = rng.choice(3, size=n, p=prevalence)
    x = rng.normal(size=(n, 3)) + told * np.eye(3)[y]
    joint = np.exp(told * x) * trained
    return joint / joint.sum(axis=1, keepdims=True), y


@settings(deadline=None)
@given(hnp.arrays(np.float64, (4, 3), elements=st.floats(0.01, 1)), shares(), shares(), shares())
def test_there_and_back(raw, a, b, c):
    p = raw / raw.sum(axis=1, keepdims=True)
    there = adjust_prevalence(p, a, b)
    assert there.sum(axis=1) == pytest.approx(1)
    assert adjust_prevalence(there, b, a) == pytest.approx(p)
    assert adjust_prevalence(there, b, c) == pytest.approx(adjust_prevalence(p, a, c))
    assert adjust_prevalence(p, a, a) == pytest.approx(p)


@settings(deadline=None)
@given(shares(), shares())
def test_knowing_nothing_leaves_the_prevalence(a, b):
    assert adjust_prevalence(a, a, b) == pytest.approx(b)


def test_adjusted_posterior_is_the_posterior_of_the_clinic(rng):
    trained, prevalence = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    at_training, _ = clinic(np.random.default_rng(1), 50, prevalence, trained)
    at_clinic, _ = clinic(np.random.default_rng(1), 50, prevalence, prevalence)
    assert adjust_prevalence(at_training, trained, prevalence) == pytest.approx(at_clinic)


def test_a_class_can_be_ruled_out():
    assert adjust_prevalence([0.2, 0.3, 0.5], [0.4, 0.3, 0.3], [0.5, 0.5, 0.0])[2] == 0
    with pytest.raises(ValueError, match="State a small share instead of 0"):
        adjust_prevalence([0.0, 0.0, 1.0], [0.4, 0.3, 0.3], [0.5, 0.5, 0.0])


@pytest.mark.parametrize(
    "prevalence", [(0.1, 0.2, 0.7), (0.8, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3), (0.0, 0.5, 0.5)]
)
def test_em_finds_the_clinics_prevalence(prevalence):
    trained = np.array([0.5, 0.3, 0.2])
    p, _ = clinic(np.random.default_rng(0), 20_000, prevalence, trained)
    assert estimate_prevalence(p, trained) == pytest.approx(prevalence, abs=0.015)


def test_error_shrinks_with_the_number_of_scans():
    trained, prevalence = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    errors = []
    for n in (50, 5000):
        found = [
            estimate_prevalence(clinic(np.random.default_rng(s), n, prevalence, trained)[0], trained)
            for s in range(20)
        ]
        errors.append(np.sqrt(np.mean((np.array(found) - prevalence) ** 2)))
    assert errors[1] < errors[0] / 5  # sqrt(100) = 10 in the limit


def test_em_stands_at_the_maximum_of_the_likelihood():
    trained = np.array([0.5, 0.3, 0.2])
    p, _ = clinic(np.random.default_rng(3), 300, [0.2, 0.5, 0.3], trained, told=1.0)

    def loss(free):
        q = np.exp(np.append(free, 0.0))
        return -np.log((p / trained) @ (q / q.sum())).sum()

    best = np.exp(np.append(minimize(loss, [0.0, 0.0], method="BFGS", options={"gtol": 1e-6}).x, 0.0))
    assert estimate_prevalence(p, trained, tolerance=1e-12) == pytest.approx(best / best.sum(), abs=1e-4)


@pytest.mark.parametrize("prior", [0.0, 7.5])
def test_weights_mean_copies(prior):
    trained = np.array([0.5, 0.3, 0.2])
    p, _ = clinic(np.random.default_rng(0), 40, [0.2, 0.5, 0.3], trained)
    weights = np.arange(40) % 4
    assert estimate_prevalence(p, trained, weights=weights, prior_scans=prior) == pytest.approx(
        estimate_prevalence(np.repeat(p, weights, axis=0), trained, prior_scans=prior)
    )


def test_prior_scans_count_as_scans_of_known_class():
    trained = np.array([0.5, 0.3, 0.2])
    p, _ = clinic(np.random.default_rng(5), 30, [0.1, 0.1, 0.8], trained)
    sure = np.repeat(np.eye(3), (10, 6, 4), axis=0)
    together = estimate_prevalence(np.concatenate([p, sure]), trained, tolerance=1e-12)
    assert estimate_prevalence(p, trained, prior_scans=20, tolerance=1e-12) == pytest.approx(together)


def test_scans_that_say_nothing_leave_the_shares_of_training():
    trained = np.array([0.5, 0.3, 0.2])
    unsure = np.tile([[0.52, 0.29, 0.19]], (30, 1))
    assert estimate_prevalence(unsure, trained)[0] > 0.99
    assert estimate_prevalence(unsure, trained, prior_scans=10)[0] < 0.8


def test_overconfident_probabilities_mislead_it():
    """Why calibration comes first."""
    trained = np.array([0.5, 0.3, 0.2])
    prevalence = np.array([0.1, 0.2, 0.7])
    p, _ = clinic(np.random.default_rng(0), 20_000, prevalence, trained, told=1.0)
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    calibrated = np.abs(estimate_prevalence(p, trained) - prevalence).max()
    assert np.abs(estimate_prevalence(sharp, trained) - prevalence).max() > 3 * calibrated


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        ([0.5, 0.5], r"is \[0.5, 0.5\]\. Expected 3 shares of at least 0 that sum to 1"),
        ([0.5, 0.6, -0.1], "shares of at least 0"),
        ([0.5, 0.5, 0.5], "sum to 1"),
        ([0.5, 0.5, 0.0], "Expected a share above 0 for every class"),
    ],
)
def test_shares_that_are_none_are_refused(trained, message):
    p = np.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match=message):
        adjust_prevalence(p, trained, [0.2, 0.3, 0.5])
    with pytest.raises(ValueError, match=message):
        estimate_prevalence(p, trained)


def test_refusals():
    trained = [0.2, 0.3, 0.5]
    with pytest.raises(ValueError, match="with at least one scan"):
        estimate_prevalence(np.empty((0, 3)), trained)
    with pytest.raises(ValueError, match="Expected 2 numbers of at least 0, not all 0"):
        estimate_prevalence(np.full((2, 3), 1 / 3), trained, weights=[0, 0])
    with pytest.raises(ValueError, match=r"prior_scans is -1\. Expected a number of at least 0"):
        estimate_prevalence(np.full((2, 3), 1 / 3), trained, prior_scans=-1)
