"""Calibration error without bins: smooth ECE, and ECE by kernel density estimation. Both of the top label."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft, sparse
from scipy.special import gammaln

from models.arrays import Floats
from pipeline.errors import InputError
from pipeline.evaluation.metrics.sample import Sample, on_sample

Kind = Literal["top_label", "marginal", "canonical"]

_HALVINGS = 10
_SMALLEST_SIGMA = 0.001
_DENSITY_FLOOR = 1e-4
"""Of the authors' code: added to the density at every evaluation point."""
_BANDWIDTHS = np.concatenate([np.logspace(-5, -1, 15), np.linspace(0.2, 1, 5)])
_BANDWIDTH_SCANS = 1000
_SMALLEST_PROBABILITY = 1e-12
_BLOCK = 512


def smooth_ece(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the calibration error after smoothing with a kernel as wide as the error itself.

    The residuals ``confidence - correct`` are smoothed by a reflected Gaussian of width sigma, and their
    absolute values averaged; sigma* is where that mean equals sigma, found by bisection to 1/1024. Grid,
    evaluation points, kernel support (half the unit interval to each side) and density floor are those of the
    authors' package relplot, version 1.0.3, whose numbers this reproduces.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
    labels : array_like of int, shape (N,)

    Returns
    -------
    float
        In [0, 1]; continuous in the probabilities, and without a number of bins to choose.

    References
    ----------
    Blasiok & Nakkiran, Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing, ICLR 2024.

    Examples
    --------
    >>> round(smooth_ece([[0.8, 0.2], [0.8, 0.2], [0.7, 0.3]], [0, 1, 0]), 3)
    0.124
    """
    return on_sample(smooth_gap, probabilities, labels)


def smooth_gap(sample: Sample, weights: Floats) -> Floats:
    """Return `smooth_ece` over draws: each draw bisects for its own width, draws of one width go together."""
    residual = weights * (sample.confidence - sample.correct)
    weights = np.broadcast_to(weights, residual.shape)
    low, high = np.zeros(len(weights)), np.ones(len(weights))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        error = _smoothed(sample.confidence, residual, weights, middle)
        narrow = (middle < _SMALLEST_SIGMA) | (middle < error)
        low, high = np.where(narrow, middle, low), np.where(narrow, high, middle)
    return _smoothed(sample.confidence, residual, weights, high)


def _smoothed(confidence: Floats, residual: Floats, weights: Floats, sigma: Floats) -> Floats:
    """Return per draw the mean absolute smoothed residual at the draw's width; residuals are weighted."""
    error = np.empty(len(weights))
    for width in np.unique(sigma):
        rows = sigma == width
        error[rows] = _smoothed_at(confidence, residual[rows], weights[rows], float(width))
    return error


def _smoothed_at(confidence: Floats, residual: Floats, weights: Floats, sigma: float) -> Floats:
    """Return the integral of the smoothed absolute residuals over that of the smoothed density.

    On a grid over [0, 1], mirrored at both ends into one period, smoothing is a circular convolution.
    """
    points = max(2000, round(20 / sigma)) // 2 + 1
    period = 2 * (points - 1)
    steps = np.linspace(0, 1, points)
    kernel = np.zeros(period)
    kernel[(np.arange(points) - (points - 1 - points // 2)) % period] = np.exp(
        -((steps - 0.5) ** 2) / (2 * sigma**2)
    ) / (np.sqrt(2 * np.pi) * sigma)
    spectrum = fft.rfft(kernel).conj()

    to_grid = _linear_weights(confidence, points)
    read_out = _linear_weights(np.linspace(0, 1, max(round(10 / sigma), 200)), points)
    on_grid = residual @ to_grid
    smooth = fft.irfft(fft.rfft(_mirrored(on_grid), axis=1) * spectrum, n=period, axis=1)[:, :points]
    total = np.abs(smooth @ read_out.T).sum(axis=1)

    # The density's integral is linear in the weights: one transposed convolution gives each scan's share.
    asked = np.zeros(period)
    asked[:points] = read_out.sum(axis=0)
    share = fft.irfft(fft.rfft(asked) * spectrum.conj(), n=period)
    share[1 : points - 1] += share[: points - 1 : -1]
    density = weights @ (to_grid @ share[:points])
    return np.asarray(total / (density + _DENSITY_FLOOR * read_out.shape[0]))


def _linear_weights(at: Floats, points: int) -> sparse.csr_array:
    """Return the matrix (len(at), points) of linear interpolation on an even grid over [0, 1]."""
    place = at * (points - 1)
    left = place.astype(np.int64).clip(0, points - 2)
    right = place - left
    columns = np.stack([left, left + 1], axis=1).ravel()
    values = np.stack([1 - right, right], axis=1).ravel()
    return sparse.csr_array((values, columns, np.arange(0, len(columns) + 1, 2)), shape=(len(at), points))


def _mirrored(rows: Floats) -> Floats:
    return np.concatenate([rows, rows[:, -2:0:-1]], axis=1)


def ece_kde(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    bandwidth: float | None = None,
    power: float = 1.0,
    kind: Kind = "top_label",
) -> float:
    """Return the L_p calibration error with accuracy estimated by Dirichlet kernels, leaving each scan out.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
    labels : array_like of int, shape (N,)
    bandwidth : float, optional
        Width of the kernels; by default the one of twenty candidates with the greatest leave-one-out
        likelihood of the probabilities (on at most 1,000 scans, evenly taken by confidence).
    power : float
        p of the norm; the mean of ``|accuracy - confidence| ** p`` is returned, no root taken.
    kind : {"top_label", "marginal", "canonical"}
        What is compared: confidence of the predicted class; each class's probability, summed over classes;
        the whole vector, summed over classes. The last needs many scans: 300 scans of a perfectly calibrated
        three-class predictor read .04 by the top label and .21 canonically.

    Returns
    -------
    float
        A scan without another one near enough to weigh is compared with its own outcome, as a bin of one is.

    Raises
    ------
    InputError
        If the bandwidth is not positive or the kind is unknown.

    Notes
    -----
    With a bandwidth given this is the authors' estimator. Their bandwidth search divides the density by the
    bandwidth although Dirichlet kernels are densities already; on 1,000 scans of a perfectly calibrated
    three-class predictor it chose .0005 and the canonical error read .64. So the paper's own rule is used:
    the plain leave-one-out likelihood. Time grows with the square of N.

    References
    ----------
    Popordanoska, Sayer & Blaschko, A Consistent and Differentiable Lp Canonical Calibration Error Estimator,
    NeurIPS 2022, equation 9.

    Examples
    --------
    >>> round(ece_kde([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], [0, 0, 1], bandwidth=0.5), 3)
    0.289
    """
    if bandwidth is not None and not bandwidth > 0:
        raise InputError(f"The bandwidth is {bandwidth}, expected a positive number")
    sample = Sample(probabilities, labels)
    weights = np.ones((1, len(sample)))
    return float(sum(_kde_error(*view, weights, bandwidth, power)[0] for view in _views(sample, kind)))


def kde_gap(sample: Sample, weights: Floats) -> Floats:
    """Return `ece_kde` of the top label over draws, at the bandwidth of the whole sample.

    Copies of a scan in a draw are no evidence about each other: they would only repeat its own outcome.
    """
    (view,) = _views(sample, "top_label")
    return _kde_error(*view, weights, _top_label_bandwidth(sample), 1.0)


@lru_cache(maxsize=2)  # the draws of a sample, or of a pair, come in chunks
def _top_label_bandwidth(sample: Sample) -> float:
    return _best_bandwidth(_views(sample, "top_label")[0][0])


def _views(sample: Sample, kind: Kind) -> list[tuple[Floats, list[tuple[Floats, Floats]]]]:
    """Return what is compared: places on a simplex (N, C), and stated (N,) with observed values."""
    by_class = [(sample.probabilities[:, k], sample.members(k)) for k in range(sample.num_classes)]
    if kind == "canonical":
        return [(sample.probabilities, by_class)]
    if kind == "top_label":
        pairs = [(sample.confidence, sample.correct)]
    elif kind == "marginal":
        pairs = by_class
    else:
        raise InputError(f"There is no kind {kind!r}, only 'top_label', 'marginal' and 'canonical'")
    return [(np.stack([p, np.maximum(1 - p, 0)], axis=1), [(p, y)]) for p, y in pairs]


def _kde_error(
    places: Floats,
    pairs: list[tuple[Floats, Floats]],
    weights: Floats,
    bandwidth: float | None,
    power: float,
) -> Floats:
    width = _best_bandwidth(places) if bandwidth is None else bandwidth
    total: Floats = np.zeros(1)
    for start in range(0, len(places), _BLOCK):
        rows = slice(start, start + _BLOCK)
        log_kernel = _log_kernel(places, width, rows)
        # Of the largest entry only ratios matter; a scan alone has none.
        peak = np.maximum(log_kernel.max(axis=1, keepdims=True), np.finfo(float).min)
        kernel = np.exp(log_kernel - peak)
        near = weights @ kernel.T
        for stated, came_true in pairs:
            seen = (weights * came_true) @ kernel.T
            observed = np.where(near > 0, seen / np.where(near > 0, near, 1), came_true[..., rows])
            gap = np.abs(observed - stated[rows]) ** power
            total = total + (weights[:, rows] * gap).sum(axis=1)
    return np.asarray(total / weights.sum(axis=1))


def _log_kernel(places: Floats, bandwidth: float, rows: slice) -> Floats:
    """Return log Dirichlet densities at the places of `rows`, of the kernels around all others."""
    alpha = places / bandwidth
    log_norm = gammaln(alpha + 1).sum(axis=1) - gammaln(alpha.sum(axis=1) + places.shape[1])
    log_at = np.log(np.maximum(places[rows], _SMALLEST_PROBABILITY))
    log_kernel = log_at @ alpha.T - log_norm
    here = np.arange(len(log_kernel))
    log_kernel[here, here + rows.start] = -np.inf
    return np.asarray(log_kernel)


def _best_bandwidth(places: Floats) -> float:
    if len(places) < 2:
        return float(_BANDWIDTHS[-1])
    if len(places) > _BANDWIDTH_SCANS:
        even = np.linspace(0, len(places) - 1, _BANDWIDTH_SCANS).astype(np.int64)
        places = places[np.argsort(places[:, 0], kind="stable")[even]]
    whole = slice(0, len(places))
    likelihood = [
        np.logaddexp.reduce(_log_kernel(places, float(width), whole), axis=1).sum() for width in _BANDWIDTHS
    ]
    return float(_BANDWIDTHS[int(np.argmax(likelihood))])
