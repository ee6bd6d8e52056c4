"""Probabilities at another prevalence than that of training, and the prevalence of unlabelled scans."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from models.arrays import Floats

_SMALLEST = 1e-300
"""A draw that is wholly on classes a clinic rules out counts as this, not as nothing."""


def adjust_prevalence(probabilities: ArrayLike, trained: ArrayLike, stated: ArrayLike) -> Floats:
    """Return probabilities for another prevalence: ``p(k|x) stated_k / trained_k``, made to sum to one.

    Exact if scans of a class are distributed alike in both places and only the shares differ.

    Parameters
    ----------
    probabilities : array_like, shape (N, K) or (K,)
        Calibrated at the prevalence `trained`, with any class weighting of training corrected for.
    trained : array_like, shape (K,)
        Shares of the classes in training, each above zero.
    stated : array_like, shape (K,)
        Shares of the classes where the scan comes from; zero rules a class out.

    Returns
    -------
    ndarray of float64, of the shape of `probabilities`
        Rows sum to one.

    Raises
    ------
    ValueError
        If shares are negative, do not sum to one or do not fit the classes, or if a scan's probability lies
        wholly on classes that `stated` rules out.

    References
    ----------
    Saerens, Latinne & Decaestecker, Neural Computation 14, 2002, equation 2.4.

    Examples
    --------
    >>> adjust_prevalence([0.5, 0.5], trained=[0.5, 0.5], stated=[0.9, 0.1])
    array([0.9, 0.1])
    """
    p = np.asarray(probabilities, dtype=np.float64)
    new = _shares(stated, p.shape[-1], "stated")
    joint = p * (new / _trained(trained, p.shape[-1]))
    total = joint.sum(axis=-1, keepdims=True)
    if not (total > 0).all():
        raise ValueError(
            f"The stated prevalence {new.tolist()} rules out every class that a scan can have. "
            "State a small share instead of 0."
        )
    return np.asarray(joint / total)


def adjust_draws(draws: ArrayLike, trained: ArrayLike, stated: ArrayLike) -> Floats:
    """Return draws of probabilities for another prevalence, as `adjust_prevalence` does.

    A draw may lie wholly on classes that `stated` rules out: its other classes then have equal
    probabilities before the adjustment.

    Parameters
    ----------
    draws : array_like, shape (..., K)
        Of the probabilities of scans.
    trained, stated : array_like, shape (K,)
        As in `adjust_prevalence`.

    Raises
    ------
    ValueError
        If shares are negative, do not sum to one or do not fit the classes.

    Examples
    --------
    >>> adjust_draws([[0.0, 0.0, 1.0]], trained=[0.25, 0.25, 0.5], stated=[0.5, 0.5, 0.0])
    array([[0.5, 0.5, 0. ]])
    """
    return adjust_prevalence(np.maximum(draws, _SMALLEST), trained, stated)


def estimate_prevalence(
    probabilities: ArrayLike,
    trained: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    prior_scans: float = 0.0,
    tolerance: float = 1e-8,
    max_iterations: int = 10_000,
) -> Floats:
    """Return the prevalence of the classes in unlabelled scans, by expectation maximisation.

    Maximises the likelihood of the scans over the shares of the classes: concave, so the start does not
    matter.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
        Calibrated at the prevalence `trained`; without calibration the estimate is biased.
    trained : array_like, shape (K,)
        Shares of the classes in training, each above zero.
    weights : array_like, shape (N,), optional
        How often each scan counts.
    prior_scans : float
        Strength of the prior, at least 0: so many further scans count whose classes are known and have the
        shares `trained`. Without it, a few scans of uncertain class often leave a class without a share.
    tolerance : float
        Stop once no share changes by more in one step.
    max_iterations : int
        Largest number of steps; many are needed where classes are hard to distinguish.

    Returns
    -------
    ndarray of float64, shape (K,)
        Sums to one.

    Raises
    ------
    ValueError
        If there is no scan, or the shares, the weights or the prior are not as above.

    References
    ----------
    Saerens, Latinne & Decaestecker, Neural Computation 14, 2002, equation 2.9.

    Examples
    --------
    >>> estimate_prevalence([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], trained=[0.5, 0.5])
    array([0.75, 0.25])
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or len(p) < 1:
        raise ValueError(
            f"Probabilities have shape {p.shape}. Expected (scans, classes) with at least one scan."
        )
    old = _trained(trained, p.shape[1])
    w = _weights(weights, len(p))
    likelihood, w, shares = (p / old)[w > 0], w[w > 0], old
    given = len(p) if weights is None else float(np.sum(weights))
    if not 0 <= prior_scans < np.inf:
        raise ValueError(f"prior_scans is {prior_scans}. Expected a number of at least 0.")
    known = prior_scans / (prior_scans + given)
    for _ in range(max_iterations):
        updated = shares * (w / (likelihood @ shares) @ likelihood)
        updated = known * old + (1 - known) * updated
        moved = np.abs(updated - shares).max()
        shares = updated / updated.sum()
        if moved < tolerance:
            break
    return shares


def _weights(values: ArrayLike | None, scans: int) -> Floats:
    w = np.ones(scans) if values is None else np.asarray(values, dtype=np.float64)
    if w.shape != (scans,) or not (w >= 0).all() or not w.sum() > 0:
        raise ValueError(
            f"The weights have shape {w.shape}. Expected {scans} numbers of at least 0, not all 0."
        )
    return np.asarray(w / w.sum())


def _shares(values: ArrayLike, classes: int, name: str) -> Floats:
    shares = np.asarray(values, dtype=np.float64)
    if shares.shape != (classes,) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-4:
        raise ValueError(
            f"The {name} prevalence is {shares.tolist()}. "
            f"Expected {classes} shares of at least 0 that sum to 1."
        )
    return shares


def _trained(values: ArrayLike, classes: int) -> Floats:
    shares = _shares(values, classes, "trained")
    if not (shares > 0).all():
        raise ValueError(
            f"The trained prevalence is {shares.tolist()}. Expected a share above 0 for every class."
        )
    return shares
