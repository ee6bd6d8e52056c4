"""How far confidence is from observed frequency, in bins and over ranks.

Top-label errors compare the probability of the predicted class with how often it was right; classwise errors
compare every class's probability with how often that class occurred. Bins are ``(low, high]``, with 0 in the
first and 1 in the last. All errors are fractions; only tables show percent.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from models.arrays import Floats, Ints
from pipeline.errors import InputError
from pipeline.evaluation.metrics.sample import Sample, on_sample, sums_by_group, tied_groups

Scheme = Literal["width", "mass"]
DEFAULT_BINS = 15


def bin_edges(values: Floats, bins: int, scheme: Scheme) -> Floats:
    """Return the ``bins + 1`` edges of bins ``(low, high]`` over [0, 1].

    Parameters
    ----------
    values : ndarray, shape (N,)
        Probabilities; only ``"mass"`` looks at them.
    scheme : {"width", "mass"}
        ``"width"``: edges at multiples of 1 / bins. ``"mass"``: sorted values are cut into runs whose lengths
        differ by one at most, longer ones first; a cut inside a run of equal values moves to its end, so
        that equal values share a bin and some bins may stay empty.

    Raises
    ------
    InputError
        If `bins` is below 1 or the scheme is unknown.

    Examples
    --------
    >>> bin_edges(np.array([0.1, 0.2, 0.2, 0.9]), bins=2, scheme="mass")
    array([0. , 0.2, 1. ])
    """
    if bins < 1:
        raise InputError(f"The number of bins is {bins}, expected at least 1")
    if scheme == "width":
        return np.linspace(0.0, 1.0, bins + 1)
    if scheme == "mass":
        ends = np.cumsum([len(run) for run in np.array_split(values, bins)])[:-1]
        inner = np.sort(values)[np.clip(ends - 1, 0, None)]
        return np.concatenate(([0.0], inner, [1.0]))
    raise InputError(f"There is no binning scheme {scheme!r}, only 'width' and 'mass'")


def bin_index(values: Floats, edges: Floats) -> Ints:
    """Return the bin ``(edges[b], edges[b + 1]]`` of each value; 0 falls in the first, 1 in the last."""
    index = np.zeros(len(values), dtype=np.int32)
    for edge in edges[1:-1]:  # for a few edges a comparison each is quicker than a binary search
        index += values > edge
    return index.astype(np.int64)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = DEFAULT_BINS, scheme: Scheme = "width"
) -> float:
    """Return the mean over scans of their bin's gap between mean confidence and accuracy.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
    labels : array_like of int, shape (N,)
    scheme : {"width", "mass"}
        See `bin_edges`.

    Returns
    -------
    float
        In [0, 1]; biased upwards in small samples, the more the more bins: see
        `pipeline.evaluation.metrics.catalogue.noise_floor`.

    Raises
    ------
    InputError
        If the probabilities, labels or bins are not as above.

    References
    ----------
    Naeini et al., AAAI 2015; Guo et al., ICML 2017, equation 3. Equal mass: Nguyen & O'Connor, EMNLP 2015.

    Examples
    --------
    >>> expected_calibration_error([[0.8, 0.2], [0.8, 0.2]], [0, 1])
    0.30000000000000004
    """
    return on_sample(partial(binned_gap, bins=bins, scheme=scheme), probabilities, labels)


def maximum_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = DEFAULT_BINS, scheme: Scheme = "width"
) -> float:
    """Return the largest gap between mean confidence and accuracy of any bin that holds a scan.

    Parameters
    ----------
    probabilities, labels, bins, scheme
        As in `expected_calibration_error`.

    References
    ----------
    Guo et al., ICML 2017, equation 5.
    """
    return on_sample(partial(largest_gap, bins=bins, scheme=scheme), probabilities, labels)


def overconfidence_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = DEFAULT_BINS) -> float:
    """Return the mean over scans of their bin's confidence x (confidence - accuracy), where positive.

    Wrong and sure is what harms a patient: underconfidence costs nothing here.

    Parameters
    ----------
    probabilities, labels, bins
        As in `expected_calibration_error`, with bins of equal width.

    References
    ----------
    Thulasidasan et al., On Mixup Training, NeurIPS 2019, section 3.1.
    """
    return on_sample(partial(overconfidence, bins=bins), probabilities, labels)


def classwise_ece(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = DEFAULT_BINS, scheme: Scheme = "width"
) -> float:
    """Return the mean over all K classes of the binned gap between a class's probability and its frequency.

    Parameters
    ----------
    probabilities, labels, bins, scheme
        As in `expected_calibration_error`. Every class counts, also one that no scan belongs to: probability
        given to it is wrong probability.

    References
    ----------
    Kull et al., Beyond temperature scaling, NeurIPS 2019, equation 3.
    """
    return on_sample(partial(classwise_gap, bins=bins, scheme=scheme), probabilities, labels)


def ks_calibration_error(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the largest gap between the running sums of confidence and of right answers, over N.

    Scans are taken by rising confidence. The gap is read where the confidence changes, so that the order of
    scans of equal confidence makes no difference (the authors' code reads it after each scan).

    Parameters
    ----------
    probabilities, labels
        As in `expected_calibration_error`; top label.

    References
    ----------
    Gupta et al., Calibration of Neural Networks using Splines, ICLR 2021, equation 6.
    """
    return on_sample(ks_gap, probabilities, labels)


def binned_gap(sample: Sample, weights: Floats, bins: int = DEFAULT_BINS, scheme: Scheme = "width") -> Floats:
    """Return `expected_calibration_error` over draws."""
    gaps, _ = _gaps(sample.confidence, sample.correct, weights, bins, scheme)
    return np.asarray(np.abs(gaps).sum(axis=1) / weights.sum(axis=1))


def largest_gap(
    sample: Sample, weights: Floats, bins: int = DEFAULT_BINS, scheme: Scheme = "width"
) -> Floats:
    """Return `maximum_calibration_error` over draws."""
    gaps, counts = _gaps(sample.confidence, sample.correct, weights, bins, scheme)
    return np.asarray(np.abs(gaps / np.maximum(counts, 1)).max(axis=1))


def classwise_gap(
    sample: Sample, weights: Floats, bins: int = DEFAULT_BINS, scheme: Scheme = "width"
) -> Floats:
    """Return `classwise_ece` over draws."""
    total: Floats = np.zeros(1)
    for k in range(sample.num_classes):
        gaps, _ = _gaps(sample.probabilities[:, k], sample.members(k), weights, bins, scheme)
        total = total + np.abs(gaps).sum(axis=1)
    return np.asarray(total / weights.sum(axis=1) / sample.num_classes)


def overconfidence(sample: Sample, weights: Floats, bins: int = DEFAULT_BINS) -> Floats:
    """Return `overconfidence_error` over draws."""
    index = bin_index(sample.confidence, bin_edges(sample.confidence, bins, "width"))
    counts = sums_by_group(weights, index, bins)
    confidence = sums_by_group(weights * sample.confidence, index, bins)
    right = sums_by_group(weights * sample.correct, index, bins)
    excess = confidence / np.maximum(counts, 1) * np.maximum(confidence - right, 0)
    return np.asarray(excess.sum(axis=1) / weights.sum(axis=1))


def ks_gap(sample: Sample, weights: Floats) -> Floats:
    """Return `ks_calibration_error` over draws."""
    order, starts = tied_groups(sample.confidence)
    gaps = weights * (sample.confidence - sample.correct)
    running = np.cumsum(gaps[:, order], axis=1)[:, np.append(starts[1:], len(sample)) - 1]
    return np.asarray(np.abs(running).max(axis=1) / weights.sum(axis=1))


def _gaps(
    stated: Floats, came_true: Floats, weights: Floats, bins: int, scheme: Scheme
) -> tuple[Floats, Floats]:
    """Return per draw and bin the sum of stated - came_true, and the number of scans.

    Weights are (draws, N) or (1, N), and `came_true` is (N,) or (draws, N).
    """
    gap = weights * (stated - came_true)
    if scheme == "mass" and len(weights) > 1:  # every draw has its own equal masses
        rows = [_gaps(stated, came_true, row[None], bins, scheme) for row in weights]
        return np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])
    drawn = np.repeat(stated, weights[0].astype(np.int64)) if scheme == "mass" else stated
    index = bin_index(stated, bin_edges(drawn, bins, scheme))
    return sums_by_group(gap, index, bins), sums_by_group(weights, index, bins)
