"""The plausible range around calibrated probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from models.arrays import Floats
from models.calibrators import Calibrator

_LEAST_SPREAD = 0.05
"""In log-odds: one network and a calibrator without draws are not certain because they cannot disagree."""
_PERCENTILES = (5, 95)
_MARGIN = 1e-9
"""So that rounding leaves the last true probability inside."""
_SMALLEST = 1e-300
_ROUNDING = 1e-15


def calibrated_members(calibrator: Calibrator, members: Floats) -> Floats:
    """Return calibrated probabilities of the logits of several networks, in one call.

    Parameters
    ----------
    members : ndarray, shape (M, N, K)
        Logits, as `models.ensemble.member_logits` returns them.

    Returns
    -------
    ndarray, shape (M, N, K)
    """
    return calibrator.transform(members.reshape(-1, members.shape[-1])).reshape(members.shape)


def calibrator_draws(calibrators: Sequence[Calibrator], members: Floats) -> Floats:
    """Return probabilities of every network under every draw of every calibrator.

    Parameters
    ----------
    calibrators : sequence of Calibrator
        The shipped one, with the draws it has; or its refits on bootstrap draws of the subjects.
    members : ndarray, shape (M, N, K)
        Logits of the networks.

    Returns
    -------
    ndarray, shape (D, N, K)
    """
    flat = members.reshape(-1, members.shape[-1])
    drawn = np.concatenate([_draws(calibrator, flat) for calibrator in calibrators])
    return drawn.reshape(len(drawn) * len(members), *members.shape[1:])


def _draws(calibrator: Calibrator, logits: Floats) -> Floats:
    draws = getattr(calibrator, "draws", None)
    return np.asarray(calibrator.transform(logits)[None] if draws is None else draws(logits))


def plausible_range(stated: Floats, drawn: Floats, factor: float | None) -> tuple[Floats, Floats]:
    """Return the range around stated probabilities in which the true ones plausibly lie.

    On the logit scale of each class: the distances from the stated value to the 5th and to the 95th
    percentile of the draws, times `factor`. The stated value lies strictly inside, and the range in (0, 1),
    except where the stated value is 0 or 1 but for rounding.

    Parameters
    ----------
    stated : ndarray, shape (N, K)
    drawn : ndarray, shape (D, N, K)
        Probabilities of single networks under single draws of the calibrator, at the same prevalence.
    factor : float or None
        Above 0, see `choose_range_factor`. None gives the percentiles as they are, as classifiers of older
        versions have them, widened where needed to contain the stated value.

    Returns
    -------
    tuple of ndarray, shape (N, K) each

    Raises
    ------
    ValueError
        If the factor is not a finite number above 0.

    Notes
    -----
    Networks share the errors that all folds of one cohort make, and their spread does not show these: hence
    the factor. On simulated cohorts of 150 scans the two percentiles needed ranges a fifth narrower than a
    symmetric root mean square for the same share of true probabilities.

    Examples
    --------
    >>> drawn = np.array([[[0.5, 0.5]], [[0.7, 0.3]]])
    >>> low, high = plausible_range(np.array([[0.6, 0.4]]), drawn, factor=2)
    >>> low.round(2), high.round(2)
    (array([[0.42, 0.23]]), array([[0.77, 0.58]]))
    """
    if factor is None:
        low, high = np.percentile(drawn, _PERCENTILES, axis=0)
        return np.minimum(low, stated), np.maximum(high, stated)
    if not 0 < factor < math.inf:
        raise ValueError(f"The factor of the range is {factor}. Expected a finite number above 0.")
    below, above = _distances(stated, drawn)
    centre = _log_odds(stated)
    low, high = expit(centre - factor * below), np.minimum(expit(centre + factor * above), 1 - _ROUNDING)
    low = np.where(stated < _SMALLEST, 0.0, low)  # log-odds do not reach further down
    inside = (stated > 0) & (stated < 1 - 2 * _ROUNDING)
    return np.where(inside, low, stated), np.where(inside, high, stated)


@dataclass(frozen=True)
class RangeFit:
    """What ranges of one factor hold on scans whose true probabilities are known.

    Parameters
    ----------
    held, held_first : float
        Share of all probabilities (scan and class), and of those of each scan's most likely class, whose
        range holds the true one.
    width, width_first : float
        Mean width of these ranges.
    """

    factor: float
    held: float
    held_first: float
    width: float
    width_first: float


def describe_range(stated: Floats, drawn: Floats, truth: Floats, factor: float) -> RangeFit:
    """Return what ranges of a factor hold; parameters as in `choose_range_factor`."""
    return ranges_held(plausible_range(stated, drawn, factor), stated, truth, factor)


def ranges_held(ranges: tuple[Floats, Floats], stated: Floats, truth: Floats, factor: float) -> RangeFit:
    """Return what lower and upper limits (N, K each) hold of true probabilities (N, K)."""
    low, high = ranges
    held, width = (low <= truth) & (truth <= high), high - low
    first = np.arange(len(stated)), stated.argmax(axis=1)
    shares = (held.mean(), held[first].mean(), width.mean(), width[first].mean())
    return RangeFit(float(factor), *(float(x) for x in shares))


def choose_range_factor(stated: Floats, drawn: Floats, truth: Floats, share: float = 0.8) -> RangeFit:
    """Return the smallest factor whose ranges hold the true probability of at least a share of scans.

    The share is reached over all probabilities and over those of the most likely class. Choose it on one
    simulated cohort, and check it with `describe_range` on another.

    Parameters
    ----------
    stated, drawn : ndarray
        As in `plausible_range`.
    truth : ndarray, shape (N, K)
        The true probabilities.
    share : float
        In (0, 1].

    Examples
    --------
    >>> stated = np.array([[0.6, 0.4], [0.5, 0.5]])
    >>> drawn = np.array([[[0.5, 0.5], [0.4, 0.6]], [[0.7, 0.3], [0.6, 0.4]]])
    >>> round(choose_range_factor(stated, drawn, np.array([[0.72, 0.28], [0.5, 0.5]]), share=1).factor, 2)
    1.35
    """
    below, above = _distances(stated, drawn)
    gap = _log_odds(truth) - _log_odds(stated)
    needed = np.where(gap < 0, -gap / below, gap / above)
    first = needed[np.arange(len(stated)), stated.argmax(axis=1)]
    factor = max(np.quantile(x, share, method="inverted_cdf") for x in (needed, first))
    return describe_range(stated, drawn, truth, float(factor) * (1 + _MARGIN))


def _distances(stated: Floats, drawn: Floats) -> tuple[Floats, Floats]:
    low, high = np.percentile(_log_odds(drawn), _PERCENTILES, axis=0)
    centre = _log_odds(stated)
    return np.maximum(centre - low, _LEAST_SPREAD), np.maximum(high - centre, _LEAST_SPREAD)


def _log_odds(probabilities: Floats) -> Floats:
    p = np.clip(probabilities, _SMALLEST, 1 - _ROUNDING)
    return np.asarray(np.log(p) - np.log1p(-p))
