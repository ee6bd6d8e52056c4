"""P-values that two groups of scans come from one population, without assuming a distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.arrays import Floats, Ints
from models.prevalence import estimate_prevalence

_EM_TOLERANCE = 1e-4
"""Of a share; far below what a period of scans can tell."""


def means_p_value(reference: Floats, current: Floats, draws: int, rng: np.random.Generator) -> float:
    """Return the permutation p-value that no column's mean differs.

    The statistic is the largest absolute difference of means over columns, each in units of its own spread
    over permutations, so correlated columns cost nothing.

    Parameters
    ----------
    reference, current : ndarray, shapes (n, d) and (m, d)
    draws : int
        Permutations; the p-value is at least 1 / (draws + 1).
    rng : numpy.random.Generator
    """
    together = np.concatenate([reference, current])
    together = together - together.mean(axis=0)
    is_current = np.concatenate([np.zeros(len(reference)), np.ones(len(current))])
    chosen = np.stack([is_current, *(rng.permutation(is_current) for _ in range(draws))])
    # Centred columns: the sum over the current scans is the difference of means up to one factor.
    return _largest_p_value(chosen @ together)


def shares_p_value(reference: Ints, current: Ints, draws: int, rng: np.random.Generator) -> float:
    """Return the permutation p-value that categories are as frequent in both, by chi-squared.

    Parameters
    ----------
    reference, current : ndarray of int, shape (n_categories,)
        Counts.
    draws : int
    rng : numpy.random.Generator
    """
    both = (reference + current)[reference + current > 0]
    observed = current[reference + current > 0]
    expected = both * observed.sum() / both.sum()
    drawn = rng.multivariate_hypergeometric(both, int(observed.sum()), size=draws)
    statistics = ((np.vstack([observed, drawn]) - expected) ** 2 / expected).sum(axis=1)
    return _rank_p_value(statistics)


def rate_p_value(reference: NDArray[np.bool_], current: NDArray[np.bool_]) -> float:
    """Return Fisher's exact one-sided p-value that a rate has not risen."""
    hits = int(reference.sum() + current.sum())
    total = len(reference) + len(current)
    return float(stats.hypergeom.sf(current.sum() - 1, total, hits, len(current)))


def class_conditional_p_value(  # noqa: PLR0913 - two samples, each of three parts, and how to draw
    values: Floats,
    labels: Ints,
    probabilities: Floats,
    current_values: Floats,
    current_probabilities: Floats,
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, Floats]:
    """Return the p-value that scans of a class look as they did, whatever the mix of classes has become.

    The mix of the current scans is estimated by Saerens' EM, and their means are compared with those of the
    reference scans weighted to that mix. Its null distribution is drawn from the reference: as many scans as
    are current, by those weights, their mix estimated anew, against a bootstrap draw of the reference.

    Parameters
    ----------
    values : ndarray, shape (n, d)
        Of the reference scans.
    labels : ndarray of int, shape (n,)
        Their true classes.
    probabilities : ndarray, shape (n, K)
        Theirs, calibrated at the class shares of the labels.
    current_values, current_probabilities : ndarray, shapes (m, d) and (m, K)
    draws : int
    rng : numpy.random.Generator

    Returns
    -------
    p_value : float
        By the largest absolute difference over columns, each in units of its spread over draws.
    differences : ndarray, shape (d,)
        Means of the current scans less those of the weighted reference.
    """
    n, m = len(values), len(current_values)
    shares = np.bincount(labels, minlength=probabilities.shape[1]) / n
    present = shares > 0
    # A class that the reference has no scan of cannot be looked at; the others share out its probability.
    likely, current_likely = (_shared_out(p[:, present]) for p in (probabilities, current_probabilities))
    place = (np.cumsum(present) - 1)[labels]
    mix = estimate_prevalence(current_likely, shares[present], tolerance=_EM_TOLERANCE)
    weights = (mix / shares[present])[place]
    weights /= weights.sum()
    statistics = [current_values.mean(axis=0) - weights @ values]
    for counts in rng.multinomial(m, weights, size=draws):
        drawn_mix = estimate_prevalence(likely, shares[present], weights=counts, tolerance=_EM_TOLERANCE)
        redrawn = rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64)
        drawn_shares = np.bincount(place, weights=redrawn, minlength=len(mix)) / n
        redrawn *= (drawn_mix / np.maximum(drawn_shares, 1 / n))[place]
        statistics.append(counts @ values / m - redrawn @ values / redrawn.sum())
    return _largest_p_value(np.stack(statistics)), statistics[0]


def _shared_out(probabilities: Floats) -> Floats:
    above_zero = np.maximum(probabilities, 1e-12)
    shared: Floats = above_zero / above_zero.sum(axis=1, keepdims=True)
    return shared


def _largest_p_value(statistics: Floats) -> float:
    """Rank the first row among all by its largest absolute entry, columns scaled by their spread."""
    spread = statistics[1:].std(axis=0)
    scaled = np.divide(np.abs(statistics), spread, out=np.zeros_like(statistics), where=spread > 0)
    return _rank_p_value(scaled.max(axis=1))


def _rank_p_value(statistics: Floats) -> float:
    # A hair's breadth of rounding must not turn a tie into evidence.
    return float((statistics >= statistics[0] * (1 - 1e-9)).mean())
