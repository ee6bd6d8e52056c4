"""How good probabilities are: functions of (probabilities (N, K), labels (N,)), and those reported.

`METRICS` maps a name to its function and `WEIGHTED` to the same metric over bootstrap draws; all names of
`calibration_error`, `kernel_calibration` and `reliability` can be imported from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.errors import InputError
from pipeline.evaluation import calibration_error as binned
from pipeline.evaluation import kernel_calibration as kernel
from pipeline.evaluation import selective
from pipeline.evaluation.calibration_error import (
    bin_edges,
    bin_index,
    classwise_ece,
    expected_calibration_error,
    ks_calibration_error,
    maximum_calibration_error,
    overconfidence_error,
)
from pipeline.evaluation.kernel_calibration import ece_kde, smooth_ece
from pipeline.evaluation.reliability import ReliabilityCurve, reliability_curve, reliability_curves
from pipeline.evaluation.sample import (
    Floats,
    Sample,
    Weighted,
    mean_over_draws,
    on_sample,
    tied_groups,
)
from pipeline.evaluation.selective import RiskCoverage, risk_coverage, risk_coverage_area

__all__ = [
    "HIGHER_IS_BETTER",
    "METRICS",
    "WEIGHTED",
    "BrierParts",
    "ReliabilityCurve",
    "RiskCoverage",
    "accuracy",
    "balanced_accuracy",
    "bin_edges",
    "bin_index",
    "brier_decomposition",
    "brier_score",
    "classwise_ece",
    "ece_kde",
    "excess_nll",
    "expected_calibration_error",
    "ks_calibration_error",
    "macro_auroc",
    "macro_f1",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "ood_auroc",
    "overconfidence_error",
    "per_class_recall",
    "posterior_error",
    "reliability_curve",
    "reliability_curves",
    "risk_coverage",
    "risk_coverage_area",
    "smooth_ece",
]

PROBABILITY_FLOOR = float(np.finfo(np.float64).eps)
"""Probabilities below 2.2e-16 count as that, so one scan costs at most 36.04 nats; as in scikit-learn."""


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean of ``-log p`` of the true classes, in nats, with p at least `PROBABILITY_FLOOR`.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
    labels : array_like of int, shape (N,)

    Raises
    ------
    InputError
        If the arrays are no probabilities and class indices of equal length; so do all metrics.

    Examples
    --------
    >>> round(negative_log_likelihood([[0.5, 0.5], [1.0, 0.0]], [0, 0]), 4)
    0.3466
    """
    return on_sample(_nll, probabilities, labels)


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the squared distance to the indicator of the true class: sum over classes, mean over scans.

    References
    ----------
    Brier, Monthly Weather Review 78, 1950. From 0 to 2; scikit-learn's binary score is half of it.
    """
    return on_sample(_brier, probabilities, labels)


def accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of scans whose most probable class, the first one of equals, is the true one."""
    return on_sample(_accuracy, probabilities, labels)


def balanced_accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean recall over the classes that a scan belongs to."""
    return on_sample(_balanced_accuracy, probabilities, labels)


def macro_f1(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean over classes of the harmonic mean of precision and recall.

    Over the classes that are true or predicted somewhere; one that is predicted but never true counts as 0.
    """
    return on_sample(_macro_f1, probabilities, labels)


def macro_auroc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean over classes of the area under the one-vs-rest ROC curve, ties counting half.

    Over the classes that have both members and non-members; NaN where no class has. In a bootstrap draw
    that misses a class the mean is over the others.
    """
    return on_sample(_macro_auroc, probabilities, labels)


def per_class_recall(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the recall of each class, shape (K,); NaN for a class without scans."""
    sample = Sample(probabilities, labels)
    with np.errstate(invalid="ignore"):
        return np.asarray(sample.correct @ sample.onehot / sample.onehot.sum(axis=0))


@dataclass(frozen=True)
class BrierParts:
    """The Brier score as reliability - resolution + uncertainty + within_bin.

    Parameters
    ----------
    reliability : float
        Squared gap between stated and observed probability, 0 when calibrated.
    resolution : float
        How far the bins' outcomes lie from the base rates; larger is better.
    uncertainty : float
        The score of stating the base rates; a property of the scans alone.
    within_bin : float
        What binning hides: 0 when all scans of a bin share one probability.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_bin: float

    @property
    def score(self) -> float:
        """The Brier score."""
        return self.reliability - self.resolution + self.uncertainty + self.within_bin


def brier_decomposition(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = binned.DEFAULT_BINS
) -> BrierParts:
    """Return the parts of the Brier score, each summed over classes, over bins of equal width.

    References
    ----------
    Murphy, Journal of Applied Meteorology 12, 1973; the within-bin part: Stephenson et al., Weather and
    Forecasting 23, 2008.

    Examples
    --------
    >>> parts = brier_decomposition([[0.8, 0.2], [0.8, 0.2]], [0, 1])
    >>> round(parts.reliability, 3), round(parts.resolution, 3), round(parts.uncertainty, 3)
    (0.18, 0.0, 0.5)
    """
    sample = Sample(probabilities, labels)
    edges = bin_edges(np.empty(0), bins, "width")
    reliability = resolution = 0.0
    base = sample.onehot.mean(axis=0)
    for k in range(sample.num_classes):
        index = bin_index(sample.probabilities[:, k], edges)
        counts = np.bincount(index, minlength=bins)
        held = counts > 0
        stated = np.bincount(index, sample.probabilities[:, k], bins)[held] / counts[held]
        observed = np.bincount(index, sample.onehot[:, k], bins)[held] / counts[held]
        share = counts[held] / len(sample)
        reliability += float(share @ (stated - observed) ** 2)
        resolution += float(share @ (observed - base[k]) ** 2)
    uncertainty = float((base * (1 - base)).sum())
    score = float(_brier(sample, np.ones((1, len(sample))))[0])
    return BrierParts(reliability, resolution, uncertainty, score - (reliability - resolution + uncertainty))


def ood_auroc(scores_in: ArrayLike, scores_out: ArrayLike) -> float:
    """Return the probability that a scan from outside scores above one from inside, ties counting half.

    Parameters
    ----------
    scores_in, scores_out : array_like, shape (n,) and (m,)
        Scores that are larger for stranger scans, of scans like those of training and of others.

    Raises
    ------
    InputError
        If one of them is empty or holds NaN.

    Examples
    --------
    >>> ood_auroc([0.1, 0.2], [0.2, 0.9])
    0.875
    """
    inside = np.sort(np.asarray(scores_in, dtype=np.float64).ravel())
    outside = np.asarray(scores_out, dtype=np.float64).ravel()
    if not (len(inside) and len(outside)) or np.isnan(inside).any() or np.isnan(outside).any():
        raise InputError(
            f"Scores must be numbers and at least one on each side, got {len(inside)} in, {len(outside)} out"
        )
    below = np.searchsorted(inside, outside, "left") + np.searchsorted(inside, outside, "right")
    return float(below.mean() / 2 / len(inside))


def posterior_error(probabilities: ArrayLike, posterior: ArrayLike) -> float:
    """Return the mean absolute difference to the true probabilities, over scans and classes.

    Parameters
    ----------
    probabilities, posterior : array_like, shape (N, K)
        The posterior is known for phantoms only.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    stated, true = np.asarray(probabilities, dtype=np.float64), np.asarray(posterior, dtype=np.float64)
    if stated.shape != true.shape:
        raise InputError(
            f"Probabilities and posterior must have one shape, got {stated.shape} and {true.shape}"
        )
    return float(np.abs(stated - true).mean())


def excess_nll(probabilities: ArrayLike, labels: ArrayLike, posterior: ArrayLike) -> float:
    """Return the NLL above that of the oracle, which states the true posterior, on the same labels."""
    return negative_log_likelihood(probabilities, labels) - negative_log_likelihood(posterior, labels)


def _nll(sample: Sample, weights: Floats) -> Floats:
    return mean_over_draws(weights, -np.log(np.maximum(sample.true_probability, PROBABILITY_FLOOR)))


def _brier(sample: Sample, weights: Floats) -> Floats:
    return mean_over_draws(weights, ((sample.probabilities - sample.onehot) ** 2).sum(axis=1))


def _accuracy(sample: Sample, weights: Floats) -> Floats:
    return mean_over_draws(weights, sample.correct)


def _balanced_accuracy(sample: Sample, weights: Floats) -> Floats:
    members = weights @ sample.onehot
    right = weights @ (sample.onehot * sample.correct[:, None])
    return np.asarray((right / np.maximum(members, 1)).sum(axis=1) / (members > 0).sum(axis=1))


def _macro_f1(sample: Sample, weights: Floats) -> Floats:
    members = weights @ sample.onehot
    named = weights @ np.eye(sample.num_classes)[sample.predicted]
    right = weights @ (sample.onehot * sample.correct[:, None])
    f1 = 2 * right / np.maximum(members + named, 1)
    return np.asarray(f1.sum(axis=1) / (members + named > 0).sum(axis=1))


def _macro_auroc(sample: Sample, weights: Floats) -> Floats:
    total, classes = np.zeros(len(weights)), np.zeros(len(weights))
    for k in range(sample.num_classes):
        order, starts = tied_groups(sample.probabilities[:, k])
        member = sample.onehot[order, k]
        in_order = weights[:, order]
        positive = np.add.reduceat(in_order * member, starts, axis=1)
        negative = np.add.reduceat(in_order * (1 - member), starts, axis=1)
        above = np.cumsum(negative, axis=1)
        wins = (positive * (above - negative / 2)).sum(axis=1)
        pairs = positive.sum(axis=1) * above[:, -1]
        total += wins / np.maximum(pairs, 1)
        classes += pairs > 0
    return np.where(classes > 0, total / np.maximum(classes, 1), np.nan)


Metric = Callable[[ArrayLike, ArrayLike], float]

METRICS: dict[str, Metric] = {
    "negative_log_likelihood": negative_log_likelihood,
    "brier_score": brier_score,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "macro_auroc": macro_auroc,
    "expected_calibration_error": expected_calibration_error,
    "maximum_calibration_error": maximum_calibration_error,
    "classwise_ece": classwise_ece,
    "smooth_ece": smooth_ece,
    "ece_kde": ece_kde,
    "ks_calibration_error": ks_calibration_error,
    "overconfidence_error": overconfidence_error,
    "risk_coverage_area": risk_coverage_area,
}

WEIGHTED: dict[str, Weighted] = {
    "negative_log_likelihood": _nll,
    "brier_score": _brier,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "macro_auroc": _macro_auroc,
    "expected_calibration_error": binned.binned_gap(),
    "maximum_calibration_error": binned.largest_gap(),
    "classwise_ece": binned.classwise_gap(),
    "smooth_ece": kernel.smooth_gap,
    "ece_kde": kernel.kde_gap,
    "ks_calibration_error": binned.ks_gap,
    "overconfidence_error": binned.overconfidence(),
    "risk_coverage_area": selective.area_over_draws,
}

HIGHER_IS_BETTER = frozenset({"accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"})
