"""Limits for evidence that is looked at more than once: each look pays for its chance of a wrong decision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from models.arrays import Floats
from pipeline.errors import InputError

_NODES = 601
_FARTHEST = 9.0
"""Standard deviations; the chance beyond them is nothing."""


def critical_values(information: Sequence[float], spent: Sequence[float]) -> tuple[float, ...]:
    """Return one-sided limits of a z-statistic, so that looks together err as often as was spent.

    The statistic at a look is that of all evidence up to then, so looks are correlated: z at two looks has
    the correlation ``sqrt(information_i / information_j)``. Neither the number of looks nor their times need
    be known beforehand, as long as the evidence does not decide when to look.

    Parameters
    ----------
    information : sequence of float, length L
        Of all evidence at each look, growing: as a number of subjects.
    spent : sequence of float, length L
        Chance of crossing a limit at this look or an earlier one when the null hypothesis holds, in (0, 1),
        never falling. A look that spends nothing has the limit infinity.

    Raises
    ------
    InputError
        If information does not grow or the error spent falls.

    References
    ----------
    Lan & DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70, 1983; the recursion is
    that of Armitage, McPherson & Rowe, Journal of the Royal Statistical Society A 132, 1969.

    Examples
    --------
    >>> [round(z, 3) for z in critical_values([100], [0.05])]
    [1.645]
    >>> [round(z, 3) for z in critical_values([50, 100], [0.025, 0.05])]  # Bonferroni: 1.960 twice
    [1.96, 1.807]
    """
    times, errors = np.asarray(information, dtype=np.float64), np.asarray(spent, dtype=np.float64)
    if (np.diff(times, prepend=0.0) <= 0).any() or (np.diff(errors, prepend=0.0) < 0).any():
        raise InputError(
            f"Looks at {list(information)} subjects spend {list(spent)} of the error; expected subjects that "
            "grow and an error that never falls"
        )
    # The score of the evidence is a Brownian motion; its density where no limit was crossed yet, on a grid.
    nodes, mass, before, limits = np.zeros(1), np.ones(1), 0.0, []
    for now, alpha in zip(times, np.diff(errors, prepend=0.0), strict=True):
        step, farthest = np.sqrt(now - before), _FARTHEST * np.sqrt(now)
        limit = _crossed_with(alpha, nodes, mass, step, farthest)
        limits.append(limit / np.sqrt(now) if np.isfinite(limit) else np.inf)
        nodes, mass = _survivors(nodes, mass, step, (-farthest, min(limit, farthest)))
        before = now
    return tuple(float(limit) for limit in limits)


def _crossed_with(alpha: float, nodes: Floats, mass: Floats, step: float, farthest: float) -> float:
    def beyond(limit: float) -> float:
        return float(mass @ ndtr((nodes - limit) / step)) - alpha

    if alpha <= 0 or beyond(farthest) > 0:
        return float("inf")
    return float(brentq(beyond, -farthest, farthest, xtol=1e-10))


def _survivors(nodes: Floats, mass: Floats, step: float, ends: tuple[float, float]) -> tuple[Floats, Floats]:
    edges = np.linspace(*ends, _NODES + 1)
    below = ndtr((edges[:, None] - nodes) / step) @ mass
    return (edges[1:] + edges[:-1]) / 2, np.diff(below)


def skewed_limits(values: ArrayLike, subjects: Sequence[str], z: float) -> tuple[float, float, float]:
    """Return the mean of a per-scan value and its lower and upper limit, z standard errors from it.

    Scans of one subject count as one piece of evidence. Differences of NLL are skewed: a few scans carry much
    of the mean, and where those are missing from the sample, mean and standard error are both too small. So
    the limits are corrected for the third moment, by a transformation that is monotone: a larger z always
    gives wider limits, and a lower limit does not climb above the mean however small the error that is spent.
    Of fewer than about 20 subjects no correction makes up for what is missing: the limits are too narrow.

    Parameters
    ----------
    values : array_like, shape (N,)
    subjects : sequence of str, length N
        At least two different ones.
    z : float
        Of each one-sided limit.

    References
    ----------
    Hall, On the removal of skewness by transformation, Journal of the Royal Statistical Society B 54, 1992:
    the cubic transformation g_1, whose inverse is in closed form.

    Examples
    --------
    >>> mean, low, high = skewed_limits([0.0, 0.0, 0.0, 4.0], list("abcd"), 1.0)
    >>> mean, round(low, 2), round(high, 2)
    (1.0, 0.22, 2.48)
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    off = _by_subject(array, subjects)
    spread = float(np.sqrt((off**2).mean()))
    if spread <= 1e-12 or not np.isfinite(z):
        far = 0.0 if spread <= 1e-12 else float("inf")
        return mean, mean - far, mean + far
    error = standard_error(array, subjects)
    skew = float((off**3).mean() / spread**3 / np.sqrt(len(off)))
    return mean, mean - error * _unskewed(z, skew), mean - error * _unskewed(-z, skew)


def standard_error(values: ArrayLike, subjects: Sequence[str]) -> float:
    """Return the standard error of the mean of a per-scan value, over subjects as in `skewed_limits`.

    Examples
    --------
    >>> standard_error([0.0, 0.0, 2.0, 2.0], list("abcd")), standard_error([0.0, 0.0, 2.0, 2.0], list("aabb"))
    (0.5773502691896258, 1.0)
    """
    array = np.asarray(values, dtype=np.float64)
    off = _by_subject(array, subjects)
    return float(np.sqrt((off**2).mean()) * len(off) / len(array) / np.sqrt(len(off) - 1))


def _by_subject(values: Floats, subjects: Sequence[str]) -> Floats:
    """Return the summed distance from the mean of each subject's scans."""
    _, place = np.unique(np.asarray(subjects), return_inverse=True)
    return np.bincount(place, weights=values - values.mean()).astype(np.float64)


def _unskewed(z: float, skew: float) -> float:
    """Return the t-statistic that Hall's transformation takes to z, of a mean with this skewness."""
    if abs(skew) < 1e-9:  # the limit of what follows
        return z
    return float(3 / skew * (np.cbrt(1 + skew * (z - skew / 6)) - 1))


def z_of(level: float) -> float:
    """Return the one-sided z of a level in (0, 1)."""
    return float(ndtri(level))
