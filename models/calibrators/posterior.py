"""The posterior of a temperature that may depend on the scan, and of one offset per class.

The model is ``softmax(z / T + b)``, with log T of a scan a weighted mean of a few values. Normal priors lie
on these values and on b. How wide they are is learned too: each prior of a small grid counts in proportion to
its marginal likelihood, so that many scans can move T and b far and few scans hardly move them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from .calibrator import Floats, Ints

DRAWS = 100
"""Equally likely draws of the parameters that a calibrator stores."""

Level = tuple[float, float, float]
LEVELS: tuple[Level, ...] = ((0.2, 0.3, 2.0), (0.2, 0.6, 1.0), (0.2, 2.0, 0.4))
"""Mean and standard deviation of log T, and how much this prior counts. Networks are mostly too sure, seldom
by more than a factor of 2; the last is for logits on another scale."""
_RISE = 0.3
"""Standard deviation of the rise of log T from the least to the most confident scans."""
_SPREADS = (0.1, 0.2, 0.4, 0.8, 1.5)
"""Standard deviations of the offsets, each the double of the one before."""
_SPREAD_SCALE = 0.5
"""The prior of that standard deviation is half-normal, of this scale: large offsets need evidence."""
_NO_OFFSETS, _SHARE_WITHOUT = 0.01, 0.3
"""Spread that is as good as none, and its share of the prior: most networks state the shares of their classes
nearly right, and offsets are then noise. Without it 50 scans of such a network cost .0115 nats, with it .009
(400 draws); more of it costs networks that learned wrong shares as much as it saves the others, whichever set
of logits of the benchmark is left out."""

_CANDIDATES = 500
"""Draws of the normal approximation from which `DRAWS` are resampled by their true density."""
_MOST_LIKELIHOODS = 2_000_000
"""Candidates x scans x classes; above it the normal approximation is close enough."""
_GRID_CELLS = 20_000
"""Scans x classes that choose among the priors; more scans leave nothing to choose."""
_SEED = 20260404
_MOST_STEPS, _LARGEST_STEP, _SMALLEST_GAIN = 60, 2.0, 1e-9


@dataclass(frozen=True, eq=False)
class Prior:
    """One normal prior of the grid.

    Parameters
    ----------
    mean : ndarray, shape (D,)
    precision : ndarray, shape (D, D)
    log_weight : float
        Log of how much it counts before the scans are seen, up to a constant.
    """

    mean: Floats
    precision: Floats
    log_weight: float

    @classmethod
    def grid(cls, num_values: int, num_offsets: int, levels: Sequence[Level] = LEVELS) -> list[Prior]:
        """Return the priors on ``num_values`` values of log T and ``num_offsets`` offsets.

        The mean of the values, the increments between them and the offsets are independent.
        """
        sums = np.tril(np.ones((num_values, num_values)), -1)[:, :-1]
        sums -= sums.mean(axis=0)
        increments = sums @ sums.T * _RISE**2 / max(num_values - 1, 1)
        priors = []
        for centre, width, weight in levels:
            mean = np.concatenate([np.full(num_values, centre), np.zeros(num_offsets)])
            precision = np.linalg.inv(increments + width**2)
            for spread, share in _spread_shares() if num_offsets else [(1.0, 1.0)]:
                whole = scipy.linalg.block_diag(precision, np.eye(num_offsets) / spread**2)
                priors.append(cls(mean, whole, math.log(weight * share)))
        return priors


def _spread_shares() -> list[tuple[float, float]]:
    """Return the standard deviations of the offsets and each one's share of the prior."""
    # The grid is even in the logarithm, whose density is that of the spread times the spread.
    densities = [spread * math.exp(-0.5 * (spread / _SPREAD_SCALE) ** 2) for spread in _SPREADS]
    scale = (1 - _SHARE_WITHOUT) / sum(densities)
    return [(_NO_OFFSETS, _SHARE_WITHOUT), *zip(_SPREADS, (d * scale for d in densities), strict=True)]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Scans and the likelihood of parameters: values of log T, then offsets if there are any.

    Parameters
    ----------
    logits : ndarray, shape (n_classes, n_scans)
        Less the scan's largest. Classes first: sums over a handful of classes are then sums of long rows.
    labels : ndarray of int, shape (n_scans,)
    weights : ndarray, shape (n_scans, n_values)
        How much each value of log T counts for a scan; rows sum to 1.
    """

    logits: Floats
    labels: Ints
    weights: Floats

    def thinned(self, most: int) -> Evidence:
        """Return at most so many scans, evenly spread over all."""
        n = len(self.labels)
        rows = np.arange(most) * n // most
        return self if n <= most else Evidence(self.logits[:, rows], self.labels[rows], self.weights[rows])

    def _logits_at(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Return z / T and z / T + b, shape (G, n_classes, n_scans), for parameters (G, D).

        The second is up to a constant such that none is above 0, and each scan's largest hardly below.
        """
        values = self.weights.shape[1]
        divided = self.logits * np.exp(-(parameters[:, :values] @ self.weights.T))[:, None, :]
        if parameters.shape[1] == values:
            return divided, divided
        offsets = parameters[:, values:]
        return divided, divided + (offsets - offsets.max(axis=1, keepdims=True))[:, :, None]

    def log_likelihood(self, parameters: Floats) -> Floats:
        """Return the sum over scans of the log-likelihood, shape (G,), for parameters (G, D)."""
        shifted = self._logits_at(parameters)[1]
        of_true_class = shifted[:, self.labels, np.arange(len(self.labels))]
        total: Floats = (of_true_class - np.log(np.exp(shifted).sum(axis=1))).sum(axis=1)
        return total

    def derivatives(self, parameters: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the negative log-likelihood (G,), its gradient (G, D) and expected Hessian (G, D, D)."""
        values, scans = self.weights.shape[1], np.arange(len(self.labels))
        divided, shifted = self._logits_at(parameters)
        p = np.exp(shifted)
        norm = p.sum(axis=1, keepdims=True)
        p /= norm
        loss = (np.log(norm[:, 0]) - shifted[:, self.labels, scans]).sum(axis=1)
        weighted = p * divided
        mean = weighted.sum(axis=1)
        variance = np.maximum((weighted * divided).sum(axis=1) - mean**2, 0.0)
        # d(z / T) / d(value) is -z / T times the scan's weight of that value.
        gradient, hessian = np.empty(parameters.shape), np.empty((*parameters.shape, parameters.shape[1]))
        gradient[:, :values] = (divided[:, self.labels, scans] - mean) @ self.weights
        hessian[:, :values, :values] = (self.weights.T * variance[:, None, :]) @ self.weights
        if parameters.shape[1] > values:
            sums = p.sum(axis=2)
            gradient[:, values:] = sums - np.bincount(self.labels, minlength=p.shape[1])
            cross = (mean[:, None, :] * p - weighted) @ self.weights
            hessian[:, values:, :values], hessian[:, :values, values:] = cross, cross.transpose(0, 2, 1)
            hessian[:, values:, values:] = -p @ p.transpose(0, 2, 1)
            diagonal = np.arange(values, parameters.shape[1])
            hessian[:, diagonal, diagonal] += sums
        return loss, gradient, hessian


def draw_parameters(evidence: Evidence, grid: list[Prior], start: Floats) -> Floats:
    """Return equally likely draws of the parameters given the scans, shape (`DRAWS`, D).

    The posterior under each prior is approximated by a normal around its mode (Laplace); draws of these,
    taken as often as the priors' marginal likelihoods demand, are resampled in proportion to posterior over
    approximation. The same input gives the same bytes.

    Parameters
    ----------
    start : ndarray, shape (D,)
        Where the search for the modes begins.
    """
    k, n = evidence.logits.shape
    part = evidence.thinned(max(500, _GRID_CELLS // k))
    modes, precisions, log_marginal = posterior_modes(part, grid, start)
    log_weights = log_marginal + np.array([prior.log_weight for prior in grid])
    if part is not evidence:
        best = int(log_weights.argmax())
        grid, log_weights = [grid[best]], np.zeros(1)
        modes, precisions, _ = posterior_modes(evidence, grid, modes[best])
    resampled = n * k * _CANDIDATES <= _MOST_LIKELIHOODS
    count = _CANDIDATES if resampled else DRAWS
    half = np.random.default_rng(_SEED).standard_normal((count // 2, modes.shape[1]))
    noise = np.repeat(half, 2, axis=0)
    noise[1::2] *= -1  # pairs around the mode: their mean is exact
    member = np.repeat(_systematic(scipy.special.softmax(log_weights), count // 2), 2)
    draws = np.empty_like(noise)
    log_ratio = np.empty(count)
    for g in np.unique(member):
        mine = member == g
        root = np.linalg.cholesky(precisions[g])
        draws[mine] = modes[g] + scipy.linalg.solve_triangular(root.T, noise[mine].T).T
        away = draws[mine] - grid[g].mean
        log_prior = np.linalg.slogdet(grid[g].precision)[1] - ((away @ grid[g].precision) * away).sum(axis=1)
        log_normal = 2 * np.log(np.diag(root)).sum() - (noise[mine] ** 2).sum(axis=1)
        log_ratio[mine] = grid[g].log_weight - math.log(mine.mean()) + (log_prior - log_normal) / 2
    if not resampled:
        return draws
    log_ratio += np.concatenate([evidence.log_likelihood(some) for some in np.array_split(draws, 10)])
    ratio = np.exp(log_ratio - log_ratio.max())
    # Cut as by Ionides, so that no single draw can stand for all.
    ratio = np.minimum(ratio, ratio.mean() * math.sqrt(count))
    # Draws of one parameter are put in order: evenly spaced places then represent it with little noise.
    order = np.argsort(draws[:, 0], kind="stable") if draws.shape[1] == 1 else np.arange(count)
    return draws[order[_systematic(ratio[order] / ratio.sum(), DRAWS)]]


def posterior_modes(evidence: Evidence, grid: list[Prior], start: Floats) -> tuple[Floats, Floats, Floats]:
    """Return mode (G, D), precision around it (G, D, D) and log marginal likelihood (G,) under each prior.

    All priors take the steps of Newton's method together; a step that does not improve is made shorter.
    """
    means = np.stack([prior.mean for prior in grid])
    precisions = np.stack([prior.precision for prior in grid])

    def objective(parameters: Floats) -> tuple[Floats, Floats, Floats]:
        loss, gradient, hessian = evidence.derivatives(parameters)
        pull = np.einsum("gij,gj->gi", precisions, parameters - means)
        penalty = 0.5 * ((parameters - means) * pull).sum(axis=1)
        return loss + penalty, gradient + pull, hessian + precisions

    at = np.broadcast_to(start, means.shape)
    value, gradient, hessian = objective(at)
    length = np.ones((len(grid), 1))
    for _ in range(_MOST_STEPS):
        step = -np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        if np.all(-(step * gradient).sum(axis=1) < _SMALLEST_GAIN):
            break
        step *= np.minimum(
            length, _LARGEST_STEP / np.maximum(np.abs(step), 1e-300).max(axis=1, keepdims=True)
        )
        new_value, new_gradient, new_hessian = objective(at + step)
        better = new_value <= value
        length = np.where(better[:, None], np.minimum(4 * length, 1.0), length / 4)
        at = np.where(better[:, None], at + step, at)
        value = np.where(better, new_value, value)
        gradient = np.where(better[:, None], new_gradient, gradient)
        hessian = np.where(better[:, None, None], new_hessian, hessian)
    log_determinants = np.linalg.slogdet(precisions)[1] - np.linalg.slogdet(hessian)[1]
    return at, hessian, log_determinants / 2 - value


def _systematic(weights: Floats, count: int) -> Ints:
    """Return `count` indices, each as often as its weight demands."""
    places = (np.arange(count) + 0.5) / count
    found: Ints = np.minimum(np.searchsorted(np.cumsum(weights), places), len(weights) - 1).astype(np.int64)
    return found
