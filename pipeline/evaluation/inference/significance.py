"""Tests behind the words "better", "worse" and "changed", with the correction for several of them.

The distributions are scipy's. Own code stays where scipy has no such test: Holm's step-down adjustment
(`scipy.stats.false_discovery_control` controls the rate of false discoveries, not the chance of any), the
variance of resampled splits, and Satterthwaite's for variance components.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq

from models.arrays import Floats
from pipeline.errors import InputError

_AS_GOOD_AS_NORMAL = 1e4
"""Degrees of freedom."""


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values so that the chance of any false rejection stays below the level.

    Parameters
    ----------
    p_values : array_like, shape (m,)

    Returns
    -------
    ndarray, shape (m,)
        Compare each with the level itself.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def corrected_resampled_t_test(differences: ArrayLike, test_over_training: float) -> float:
    """Return the two-sided p-value that the mean difference over resampled splits is zero.

    Splits of one cohort share most of their training scans, so their differences are not independent; the
    correction adds the ratio of test to training size to 1 / J.

    Parameters
    ----------
    differences : array_like, shape (J,)
        Of two methods, one per split (and seed).
    test_over_training : float
        Scans in a test part over scans in a training part.

    Returns
    -------
    float
        1 where all differences are zero.

    Raises
    ------
    InputError
        If there are fewer than two differences or the ratio is not positive.

    References
    ----------
    Nadeau & Bengio, Inference for the Generalization Error, Machine Learning 52, 2003, equation 8.

    Examples
    --------
    >>> round(corrected_resampled_t_test([0.1, 0.3, 0.2, 0.2], test_over_training=0.25), 4)
    0.0405
    """
    variance, degrees = resampled_variance(differences, test_over_training)
    return t_test(float(np.mean(np.asarray(differences, dtype=np.float64))), variance, degrees)


def resampled_variance(differences: ArrayLike, test_over_training: float) -> tuple[float, float]:
    """Return variance and degrees of freedom of the mean in `corrected_resampled_t_test`.

    Raises
    ------
    InputError
        If there are fewer than two differences, or the ratio of sizes is not above 0.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        raise InputError(f"There are {len(values)} differences, a test over splits needs at least two")
    if not test_over_training > 0:
        raise InputError(f"The ratio of test to training size is {test_over_training}, expected above 0")
    return float(values.var(ddof=1)) * (1 / len(values) + test_over_training), len(values) - 1.0


def components_t_test(mean: float, over_subjects: float, per_seed: ArrayLike) -> float:
    """Return the two-sided p-value that a mean over seeds is zero, on one set of test scans.

    Its variance is that over draws of the test subjects plus that over seeds, with Satterthwaite's degrees
    of freedom; with one seed only the first part is known.

    Parameters
    ----------
    over_subjects : float
        Variance of the mean over draws of subjects.
    per_seed : array_like, shape (n_seeds,)
        The values whose mean it is.

    References
    ----------
    Satterthwaite, An approximate distribution of estimates of variance components, Biometrics Bulletin 2,
    1946.
    """
    return t_test(mean, *components_variance(over_subjects, per_seed))


def components_variance(over_subjects: float, per_seed: ArrayLike) -> tuple[float, float]:
    """Return variance and degrees of freedom of the mean in `components_t_test`."""
    values = np.asarray(per_seed, dtype=np.float64)
    n = len(values)
    over_seeds = float(values.var(ddof=1)) / n if n > 1 else 0.0
    total = over_subjects + over_seeds
    degrees = total**2 / (over_seeds**2 / (n - 1)) if over_seeds > 0 else math.inf
    return total, degrees


def detectable(variance: float, degrees: float, alpha: float, power: float = 0.8) -> float:
    """Return the smallest true difference that a two-sided t-test would have found with this chance.

    Parameters
    ----------
    variance, degrees : float
        Of the mean difference, as it was measured.
    alpha : float
        Level of the test, in (0, 1).

    References
    ----------
    Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, section 2.4; the non-central t
    itself, because the usual normal approximation of it is 10 % too small with four degrees of freedom.

    Examples
    --------
    >>> round(detectable(0.01, float("inf"), 0.05), 3)  # (1.960 + 0.842) standard errors
    0.28
    >>> round(detectable(0.01, 4, 0.05), 3)
    0.376
    """
    limit, beyond = stats.t.isf(alpha / 2, degrees), stats.norm.isf(1 - power)
    if degrees > _AS_GOOD_AS_NORMAL:
        far = limit + beyond
    else:
        far = brentq(lambda at: stats.nct.sf(limit, degrees, at) - power, 0.0, 10 * (limit + beyond))
    return float(far * math.sqrt(max(variance, 0.0)))


def t_test(mean: float, variance: float, degrees: float) -> float:
    """Return the two-sided p-value of a mean with a given variance; 1 or 0 where the variance is zero."""
    if variance <= 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / math.sqrt(variance), degrees))
