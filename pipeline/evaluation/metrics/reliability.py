"""The numbers of a reliability diagram; drawing is someone else's work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from models.arrays import Floats, Ints
from pipeline.errors import InputError
from pipeline.evaluation.metrics.calibration_error import DEFAULT_BINS, Scheme, bin_edges, bin_index
from pipeline.evaluation.metrics.sample import Sample


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Stated probability against how often it came true, in bins ``(edges[b], edges[b + 1]]``.

    Parameters
    ----------
    name : str
        ``"top label"``, or the class.
    edges : ndarray, shape (bins + 1,)
    counts : ndarray of int, shape (bins,)
        Scans in each bin.
    confidence, accuracy : ndarray, shape (bins,)
        Mean stated probability and share that came true; NaN in an empty bin.
    low, high : ndarray, shape (bins,)
        Wilson interval of `accuracy`, counting scans as independent; 0 to 1 in an empty bin.
    """

    name: str
    edges: Floats
    counts: Ints
    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats

    @property
    def gap(self) -> Floats:
        """Confidence minus accuracy: positive where overconfident."""
        return self.confidence - self.accuracy


def reliability_curve(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    class_index: int | None = None,
    name: str | None = None,
    bins: int = DEFAULT_BINS,
    scheme: Scheme = "width",
) -> ReliabilityCurve:
    """Return the reliability of the predicted class, or of one class's probability.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
    labels : array_like of int, shape (N,)
    class_index : int, optional
        The class whose probability is judged; the predicted class's where not given.
    name : str, optional
        Of the curve.
    bins, scheme
        See `pipeline.evaluation.metrics.calibration_error.bin_edges`.

    Raises
    ------
    InputError
        If there is no such class.

    Examples
    --------
    >>> curve = reliability_curve([[0.8, 0.2], [0.7, 0.3], [0.1, 0.9]], [0, 1, 1], bins=2)
    >>> curve.counts, curve.confidence[1].round(2), curve.accuracy[1].round(2)
    (array([0, 3]), np.float64(0.8), np.float64(0.67))
    """
    sample = Sample(probabilities, labels)
    if class_index is None:
        return _curve(name or "top label", sample.confidence, sample.correct, bins, scheme)
    if not 0 <= class_index < sample.num_classes:
        raise InputError(f"The class index is {class_index}, expected 0 to {sample.num_classes - 1}")
    stated, came_true = sample.probabilities[:, class_index], sample.onehot[:, class_index]
    return _curve(name or f"class {class_index}", stated, came_true, bins, scheme)


def reliability_curves(
    probabilities: ArrayLike,
    labels: ArrayLike,
    class_names: tuple[str, ...],
    *,
    bins: int = DEFAULT_BINS,
    scheme: Scheme = "width",
) -> tuple[ReliabilityCurve, ...]:
    """Return the curve of the predicted class, and after it one for each class."""
    rest = (
        reliability_curve(probabilities, labels, class_index=k, name=name, bins=bins, scheme=scheme)
        for k, name in enumerate(class_names)
    )
    return (reliability_curve(probabilities, labels, bins=bins, scheme=scheme), *rest)


def wilson_interval(successes: ArrayLike, trials: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the Wilson score interval of a share; 0 to 1 without trials.

    References
    ----------
    Wilson, Journal of the American Statistical Association 22, 1927.

    Examples
    --------
    >>> low, high = wilson_interval(34, 40)
    >>> round(float(low), 3), round(float(high), 3)
    (0.709, 0.929)
    """
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    z2 = ndtri((1 + level) / 2) ** 2
    centre = (k + z2 / 2) / (n + z2)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = np.sqrt(z2) / (n + z2) * np.sqrt(np.where(n > 0, k * (n - k) / n, 0) + z2 / 4)
    # None or all of the trials: the bound is exactly 0 or 1, which rounding would miss.
    return np.where(k > 0, centre - half, 0.0), np.where(k < n, centre + half, 1.0)


def _curve(name: str, stated: Floats, came_true: Floats, bins: int, scheme: Scheme) -> ReliabilityCurve:
    edges = bin_edges(stated, bins, scheme)
    index = bin_index(stated, edges)
    counts = np.bincount(index, minlength=bins)
    right = np.bincount(index, came_true, minlength=bins)
    low, high = wilson_interval(right, counts)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(index, stated, minlength=bins) / counts
        return ReliabilityCurve(name, edges, counts, confidence, right / counts, low, high)
