"""Each class's probability recalibrated alone, the rows then renormalised; may change the predicted class."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import scipy

from .calibrator import Calibrator, Floats, Ints, check_whole, softmax


@dataclass(eq=False)
class OneVsRest(Calibrator):
    """Recalibrate each class against the rest, then divide rows by their sums.

    May change the predicted class. A class without a calibration scan keeps its uncalibrated probability. A
    row in which every class is found impossible becomes uniform.

    Attributes
    ----------
    present : ndarray, shape (n_classes,)
        1 where the class had a calibration scan, else 0.
    """

    present: Floats = field(default_factory=lambda: np.ones(1), init=False)

    @property
    def may_change_class(self) -> bool:
        """Whether the predicted class can change; it can."""
        return True

    def _fit(self, logits: Floats, labels: Ints) -> None:
        onehot = np.eye(logits.shape[1])[labels]
        self.present = onehot.max(axis=0)
        self._fit_classes(softmax(logits), onehot)

    def _transform(self, logits: Floats) -> Floats:
        raw = softmax(logits)
        scores = np.stack([self._transform_class(raw[:, k], k) for k in range(raw.shape[1])], axis=1)
        scores = np.where(self.present > 0, scores, raw)
        sums = scores.sum(axis=1, keepdims=True)
        uniform = np.full(scores.shape, 1.0 / scores.shape[1])
        probabilities: Floats = np.divide(scores, sums, out=uniform, where=sums > 0)
        return probabilities

    @abstractmethod
    def _fit_classes(self, probabilities: Floats, onehot: Floats) -> None:
        """Learn from uncalibrated probabilities and indicator rows, both of shape (n_scans, n_classes)."""

    @abstractmethod
    def _transform_class(self, probabilities: Floats, k: int) -> Floats:
        """Return class k's recalibrated probability, shape (n_scans,)."""


@dataclass(eq=False)
class Isotonic(OneVsRest):
    """Fit each class's frequency as a non-decreasing function of its uncalibrated probability.

    Linear between the knots, constant beyond them. It can answer 0 and 1, and it needs hundreds of scans. One
    scan is enough to fit. Scans of one class get that class and leave the others as they were; equal logits
    are answered with the shares of the classes that have scans.

    Attributes
    ----------
    inputs, outputs : ndarray, shape (n_classes, n_knots)
        Knots; rows with fewer are filled up with their last.

    References
    ----------
    Zadrozny & Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates, KDD 2002.
    """

    name: ClassVar[str] = "isotonic"
    inputs: Floats = field(default_factory=lambda: np.zeros((1, 1)), init=False)
    outputs: Floats = field(default_factory=lambda: np.zeros((1, 1)), init=False)

    def _fit_classes(self, probabilities: Floats, onehot: Floats) -> None:
        knots = [_isotonic_knots(p, y) for p, y in zip(probabilities.T, onehot.T, strict=True)]
        longest = max(len(x) for x, _ in knots)
        self.inputs = np.stack([np.pad(x, (0, longest - len(x)), mode="edge") for x, _ in knots])
        self.outputs = np.stack([np.pad(y, (0, longest - len(y)), mode="edge") for _, y in knots])

    def _transform_class(self, probabilities: Floats, k: int) -> Floats:
        found: Floats = np.interp(probabilities, self.inputs[k], self.outputs[k])
        return found


@dataclass(eq=False)
class Histogram(OneVsRest):
    """Answer with the class's frequency in the bin that its uncalibrated probability falls into.

    Bins are (low, high], 0 belongs to the first. An empty bin answers with its centre. One scan is enough to
    fit. Scans of one class get that class and leave the others as they were; equal logits are
    answered with the shares of the classes that have scans.

    Parameters
    ----------
    bins : int, default=10
    scheme : {"mass", "width"}, default="mass"
        Bins that hold equally many calibration scans, equal values together, or bins of equal width.

    Attributes
    ----------
    edges : ndarray, shape (n_classes, bins + 1)
    outputs : ndarray, shape (n_classes, bins)

    References
    ----------
    Zadrozny & Elkan, Obtaining Calibrated Probability Estimates from Decision Trees and Naive Bayesian
    Classifiers, ICML 2001, section 4.
    """

    name: ClassVar[str] = "histogram"
    bins: int = 10
    scheme: Literal["mass", "width"] = "mass"
    edges: Floats = field(default_factory=lambda: np.array([[0.0, 1.0]]), init=False)
    outputs: Floats = field(default_factory=lambda: np.zeros((1, 1)), init=False)

    def __post_init__(self) -> None:
        check_whole("bins", self.bins)
        if self.scheme not in ("mass", "width"):
            raise ValueError(f"scheme={self.scheme!r} is not valid. Expected 'mass' or 'width'.")

    def _fit_classes(self, probabilities: Floats, onehot: Floats) -> None:
        self.edges = np.stack([self._edges(column) for column in probabilities.T])
        self.outputs = (self.edges[:, :-1] + self.edges[:, 1:]) / 2
        for k, edges in enumerate(self.edges):
            place = np.searchsorted(edges[1:-1], probabilities[:, k], side="left")
            counts = np.bincount(place, minlength=self.bins)
            hits = np.bincount(place, weights=onehot[:, k], minlength=self.bins)
            self.outputs[k] = np.where(counts > 0, hits / np.maximum(counts, 1), self.outputs[k])

    def _edges(self, values: Floats) -> Floats:
        if self.scheme == "width":
            return np.linspace(0.0, 1.0, self.bins + 1)
        last = np.arange(1, self.bins) * len(values) // self.bins - 1
        return np.concatenate([[0.0], np.sort(values)[np.maximum(last, 0)], [1.0]])

    def _transform_class(self, probabilities: Floats, k: int) -> Floats:
        found: Floats = self.outputs[k][np.searchsorted(self.edges[k, 1:-1], probabilities, side="left")]
        return found


def _isotonic_knots(probabilities: Floats, hits: Floats) -> tuple[Floats, Floats]:
    """Return where the isotonic fit bends: scans of equal probability count as one, of their mean."""
    values, place, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=hits) / counts
    fitted = scipy.optimize.isotonic_regression(means, weights=counts.astype(np.float64)).x
    # Within a level only the first and the last value matter.
    level_changes = np.diff(fitted) != 0
    bends = np.concatenate([[True], level_changes]) | np.concatenate([level_changes, [True]])
    return values[bends], fitted[bends]
