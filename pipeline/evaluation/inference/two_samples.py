"""P-values that two groups of scans come from one population, without assuming a distribution.

Rates and shares are tested by scipy. `means_p_value` and `class_conditional_p_value` rank their own draws:
their statistic is in units of its spread over the draws, which `scipy.stats.permutation_test` does not offer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.arrays import Floats, Ints
from models.prevalence import estimate_prevalence

_EM_TOLERANCE = 1e-4
"""Of a share; far below the resolution of a period of scans."""


def means_p_value(reference: Floats, current: Floats, draws: int, rng: np.random.Generator) -> float:
    """Return the permutation p-value that no column's mean differs.

    The statistic is the largest absolute difference of means over columns, each in units of its own spread
    over permutations, so correlated columns cost no power.

    Parameters
    ----------
    reference, current : ndarray, shapes (n, d) and (m, d)
    draws : int
        Permutations; the p-value is at least 1 / (draws + 1).
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
    """
    table = np.stack([reference, current])
    method = stats.MonteCarloMethod(n_resamples=draws, rng=rng)
    found = stats.chi2_contingency(table[:, table.any(axis=0)], correction=False, method=method)
    return float(found.pvalue)


def rate_p_value(reference: NDArray[np.bool_], current: NDArray[np.bool_]) -> float:
    """Return Fisher's exact one-sided p-value that a rate has not risen."""
    table = [[group.sum(), len(group) - group.sum()] for group in (current, reference)]
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


def class_conditional_p_value(  # noqa: PLR0913 - two samples, each of three parts, and how to draw
    values: Floats,
    labels: Ints,
    probabilities: Floats,
    current_values: Floats,
    current_probabilities: Floats,
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, Floats]:
    """Return the p-value that scans of each class are distributed as before, whatever the class mix is now.

    The mix of the current scans is estimated by Saerens' EM, and their means are compared with those of the
    reference scans weighted to that mix. Its null distribution is drawn from the reference: as many scans as
    the current period has, by those weights, their mix estimated again, against a bootstrap draw of the
    reference.

    Parameters
    ----------
    values : ndarray, shape (n, d)
        Of the reference scans.
    labels : ndarray of int, shape (n,)
        Their true classes.
    probabilities : ndarray, shape (n, K)
        Theirs, calibrated at the class shares of the labels.
    current_values, current_probabilities : ndarray, shapes (m, d) and (m, K)

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
    # A class without reference scans cannot be compared; its probability is divided among the others.
    likely, current_likely = (_renormalised(p[:, present]) for p in (probabilities, current_probabilities))
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


def _renormalised(probabilities: Floats) -> Floats:
    above_zero = np.maximum(probabilities, 1e-12)
    shared: Floats = above_zero / above_zero.sum(axis=1, keepdims=True)
    return shared


def _largest_p_value(statistics: Floats) -> float:
    """Rank the first row among all by its largest absolute entry, columns scaled by their spread."""
    spread = statistics[1:].std(axis=0)
    scaled = np.divide(np.abs(statistics), spread, out=np.zeros_like(statistics), where=spread > 0)
    return _rank_p_value(scaled.max(axis=1))


def _rank_p_value(statistics: Floats) -> float:
    # Rounding must not turn a tie into evidence.
    return float((statistics >= statistics[0] * (1 - 1e-9)).mean())
