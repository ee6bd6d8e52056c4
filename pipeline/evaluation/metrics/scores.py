"""Proper scores and discrimination: how good probabilities are as a whole, and how well they sort."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from models.arrays import Floats
from models.prevalence import adjust_prevalence
from pipeline.errors import InputError
from pipeline.evaluation.metrics.calibration_error import DEFAULT_BINS, bin_edges, bin_index
from pipeline.evaluation.metrics.sample import Sample, mean_over_draws, on_sample, tied_groups

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
    return on_sample(nll_over_draws, probabilities, labels)


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the squared distance to the indicator of the true class: sum over classes, mean over scans.

    References
    ----------
    Brier, Monthly Weather Review 78, 1950. From 0 to 2; scikit-learn's binary score is half of it.
    """
    return on_sample(brier_over_draws, probabilities, labels)


def accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of scans whose most probable class, the first one of equals, is the true one."""
    return on_sample(accuracy_over_draws, probabilities, labels)


def balanced_accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean recall over the classes that a scan belongs to."""
    return on_sample(balanced_accuracy_over_draws, probabilities, labels)


def prior_corrected(probabilities: ArrayLike, prevalence: ArrayLike) -> Floats:
    """Return the probabilities as they would be were all classes equally frequent: ``p_k / pi_k``, scaled.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
    prevalence : array_like, shape (K,)
        Class shares of training, each above zero, that the probabilities assume.

    Raises
    ------
    InputError
        If the shares do not fit the classes.
    """
    array = np.asarray(probabilities, dtype=np.float64)
    try:
        return adjust_prevalence(array, prevalence, np.full(array.shape[-1], 1 / array.shape[-1]))
    except ValueError as error:
        raise InputError(str(error).rstrip("."), where="prevalence") from error


def prior_corrected_balanced_accuracy(
    probabilities: ArrayLike, labels: ArrayLike, prevalence: ArrayLike | None = None
) -> float:
    """Return the mean recall over classes where each scan is given the class of largest ``p_k / pi_k``.

    Balanced accuracy asks for the most probable class at equal class shares. The most probable class at the
    shares of training is another one, so plain balanced accuracy rewards over-confidence in rare classes.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
    labels : array_like of int, shape (N,)
    prevalence : array_like, shape (K,)
        As in `prior_corrected`.

    Raises
    ------
    InputError
        If the prevalence is missing or does not fit the classes.

    Examples
    --------
    >>> p = [[0.7, 0.3], [0.9, 0.1], [0.7, 0.3]]
    >>> balanced_accuracy(p, [0, 0, 1]), prior_corrected_balanced_accuracy(p, [0, 0, 1], [0.8, 0.2])
    (0.5, 0.75)
    """
    if prevalence is None:
        raise InputError(
            "Prior-corrected balanced accuracy needs the class shares of training",
            hint="pass prevalence=, one share per class",
        )
    return balanced_accuracy(prior_corrected(probabilities, prevalence), labels)


def macro_f1(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean over classes of the harmonic mean of precision and recall.

    Over the classes that are true or predicted somewhere; one that is predicted but never true counts as 0.
    """
    return on_sample(macro_f1_over_draws, probabilities, labels)


def macro_auroc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean over classes of the area under the one-vs-rest ROC curve, ties counting half.

    Over the classes that have both members and non-members; NaN where no class has. In a bootstrap draw
    that misses a class the mean is over the others.
    """
    return on_sample(macro_auroc_over_draws, probabilities, labels)


def per_class_recall(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the recall of each class, shape (K,); NaN for a class without scans."""
    sample = Sample(probabilities, labels)
    with np.errstate(invalid="ignore"):
        return np.asarray(sample.correct @ sample.onehot / sample.onehot.sum(axis=0))


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
            f"The AUROC needs a score without NaN on each side, found {len(inside)} inside and "
            f"{len(outside)} outside"
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
        raise InputError(f"Probabilities have shape {stated.shape}, but the posterior has shape {true.shape}")
    return float(np.abs(stated - true).mean())


def excess_nll(probabilities: ArrayLike, labels: ArrayLike, posterior: ArrayLike) -> float:
    """Return the NLL above that of the oracle, which states the true posterior, on the same labels."""
    return negative_log_likelihood(probabilities, labels) - negative_log_likelihood(posterior, labels)


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


def brier_decomposition(probabilities: ArrayLike, labels: ArrayLike, bins: int = DEFAULT_BINS) -> BrierParts:
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
    score = float(brier_over_draws(sample, np.ones((1, len(sample))))[0])
    return BrierParts(reliability, resolution, uncertainty, score - (reliability - resolution + uncertainty))


def nll_over_draws(sample: Sample, weights: Floats) -> Floats:
    """Return `negative_log_likelihood` over draws."""
    return mean_over_draws(weights, -np.log(np.maximum(sample.true_probability, PROBABILITY_FLOOR)))


def brier_over_draws(sample: Sample, weights: Floats) -> Floats:
    """Return `brier_score` over draws."""
    return mean_over_draws(weights, ((sample.probabilities - sample.onehot) ** 2).sum(axis=1))


def accuracy_over_draws(sample: Sample, weights: Floats) -> Floats:
    """Return `accuracy` over draws."""
    return mean_over_draws(weights, sample.correct)


def balanced_accuracy_over_draws(sample: Sample, weights: Floats) -> Floats:
    """Return `balanced_accuracy` over draws."""
    members = weights @ sample.onehot
    right = weights @ (sample.onehot * sample.correct[:, None])
    return np.asarray((right / np.maximum(members, 1)).sum(axis=1) / (members > 0).sum(axis=1))


def macro_f1_over_draws(sample: Sample, weights: Floats) -> Floats:
    """Return `macro_f1` over draws."""
    members = weights @ sample.onehot
    named = weights @ np.eye(sample.num_classes)[sample.predicted]
    right = weights @ (sample.onehot * sample.correct[:, None])
    f1 = 2 * right / np.maximum(members + named, 1)
    return np.asarray(f1.sum(axis=1) / (members + named > 0).sum(axis=1))


def macro_auroc_over_draws(sample: Sample, weights: Floats) -> Floats:
    """Return `macro_auroc` over draws."""
    total, classes = np.zeros(len(weights)), np.zeros(len(weights))
    for k in range(sample.num_classes):
        order, starts = tied_groups(sample.probabilities[:, k])
        in_order = weights[:, order]
        positive = in_order * sample.onehot[order, k]
        negative = in_order - positive
        if len(starts) < len(order):  # without ties each scan is a group of its own
            positive = np.add.reduceat(positive, starts, axis=1)
            negative = np.add.reduceat(negative, starts, axis=1)
        above = np.cumsum(negative, axis=1)
        # Counts and halves of them: sums in any order are exact.
        wins = np.einsum("ij,ij->i", positive, above - negative / 2)
        pairs = positive.sum(axis=1) * above[:, -1]
        total += wins / np.maximum(pairs, 1)
        classes += pairs > 0
    return np.where(classes > 0, total / np.maximum(classes, 1), np.nan)
