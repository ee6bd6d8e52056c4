"""Sets of classes that contain the true one with a stated probability, for every class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.arrays import Floats

_ROUNDING = 1e-9
"""Tolerance, so that 100 * 0.55 does not round up to 56."""


@dataclass(frozen=True)
class ConformalSets:
    """Class-conditional (Mondrian) conformal prediction sets with the score 1 - p of the class.

    Among exchangeable scans of class k, the set contains k with probability `coverage` at least, whatever the
    classifier: the threshold of k is the ``ceil((n_k + 1) coverage)``-th smallest score of its n_k
    calibration scans. With too few scans, below 9 for 90 %, no score is large enough, the threshold is
    infinite and k is in every set: valid but not informative.

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
    [0.2, 0.4]
    >>> found.sets([[0.85, 0.15], [0.35, 0.65]])
    array([[ True, False],
           [False,  True]])
    """

    thresholds: tuple[float, ...]
    counts: tuple[int, ...]
    coverage: float

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage is {self.coverage:g}. Expected a number between 0 and 1.")
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
            If the shapes do not fit, a label is no class, or coverage lies outside (0, 1).
        """
        p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
        if p.ndim != 2 or y.shape != p.shape[:1]:
            raise ValueError(
                f"Probabilities have shape {p.shape} and labels {y.shape}. "
                "Expected (scans, classes) and (scans,)."
            )
        if len(y) and not (y.min() >= 0 and y.max() < p.shape[1]):
            raise ValueError(f"Labels range from {y.min()} to {y.max()}. Expected 0 to {p.shape[1] - 1}.")
        scores = [1 - p[y == k, k] for k in range(p.shape[1])]
        return cls(
            thresholds=tuple(_threshold(s, coverage) for s in scores),
            counts=tuple(len(s) for s in scores),
            coverage=float(coverage),
        )

    def sets(self, probabilities: ArrayLike, shown: ArrayLike | None = None) -> NDArray[np.bool_]:
        """Return which classes are in each scan's set: the most likely class always is.

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
            If the number of classes differs from that of `fit`.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        if p.ndim != 2 or p.shape[1] != len(self.thresholds):
            raise ValueError(
                f"Probabilities have shape {p.shape}. Expected (scans, {len(self.thresholds)}) as in `fit`."
            )
        inside = 1 - p <= np.array(self.thresholds)
        stated = p if shown is None else np.asarray(shown, dtype=np.float64)
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


def _threshold(scores: Floats, coverage: float) -> float:
    rank = math.ceil((len(scores) + 1) * coverage - _ROUNDING)
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])
