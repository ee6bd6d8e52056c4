"""The plausible range around calibrated probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from models.arrays import Floats
from models.calibrators import Calibrator

_LEAST_SPREAD = 0.05
"""In log-odds: one network and a calibrator without draws are not certain because they cannot disagree."""
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
    drawn = [_draws(calibrator, flat).reshape(-1, *members.shape[1:]) for calibrator in calibrators]
    return np.concatenate(drawn)


def _draws(calibrator: Calibrator, logits: Floats) -> Floats:
    draws = getattr(calibrator, "draws", None)
    return np.asarray(calibrator.transform(logits)[None] if draws is None else draws(logits))


def plausible_range(stated: Floats, drawn: Floats, factor: float | None) -> tuple[Floats, Floats]:
    """Return the range around stated probabilities in which the true ones plausibly lie.

    On the logit scale of each class: the stated value plus and minus `factor` times the root mean square
    distance of the draws to it. The stated value lies strictly inside, and the range in (0, 1), except where
    the stated value is 0 or 1 but for rounding.

    Parameters
    ----------
    stated : ndarray, shape (N, K)
    drawn : ndarray, shape (D, N, K)
        Probabilities of single networks under single draws of the calibrator, at the same prevalence.
    factor : float or None
        None gives the 5th to the 95th percentile of the draws, as classifiers of older versions have it,
        widened where needed to contain the stated value.

    Returns
    -------
    tuple of ndarray, shape (N, K) each

    Examples
    --------
    >>> drawn = np.array([[[0.5, 0.5]], [[0.7, 0.3]]])
    >>> low, high = plausible_range(np.array([[0.6, 0.4]]), drawn, factor=2)
    >>> low.round(2), high.round(2)
    (array([[0.39, 0.23]]), array([[0.77, 0.61]]))
    """
    if factor is None:
        low, high = np.percentile(drawn, [5, 95], axis=0)
        return np.minimum(low, stated), np.maximum(high, stated)
    centre = _log_odds(stated)
    half = factor * np.maximum(np.sqrt(((_log_odds(drawn) - centre) ** 2).mean(axis=0)), _LEAST_SPREAD)
    low, high = expit(centre - half), np.minimum(expit(centre + half), 1 - _ROUNDING)
    inside = (stated > 0) & (stated < 1 - 2 * _ROUNDING)
    return np.where(inside, low, stated), np.where(inside, high, stated)


def _log_odds(probabilities: Floats) -> Floats:
    p = np.clip(probabilities, _SMALLEST, 1 - _ROUNDING)
    return np.asarray(np.log(p) - np.log1p(-p))
