"""Probabilities and labels that were checked once, and the weights under which metrics are taken.

Every metric has one implementation, on a `Sample` and an array of weights (draws, N): one row of ones is the
sample itself, a row of counts is a bootstrap draw. So an interval measures exactly what the table reports.
Calibration errors also take a `Redrawn` sample, whose labels differ from draw to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from models.arrays import Floats, Ints
from pipeline.errors import InputError

_ROW_SUM_TOLERANCE = 1e-4
"""Softmax rows in float32 sum to one within about 1e-6; rounding to four digits is still a mistake."""
_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True, eq=False, init=False)
class Sample:
    """Class probabilities of scans with their true classes.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
        Each row sums to one.
    labels : array_like of int, shape (N,)
        True class indices below K.

    Raises
    ------
    InputError
        If the shapes do not fit, a row is no distribution, a label is no class, or N = 0.

    Examples
    --------
    >>> sample = Sample([[0.2, 0.8], [0.6, 0.4]], [1, 1])
    >>> sample.confidence, sample.correct
    (array([0.8, 0.6]), array([1., 0.]))
    """

    probabilities: Floats
    labels: Ints

    def __init__(self, probabilities: ArrayLike, labels: ArrayLike) -> None:
        object.__setattr__(self, "probabilities", _checked_probabilities(probabilities))
        object.__setattr__(self, "labels", _checked_labels(labels, self.probabilities.shape))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """K."""
        return int(self.probabilities.shape[1])

    @cached_property
    def predicted(self) -> Ints:
        """Most probable class of each scan, the first one of equals."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def confidence(self) -> Floats:
        """Probability of the most probable class."""
        return np.asarray(np.take_along_axis(self.probabilities, self.predicted[:, None], axis=1)[:, 0])

    @cached_property
    def correct(self) -> Floats:
        """1 where the most probable class is the true one, else 0; of the shape of the labels."""
        return np.asarray(self.predicted == self.labels, dtype=np.float64)

    def members(self, k: int) -> Floats:
        """Return 1 where class k is the true one, else 0; of the shape of the labels."""
        return np.asarray(self.labels == k, dtype=np.float64)

    @cached_property
    def true_probability(self) -> Floats:
        """Probability that each scan's true class was given."""
        return np.take_along_axis(self.probabilities, self.labels[:, None], axis=1)[:, 0]

    @cached_property
    def onehot(self) -> Floats:
        """Labels as indicator rows, shape (N, K)."""
        return np.asarray(np.eye(self.num_classes)[self.labels])


class Redrawn(Sample):
    """The same probabilities with labels (draws, N) drawn from them: scans of a perfect classifier.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        Checked already.
    labels : ndarray of int, shape (draws, N)
    """

    def __init__(self, probabilities: Floats, labels: Ints) -> None:
        object.__setattr__(self, "probabilities", probabilities)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.probabilities)


def redraw(probabilities: ArrayLike, draws: int, seed: int) -> Iterator[Redrawn]:
    """Yield samples whose labels are drawn from the probabilities: `draws` in all, in chunks."""
    array = _checked_probabilities(probabilities)
    bounds = array.cumsum(axis=1)[:, :-1]
    rng, at_once = np.random.default_rng(seed), max(1, _CELLS_AT_ONCE // array.size)
    for start in range(0, draws, at_once):
        chance = rng.random((min(at_once, draws - start), len(array), 1))
        yield Redrawn(array, (chance > bounds).sum(axis=2))


Weighted = Callable[[Sample, Floats], Floats]
"""A metric over draws: weights (draws, N) of whole numbers to values (draws,)."""


def on_sample(metric: Weighted, probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return a metric of the sample itself: one draw that holds each scan once."""
    sample = Sample(probabilities, labels)
    return float(metric(sample, np.ones((1, len(sample))))[0])


def mean_over_draws(weights: Floats, values: Floats) -> Floats:
    """Return the weighted mean of per-scan values (N,) or (N, C) in each draw."""
    totals = weights.sum(axis=1)
    sums: Floats = weights @ values
    return np.asarray(sums / (totals if values.ndim == 1 else totals[:, None]))


def sums_by_group(values: Floats, group: Ints, groups: int) -> Floats:
    """Return the sums of values (draws, N) within groups, shape (draws, groups)."""
    n = len(group)
    scatter = sparse.csr_array((np.ones(n), group, np.arange(n + 1)), shape=(n, groups))
    return np.asarray(values @ scatter)


def tied_groups(values: Floats) -> tuple[Ints, Ints]:
    """Return the order that sorts values upwards, and where in it each run of equal values starts."""
    order = np.argsort(values, kind="stable")
    in_order = values[order]
    starts = np.flatnonzero(np.concatenate(([True], in_order[1:] != in_order[:-1])))
    return order, starts


def _checked_probabilities(probabilities: ArrayLike) -> Floats:
    array = np.asarray(probabilities, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2:
        raise InputError(
            f"Probabilities have shape {array.shape}, expected (scans, classes) with at least one scan and "
            "two classes"
        )
    if not (array.min() >= 0 and array.max() <= 1 + _ROW_SUM_TOLERANCE):  # NaN fails both
        raise InputError(
            f"Probabilities range from {array.min():g} to {array.max():g}, expected 0 to 1",
            hint="pass a calibrator's output, never logits",
        )
    gap = np.abs(array @ np.ones(array.shape[1]) - 1)
    worst = int(gap.argmax())
    if gap[worst] > _ROW_SUM_TOLERANCE:
        raise InputError(f"The probabilities sum to {array[worst].sum():g}, expected 1", where=f"row {worst}")
    return array


def _checked_labels(labels: ArrayLike, shape: tuple[int, ...]) -> Ints:
    array = np.asarray(labels)
    if array.shape != shape[:1]:
        raise InputError(f"Labels have shape {array.shape}, expected {shape[:1]}: one per scan")
    if array.dtype.kind not in "iu":
        raise InputError(
            f"Labels are of type {array.dtype}, expected class indices of an integer type",
            hint="map class names to 0 ... K - 1 first",
        )
    if array.min() < 0 or array.max() >= shape[1]:
        raise InputError(f"Labels range from {array.min()} to {array.max()}, expected 0 to {shape[1] - 1}")
    return array.astype(np.int64, copy=False)
