"""Repeated looks err as often as they may, and limits of a mean hold it though it is skewed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.errors import InputError
from pipeline.evaluation.inference.sequential import critical_values, skewed_limits, z_of


def crossed(looks, limits, trials=200_000, seed=0):
    """Return how often a z-statistic without an effect has crossed a limit by each look."""
    rng = np.random.default_rng(seed)
    steps = np.sqrt(np.diff(looks, prepend=0))
    z = (rng.standard_normal((trials, len(looks))) * steps).cumsum(axis=1) / np.sqrt(looks)
    return np.maximum.accumulate(z > limits, axis=1).mean(axis=0)


@pytest.mark.parametrize(
    ("looks", "spent"),
    [
        ([120], [0.2]),
        ([120, 140, 160, 180], [0.2, 0.2167, 0.2333, 0.25]),
        ([44, 60, 61, 300], [0.05, 0.06, 0.09, 0.1]),
        ([10, 20, 30, 40, 50, 60], [0.001, 0.005, 0.01, 0.02, 0.03, 0.05]),
    ],
)
def test_the_error_of_all_looks_is_what_was_spent(looks, spent):
    found = crossed(looks, critical_values(looks, spent))
    np.testing.assert_allclose(found, spent, atol=4 * np.sqrt(0.25 / 200_000))


def test_looks_that_are_not_paid_for_err_more():
    assert crossed([120, 140, 160, 180], [z_of(0.8)] * 4)[-1] > 0.28


def test_limits_are_those_of_the_tables():
    """Pocock's and O'Brien & Fleming's designs of two equal looks, one-sided 2.5 %, from their tables."""
    pocock = 2.178
    first = float(stats.norm.sf(pocock))
    assert critical_values([1, 2], [first, 0.025]) == pytest.approx((pocock, pocock), abs=2e-3)
    obrien = float(stats.norm.sf(2.797))
    assert critical_values([1, 2], [obrien, 0.025]) == pytest.approx((2.797, 1.977), abs=2e-3)
    assert critical_values([5, 9], [0.1, 0.1])[1] == np.inf, "a look that spends nothing decides nothing"


@pytest.mark.parametrize(("looks", "spent"), [([10, 10], [0.1, 0.2]), ([10, 20], [0.2, 0.1])])
def test_looks_without_more_evidence_or_error_are_refused(looks, spent):
    with pytest.raises(InputError, match=r"expected subjects that grow and an error that never falls"):
        critical_values(looks, spent)


def test_skewed_limits_hold_the_mean_as_often_as_they_should():
    """Of an exponential mean a plain limit at 90 % is below it too often."""
    rng = np.random.default_rng(1)
    names, z, plain, corrected = list(map(str, range(120))), z_of(0.9), 0, 0
    for _ in range(4000):
        values = rng.exponential(size=120)
        plain += values.mean() + z * values.std(ddof=1) / np.sqrt(120) < 1
        corrected += skewed_limits(values, names, z)[2] < 1
    assert plain / 4000 > 0.12
    assert corrected / 4000 == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("sign", [1, -1])
def test_less_error_gives_wider_limits_around_the_mean_however_skewed(sign):
    """A correction of first order alone puts the lower limit above the mean of these at z = 4.75."""
    values = sign * np.r_[np.zeros(50), 1.0, 2.0, 4.0, 9.0]
    names = list(map(str, range(54)))
    limits = np.array([skewed_limits(values, names, z) for z in np.linspace(1, 8, 40)])
    assert (limits[:, 1] < limits[:, 0]).all()
    assert (limits[:, 0] < limits[:, 2]).all()
    assert (np.diff(limits[:, 1]) < 0).all()
    assert (np.diff(limits[:, 2]) > 0).all()


def test_scans_of_one_subject_are_one_piece_of_evidence(rng):
    values = rng.standard_normal(40)
    once = skewed_limits(values, list(map(str, range(40))), 1.5)
    thrice = skewed_limits(np.repeat(values, 3), list(map(str, np.repeat(range(40), 3))), 1.5)
    assert thrice == pytest.approx(once)
    assert skewed_limits([0.0, 0.0], ["a", "b"], 2.0) == (0.0, 0.0, 0.0)
    assert skewed_limits(values, list(map(str, range(40))), np.inf)[1:] == (-np.inf, np.inf)
