"""Sets of classes that contain the true one with a stated probability, for every class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from models.arrays import Floats, Ints

_ROUNDING = 1e-9
"""Tolerance, so that 100 * 0.55 does not round up to 56."""
_SMALLEST = 1e-12
_BEYOND_ONE = 1e-4
"""How far rounding may take a probability above 1."""
_PULL = 20
"""Scans of a class at which its own threshold and the one of all classes weigh the same."""


@dataclass(frozen=True)
class ConformalSets:
    """Prediction sets that hold the true class of a share `coverage` of each class's scans, at least.

    A class is in the set if its score, 1 - p of the class, is within the class's threshold, and the most
    likely class always is: a set cannot contradict the finding, and common classes can be held more often
    than promised. The threshold of class k is the ``ceil((n_k + 1) coverage)``-th smallest score of its n_k
    calibration scans: then the sets hold k in the share `coverage` at least of exchangeable scans of k,
    whatever the classifier. With fewer scans than that needs, 9 at 90 %, the largest score takes its place.
    Either is pulled towards the threshold that all scans have in common, ``w own + (1 - w) common`` with
    ``w = n_k / (n_k + 20)``, where that makes it larger.

    The common threshold is one of the odds of a class over the odds of its share of the scans, which is
    another score for each class. One score for all would be what the common classes need: with 45 scans of
    the phantom, five of them AD, the pull to it left 40 % of AD in the sets at 80 %. As it is, every class of
    exchangeable scans is held as often as stated at 80 and 90 %, on average over calibration sets, from five
    scans a class on. At 95 % a class of fewer than 19 scans is held in 92 to 95 %. Where all scans together
    are too few for a threshold, all classes are in every set. Held-out scores of cross-fitting are of other
    networks than the average that is used, so with them coverage is approximate: measured in
    tests/benchmarks/RESULTS.md.

    Thresholds in bundles of older versions have no pull and may be infinite; they are used as they are.

    Parameters
    ----------
    thresholds : tuple of float, length K
        Largest score 1 - p_k at which class k is in the set.
    counts : tuple of int, length K
        Calibration scans of each class.
    coverage : float
        In (0, 1).

    References
    ----------
    Vovk, Conditional validity of inductive conformal predictors, 2012; Sadinle, Lei & Wasserman, Least
    Ambiguous Set-Valued Classifiers with Bounded Error Levels, JASA 2019.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    >>> found = ConformalSets.fit(p, [0, 0, 1, 1], coverage=0.6)
    >>> [round(t, 2) for t in found.thresholds]
    [0.29, 0.4]
    >>> found.sets([[0.85, 0.15], [0.35, 0.65]])
    array([[ True, False],
           [False,  True]])
    """

    thresholds: tuple[float, ...]
    counts: tuple[int, ...]
    coverage: float

    def __post_init__(self) -> None:
        _check_coverage(self.coverage)
        if len(self.thresholds) != len(self.counts):
            raise ValueError(
                f"There are {len(self.thresholds)} thresholds and {len(self.counts)} counts. "
                "Expected one of each per class."
            )

    @classmethod
    def fit(cls, probabilities: ArrayLike, labels: ArrayLike, coverage: float) -> ConformalSets:
        """Return the sets of calibration scans.

        Parameters
        ----------
        probabilities : array_like, shape (N, K)
            Calibrated, of scans that neither the network nor its choice has seen. Where the calibrator was
            fitted on the same scans the guarantee is approximate, nearly exact for a calibrator of few
            parameters.
        labels : array_like of int, shape (N,)
        coverage : float
            In (0, 1), of each class.

        Raises
        ------
        ValueError
            If the shapes do not fit, a probability is none, a label is no class, or coverage lies outside
            (0, 1).
        """
        _check_coverage(coverage)
        p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
        if p.ndim != 2 or y.shape != p.shape[:1]:
            raise ValueError(
                f"Probabilities have shape {p.shape} and labels {y.shape}. "
                "Expected (scans, classes) and (scans,)."
            )
        _check_probabilities(p)
        y = _class_indices(y, p.shape[1])
        counts = np.bincount(y, minlength=p.shape[1])
        # Half a scan more of each class, so that one without scans has a share too.
        odds = logit((counts + 0.5) / (len(y) + 0.5 * len(counts)))
        scores = 1 - p[np.arange(len(y)), y]
        common = _quantile(logit(np.clip(scores, _SMALLEST, 1 - _SMALLEST)) + odds[y], coverage)
        common_of = np.full(len(odds), math.inf) if math.isinf(common) else expit(common - odds)
        thresholds = [_pulled(scores[y == k], float(t), coverage) for k, t in enumerate(common_of)]
        return cls(tuple(thresholds), tuple(counts.tolist()), float(coverage))

    def sets(self, probabilities: ArrayLike, shown: ArrayLike | None = None) -> NDArray[np.bool_]:
        """Return which classes are in each scan's set: the most likely class always is.

        The thresholds hold at any prevalence of the classes as long as the scans of a class are alike, so
        they are applied at the prevalence of `fit`; another one decides which class is the most likely.

        Parameters
        ----------
        probabilities : array_like, shape (N, K)
            At the prevalence of `fit`: thresholds are those of its scores.
        shown : array_like, shape (N, K), optional
            Probabilities whose most likely class is in the set, where that is another prevalence's.

        Returns
        -------
        ndarray of bool, shape (N, K)

        Raises
        ------
        ValueError
            If the number of classes differs from that of `fit`, a probability is none, or `shown` is not of
            the same shape.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        if p.ndim != 2 or p.shape[1] != len(self.thresholds):
            raise ValueError(
                f"Probabilities have shape {p.shape}. Expected (scans, {len(self.thresholds)}) as in `fit`."
            )
        stated = p if shown is None else np.asarray(shown, dtype=np.float64)
        if stated.shape != p.shape:
            raise ValueError(f"The shown probabilities have shape {stated.shape}. Expected {p.shape}.")
        _check_probabilities(p)
        _check_probabilities(stated)
        inside = 1 - p <= np.array(self.thresholds)
        inside[np.arange(len(p)), stated.argmax(axis=1)] = True
        return np.asarray(inside)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads; JSON has no infinity, so an infinite threshold is None."""
        return {
            "thresholds": [None if math.isinf(t) else t for t in self.thresholds],
            "counts": list(self.counts),
            "coverage": self.coverage,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> ConformalSets:
        """Return what `to_dict` wrote."""
        return cls(
            thresholds=tuple(math.inf if t is None else float(t) for t in stored["thresholds"]),
            counts=tuple(int(n) for n in stored["counts"]),
            coverage=float(stored["coverage"]),
        )


def _check_coverage(coverage: float) -> None:
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage:g}. Expected a number between 0 and 1.")


def _check_probabilities(p: Floats) -> None:
    if not ((p >= 0) & (p <= 1 + _BEYOND_ONE)).all():  # NaN is neither
        raise ValueError(f"Probabilities range from {p.min():g} to {p.max():g}. Expected 0 to 1.")


def _class_indices(labels: NDArray[Any], classes: int) -> Ints:
    if not labels.size:  # an empty list has no integer type
        return np.zeros(0, dtype=np.int64)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"Labels are {labels.dtype}. Expected integers.")
    if not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"Labels range from {labels.min()} to {labels.max()}. Expected 0 to {classes - 1}.")
    return labels.astype(np.int64)


def _pulled(own: Floats, common: float, coverage: float) -> float:
    threshold = _quantile(own, coverage)
    if math.isinf(threshold):
        threshold = float(own.max(initial=0.0))
    weight = len(own) / (len(own) + _PULL)
    return max(threshold, weight * threshold + (1 - weight) * common)


def _quantile(scores: Floats, coverage: float) -> float:
    rank = math.ceil((len(scores) + 1) * coverage - _ROUNDING)
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])
