"""Calibration slope and intercepts: the logistic recalibration that the labels ask for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from models.arrays import Floats
from pipeline.evaluation.metrics.sample import Sample
from pipeline.evaluation.metrics.scores import PROBABILITY_FLOOR

_STEPS = 25
"""Newton needs six to ten steps; where classes are separable each step is as long as the one before."""
_HALVINGS = 20
_CONVERGED = 1e-6
"""The error after such a step is about its square."""
_SINGULAR = 1e-10
_UNDETERMINED = 1e4
"""A standard error beyond this is that of a fit whose likelihood still rises, ever more slowly."""
_STEEP = 5.0
"""Mean spread of a scan's log-probabilities above which the search starts at a smaller slope."""
_CELLS_AT_ONCE = 2_000_000


def calibration_slope(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return b of ``softmax(a_k + b log p_k)`` fitted to the labels: 1 where calibrated.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
        Those below `PROBABILITY_FLOOR` count as that.
    labels : array_like of int, shape (N,)

    Returns
    -------
    float
        Below 1 where differences between scans are stated too large (over-confident), above 1 where too
        small. NaN where the likelihood has no maximum: the classes are separable, only one class occurs, or
        all scans have the same probabilities.

    References
    ----------
    Cox, Two further applications of a model for binary regression, Biometrika 45, 1958; several classes: Van
    Hoorde et al., Assessing calibration of multinomial risk prediction models, Statistics in Medicine 33,
    2014.

    Examples
    --------
    >>> p = [[0.8, 0.2]] * 5 + [[0.3, 0.7]] * 10
    >>> round(calibration_slope(p, [0] * 4 + [1] + [0] * 3 + [1] * 7), 3)
    1.0
    """
    return float(_fitted(probabilities, labels)[0])


def calibration_intercepts(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the a_k of ``softmax(a_k + b log p_k)`` fitted to the labels, shape (K,): 0 where calibrated.

    They sum to zero. A class with a positive one occurs more often than stated: its odds are ``exp(a_k)``
    times as large.

    Parameters
    ----------
    probabilities, labels
        As in `calibration_slope`.

    Returns
    -------
    ndarray
        NaN for a class without scans; all NaN where the slope is.
    """
    return np.asarray(_fitted(probabilities, labels)[1:])


def slope_over_draws(sample: Sample, weights: Floats) -> Floats:
    """Return `calibration_slope` over draws."""
    return np.asarray(recalibration_over_draws(sample, weights)[:, 0])


def recalibration_over_draws(sample: Sample, weights: Floats) -> Floats:
    """Return slope and intercepts over draws, shape (draws, 1 + K)."""
    at_once = max(1, _CELLS_AT_ONCE // sample.probabilities.size)
    parts = [_fit(sample, weights[n : n + at_once]) for n in range(0, len(weights), at_once)]
    return np.concatenate(parts)


def _fitted(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    sample = Sample(probabilities, labels)
    return np.asarray(recalibration_over_draws(sample, np.ones((1, len(sample))))[0])


def _fit(sample: Sample, weights: Floats) -> Floats:
    """Maximise the likelihood of each draw by Newton's method, all draws at once; NaN without a maximum."""
    log_p = np.log(np.maximum(sample.probabilities, PROBABILITY_FLOOR))
    log_p -= log_p.mean(axis=1, keepdims=True)  # changes no fit, keeps numbers small
    found = np.full((len(weights), 1 + sample.num_classes), np.nan)
    draws = np.flatnonzero(((weights @ sample.onehot) > 0).sum(axis=1) > 1)
    problem = _SlopeFits(log_p, sample, weights[draws])
    at = np.tile(_first_slope(log_p) * np.eye(1, 1 + sample.num_classes), (len(draws), 1))
    value, q = problem.loss(at)
    for _ in range(_STEPS):
        if not len(draws):
            break
        step = problem.newton_step(q)
        going = np.abs(step).max(axis=1) >= _CONVERGED  # NaN goes no further
        done = np.abs(step).max(axis=1) < _CONVERGED
        found[draws[done]] = np.where(problem.present[done], at[done] + step[done], np.nan)
        draws, at, value, step = draws[going], at[going], value[going], step[going]
        problem = problem.of(going)
        at, value, q = _descend(problem, at, value, step)
    return found


def _first_slope(log_p: Floats) -> float:
    """Return where the search starts: 1, or less where that leaves every probability at 0 or 1.

    There the likelihood is flat to rounding, and no step from it is determined.
    """
    return min(1.0, _STEEP / max(float(log_p.std(axis=1).mean()), _STEEP))


def _descend(problem: _SlopeFits, at: Floats, value: Floats, step: Floats) -> tuple[Floats, Floats, Floats]:
    """Take the step, halved in each draw until its loss falls."""
    scale = np.ones((len(at), 1))
    for _ in range(_HALVINGS):
        moved, q = problem.loss(at + scale * step)
        worse = ~(moved <= value + 1e-12 * np.abs(value))
        if not worse.any():
            break
        scale[worse] /= 2
    return at + scale * step, moved, q


class _SlopeFits:
    """Log-likelihoods of draws, with slope and intercepts (draws, 1 + K) as their unknowns."""

    def __init__(self, log_p: Floats, sample: Sample, weights: Floats) -> None:
        self.log_p, self.sample, self.weights = log_p, sample, weights
        self.members = weights @ sample.onehot
        self.stated = weights @ log_p[np.arange(len(log_p)), sample.labels]
        always = np.ones((len(weights), 1), dtype=bool)
        self.present = np.concatenate([always, self.members > 0], axis=1)

    def of(self, rows: NDArray[np.bool_]) -> _SlopeFits:
        """Return that of some draws."""
        return _SlopeFits(self.log_p, self.sample, self.weights[rows])

    def loss(self, at: Floats) -> tuple[Floats, Floats]:
        """Return the negative log-likelihoods (draws,) and the fitted probabilities (draws, N, K)."""
        open_to = np.where(self.present[:, 1:], at[:, 1:], -np.inf)
        scores = at[:, :1, None] * self.log_p + open_to[:, None, :]
        log_total = logsumexp(scores, axis=2, keepdims=True)
        paid = (self.weights * log_total[:, :, 0]).sum(axis=1)
        earned = at[:, 0] * self.stated + (at[:, 1:] * self.members).sum(axis=1)
        return np.asarray(paid - earned), np.exp(scores - log_total)

    def newton_step(self, q: Floats) -> Floats:
        """Return the step of each draw from fitted probabilities; NaN where the fit is not determined."""
        classes = q.shape[2]
        weighted = self.weights[:, :, None] * q
        gradient = np.empty((len(q), 1 + classes))
        gradient[:, 0] = (weighted * self.log_p).sum(axis=(1, 2)) - self.stated
        gradient[:, 1:] = weighted.sum(axis=1) - self.members
        spread = weighted * (self.log_p - (q * self.log_p).sum(axis=2, keepdims=True))
        hessian = np.empty((len(q), 1 + classes, 1 + classes))
        hessian[:, 0, 0] = (spread * self.log_p).sum(axis=(1, 2))
        hessian[:, 0, 1:] = hessian[:, 1:, 0] = spread.sum(axis=1)
        hessian[:, 1:, 1:] = -np.swapaxes(weighted, 1, 2) @ q
        diagonal = np.arange(1, 1 + classes)
        hessian[:, diagonal, diagonal] += weighted.sum(axis=1)
        # One more equation fixes what the likelihood leaves open: intercepts of present classes sum to zero.
        size = np.trace(hessian[:, 1:, 1:], axis1=1, axis2=2)[:, None, None]
        present = self.present[:, 1:].astype(np.float64)
        hessian[:, 1:, 1:] += size * present[:, :, None] * present[:, None, :]
        hessian[:, diagonal, diagonal] += size[:, :, 0] * (1 - present)
        return -_solved(hessian, gradient)


def _solved(matrix: Floats, right: Floats) -> Floats:
    """Solve symmetric systems; one that is singular, as where all scans look alike, gives NaN."""
    size = np.diagonal(matrix, axis1=1, axis2=2)
    regular = np.logical_and(np.isfinite(matrix).all(axis=(1, 2)), (size > 0).all(axis=1))
    matrix = np.where(regular[:, None, None], matrix, np.eye(matrix.shape[1]))
    unit = 1 / np.sqrt(np.where(regular[:, None], size, 1.0))
    values, vectors = np.linalg.eigh(matrix * unit[:, :, None] * unit[:, None, :])
    turned = (np.swapaxes(vectors, 1, 2) @ (right * unit)[:, :, None])[:, :, 0]
    values = np.where(values > _SINGULAR * values[:, -1:], values, np.nan)
    solved = (vectors @ (turned / values)[:, :, None])[:, :, 0] * unit
    errors = unit * np.sqrt((vectors**2 @ (1 / values)[:, :, None])[:, :, 0])
    return np.where(regular[:, None] & (errors < _UNDETERMINED), solved, np.nan)
