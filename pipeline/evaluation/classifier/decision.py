"""When to answer: the operating point, and how often similar confidences were right on held-out scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pipeline.errors import InputError
from pipeline.evaluation.metrics.reliability import wilson_interval
from pipeline.evaluation.metrics.sample import Sample
from pipeline.evaluation.metrics.selective import risk_coverage


def choose_operating_point(
    probabilities: ArrayLike, labels: ArrayLike, max_risk: float, *, certainty: float | None = None
) -> float:
    """Return the smallest confidence from which on at most a share `max_risk` of scans is wrong.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
        Calibrated, of calibration scans.
    labels : array_like of int, shape (N,)
    max_risk : float
        Tolerated share of wrong answers among those given, in (0, 1).
    certainty : float, optional
        Ask that the upper confidence bound of the error share at this level (Clopper-Pearson, as 0.95) is
        within `max_risk`, not the share itself.

    Returns
    -------
    float
        One of the confidences seen; scans below it are referred. 1.0 where no confidence qualifies: every
        scan is referred, but for those of a confidence of exactly one.

    Raises
    ------
    InputError
        If `max_risk` or `certainty` lies outside (0, 1).

    Notes
    -----
    The point is chosen by its errors, so their share at it is optimistic, with few scans very much: a single
    confident and right scan is a share of zero. `describe_operating_point` gives the interval to print beside
    it; `certainty` chooses by that interval.

    Examples
    --------
    >>> p = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]
    >>> choose_operating_point(p, [0, 0, 0, 1], max_risk=0.2)
    0.7
    >>> choose_operating_point(p, [1, 1, 1, 1], max_risk=0.2)
    1.0
    """
    for name, share in (("max_risk", max_risk), ("certainty", certainty)):
        if share is not None and not 0 < share < 1:
            raise InputError(f"{name} is {share}, expected above 0 and below 1", where="the operating point")
    curve = risk_coverage(probabilities, labels)
    risk = curve.risk
    if certainty is not None:
        answered = np.round(curve.coverage * len(np.asarray(labels)))
        wrong = np.round(risk * answered)
        risk = np.where(wrong < answered, stats.beta.ppf(certainty, wrong + 1, answered - wrong), 1.0)
    qualifies = np.flatnonzero(risk <= max_risk + 1e-12)
    return float(curve.threshold[qualifies[-1]]) if len(qualifies) else 1.0


@dataclass(frozen=True)
class OperatingPoint:
    """What happens at a threshold of confidence.

    Parameters
    ----------
    scans, answered, wrong : int
        Scans judged, those at or above the threshold, and the wrong ones among these.
    coverage : float
        Share answered.
    risk, low, high : float
        Share of the answered that is wrong, with its 95 % Clopper-Pearson interval; NaN, 0 and 1 where none
        is answered.
    """

    threshold: float
    scans: int
    answered: int
    wrong: int
    coverage: float
    risk: float
    low: float
    high: float


def describe_operating_point(probabilities: ArrayLike, labels: ArrayLike, threshold: float) -> OperatingPoint:
    """Return how many scans are answered at a threshold and how many of these are wrong, with an interval.

    Examples
    --------
    >>> point = describe_operating_point([[0.9, 0.1], [0.6, 0.4]], [0, 1], threshold=0.8)
    >>> point.answered, point.wrong, point.high
    (1, 0, 0.975)
    """
    sample = Sample(probabilities, labels)
    given = sample.confidence >= threshold
    answered = int(given.sum())
    wrong = answered - int(sample.correct[given].sum())
    risk, low, high = float("nan"), 0.0, 1.0
    if answered:
        interval = stats.binomtest(wrong, answered).proportion_ci(0.95, method="exact")
        risk, low, high = wrong / answered, float(interval.low), float(interval.high)
    return OperatingPoint(
        float(threshold), len(sample), answered, wrong, answered / len(sample), risk, low, high
    )


@dataclass(frozen=True)
class LikenessCounts:
    """Held-out scans that were rated about as confidently, and how many of them were right.

    Parameters
    ----------
    low, high : float
        Confidences in ``(low, high]``; 0 belongs to the first.
    """

    low: float
    high: float
    scans: int
    right: int

    def __str__(self) -> str:
        return (
            f"of {self.scans} held-out scans rated {self.low:.0%} to {self.high:.0%}, "
            f"{self.right} {'was' if self.right == 1 else 'were'} right"
        )


def likeness_counts(
    probabilities: ArrayLike, labels: ArrayLike, confidence: float, width: float = 0.1
) -> LikenessCounts:
    """Return how often scans rated about as confidently as one scan were right.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
        Of held-out scans.
    labels : array_like of int, shape (N,)
    confidence : float
        Of the scan to be explained, in [0, 1].
    width : float
        Of the bins, counted from 0; the last one ends at 1.

    Raises
    ------
    InputError
        If `confidence` lies outside [0, 1] or `width` outside (0, 1].

    Examples
    --------
    >>> print(likeness_counts([[0.85, 0.15], [0.82, 0.18], [0.6, 0.4]], [0, 1, 0], confidence=0.87))
    of 2 held-out scans rated 80% to 90%, 1 was right
    """
    if not 0 <= confidence <= 1:
        raise InputError(f"The confidence is {confidence}, expected 0 to 1")
    if not 0 < width <= 1:
        raise InputError(f"The width of the bins is {width}, expected above 0 and at most 1")
    sample = Sample(probabilities, labels)
    bins = int(np.ceil(1 / width - 1e-9))
    edges = np.minimum(np.round(np.arange(bins + 1) * width, 12), 1.0)
    index = np.searchsorted(edges[1:-1], sample.confidence, side="left")
    own = int(np.searchsorted(edges[1:-1], confidence, side="left"))
    alike = index == own
    return LikenessCounts(
        float(edges[own]), float(edges[own + 1]), int(alike.sum()), int(sample.correct[alike].sum())
    )


@dataclass(frozen=True)
class ClassCoverage:
    """How often the prediction sets of one class's scans hold that class.

    Parameters
    ----------
    mean_size : float
        Classes in a set, mean over the scans of the class; NaN without scans.
    low, high : float
        95 % Wilson interval of the coverage; 0 and 1 without scans.
    """

    name: str
    scans: int
    covered: int
    mean_size: float
    low: float
    high: float


def coverage_by_class(
    sets: ArrayLike, labels: ArrayLike, class_names: tuple[str, ...]
) -> tuple[ClassCoverage, ...]:
    """Return the coverage of prediction sets on held-out scans, class by class.

    Parameters
    ----------
    sets : array_like of bool, shape (N, K)
        As from `models.conformal.ConformalSets.sets`.
    labels : array_like of int, shape (N,)
    class_names : tuple of str, length K

    Raises
    ------
    InputError
        If the shapes do not fit, or a label is no class.

    Examples
    --------
    >>> found = coverage_by_class([[True, False], [True, True], [True, False]], [0, 0, 1], ("CN", "AD"))
    >>> [(c.name, c.covered, c.scans, c.mean_size) for c in found]
    [('CN', 2, 2, 1.5), ('AD', 0, 1, 1.0)]
    """
    held, y = np.asarray(sets, dtype=bool), np.asarray(labels)
    if held.shape != (len(y), len(class_names)):
        raise InputError(f"The sets have shape {held.shape}, expected {(len(y), len(class_names))}")
    if len(y) and not (y.min() >= 0 and y.max() < len(class_names)):
        raise InputError(f"Labels range from {y.min()} to {y.max()}, expected 0 to {len(class_names) - 1}")
    found = []
    for k, name in enumerate(class_names):
        own = held[y == k]
        low, high = wilson_interval(own[:, k].sum(), len(own))
        size = float(own.sum(axis=1).mean()) if len(own) else float("nan")
        found.append(ClassCoverage(name, len(own), int(own[:, k].sum()), size, float(low), float(high)))
    return tuple(found)


@dataclass(frozen=True)
class SetSizes:
    """How informative prediction sets are.

    Parameters
    ----------
    mean_size : float
        Classes in a set.
    referred : float
        Share of the sets that are too large for an answer.
    """

    scans: int
    mean_size: float
    referred: float


def set_sizes(sets: ArrayLike, largest_set: int) -> SetSizes:
    """Return the mean size of prediction sets (N, K) and the share of those above `largest_set` classes.

    NaN for both where there is no scan.

    Examples
    --------
    >>> set_sizes([[True, False, False], [True, True, False], [True, True, True]], largest_set=2)
    SetSizes(scans=3, mean_size=2.0, referred=0.3333333333333333)
    """
    sizes = np.asarray(sets, dtype=bool).sum(axis=1)
    if not len(sizes):
        return SetSizes(0, float("nan"), float("nan"))
    return SetSizes(len(sizes), float(sizes.mean()), float((sizes > largest_set).mean()))
