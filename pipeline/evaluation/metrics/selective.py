"""What is gained by answering only where the classifier is confident."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from models.arrays import Floats
from pipeline.evaluation.metrics.sample import Sample, on_sample, tied_groups


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Error share among the scans that are answered, for every threshold of confidence.

    Parameters
    ----------
    threshold : ndarray, shape (T,)
        Distinct confidences, falling; scans at or above one are answered.
    coverage : ndarray, shape (T,)
        Share of scans answered.
    risk : ndarray, shape (T,)
        Share of wrong answers among them.
    area : float
        Mean risk over answering the 1, 2, ... N most confident scans; scans of equal confidence in random
        order.
    """

    threshold: Floats
    coverage: Floats
    risk: Floats
    area: float


def risk_coverage(probabilities: ArrayLike, labels: ArrayLike) -> RiskCoverage:
    """Return the risk-coverage curve of answering by confidence.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
    labels : array_like of int, shape (N,)

    References
    ----------
    Geifman & El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017.

    Examples
    --------
    >>> curve = risk_coverage([[0.9, 0.1], [0.6, 0.4]], [0, 1])
    >>> curve.coverage, curve.risk, curve.area
    (array([0.5, 1. ]), array([0. , 0.5]), 0.25)
    """
    sample = Sample(probabilities, labels)
    weights = np.ones((1, len(sample)))
    answered, wrong = (sums[0].cumsum() for sums in _by_falling_confidence(sample, weights))
    thresholds = np.unique(sample.confidence)[::-1]
    area = float(area_over_draws(sample, weights)[0])
    return RiskCoverage(thresholds, answered / len(sample), wrong / answered, area)


def risk_coverage_area(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the area under the risk-coverage curve, see `RiskCoverage`."""
    return on_sample(area_over_draws, probabilities, labels)


def area_over_draws(sample: Sample, weights: Floats) -> Floats:
    """Return `risk_coverage_area` over draws.

    Among m scans of equal confidence with e wrong ones, after C scans with E wrong ones, the expected risk
    after j of them is (E + e j / m) / (C + j); its sum over j is closed in harmonic numbers.
    """
    members, wrong = _by_falling_confidence(sample, weights)
    answered, wrong_so_far = members.cumsum(axis=1), wrong.cumsum(axis=1)
    before, wrong_before = answered - members, wrong_so_far - wrong
    harmonic = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, int(answered.max()) + 1))))
    inverse_sum = np.diff(harmonic[answered.astype(np.int64)], axis=1, prepend=0.0)
    rate = wrong / np.maximum(members, 1)
    risks = (wrong_before - rate * before) * inverse_sum + rate * members
    return np.asarray(risks.sum(axis=1) / answered[:, -1])


def _by_falling_confidence(sample: Sample, weights: Floats) -> tuple[Floats, Floats]:
    """Return per draw the scans, and the wrong ones, at each distinct confidence from the highest down."""
    order, starts = tied_groups(-sample.confidence)
    in_order = weights[:, order]
    if len(starts) == len(order):  # all distinct, as nearly always: nothing to add up
        return in_order, in_order * (1 - sample.correct[order])
    members = np.add.reduceat(in_order, starts, axis=1)
    return members, np.add.reduceat(in_order * (1 - sample.correct[order]), starts, axis=1)
