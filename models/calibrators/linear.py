"""Linear maps of the logits: one scale and bias per class, or a full matrix on the log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import ClassVar

import numpy as np
import scipy

from .calibrator import Calibrator, Floats, Ints, log_softmax, softmax
from .temperature import best_log_temperature

_RIDGE = 1e-6
"""So small that it decides only what the scans leave open, as when every scan is right."""
_MOST_PARAMETERS = 500
_MOST_STEPS = 100
"""Of the search without a Hessian: 5,000 scans of 100 classes take 2 seconds, to convergence 11."""


@dataclass(eq=False)
class Vector(Calibrator):
    """Scale and shift each class's logit: ``softmax(scale * z + bias)``. May change the predicted class.

    The logits are first divided by the best single temperature, and scales and biases are then
    drawn back to it. Classes without a calibration scan keep that temperature and no bias; the others are
    fitted among themselves, so scans of one class leave one temperature. One scan is enough to fit; equal
    logits are answered part of the way from uniform to the class shares. Scales differ between classes, so a
    constant that is added to all logits of a scan changes its answer, as with no other calibrator.

    Parameters
    ----------
    ridge : float, default=5.0
        Pull per squared bias and squared scale relative to 1/T, in nats over all scans; its share in the mean
        over scans grows as they get fewer. 5 is a normal prior of standard deviation 0.32. At 2 it cost
        over half as much again where nothing is wrong; only PneumoniaMNIST gained, by .01 nats.

    Attributes
    ----------
    scale, bias : ndarray, shape (n_classes,)

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2. Berta, Holzmüller, Jordan,
    Bach, Structured Matrix Scaling for Multi-Class Calibration, 2025, for temperature first and the ridge.
    """

    name: ClassVar[str] = "vector"
    ridge: float = 5.0
    scale: Floats = field(default_factory=lambda: np.ones(1), init=False)
    bias: Floats = field(default_factory=lambda: np.zeros(1), init=False)

    @property
    def may_change_class(self) -> bool:
        """Whether the predicted class can change; it can."""
        return True

    def __post_init__(self) -> None:
        _check_penalty("ridge", self.ridge)

    def _fit(self, logits: Floats, labels: Ints) -> None:
        temperature = math.exp(best_log_temperature(logits, labels))
        present, among_present = np.unique(labels, return_inverse=True)
        inputs = logits[:, present] / temperature
        onehot = np.eye(len(present))[among_present]
        n, k = inputs.shape
        ridge = max(self.ridge / n, _RIDGE if self.ridge else 0.0)

        def loss(parameters: Floats) -> tuple[float, Floats]:
            log_p = log_softmax(inputs * (1 + parameters[:k]) + parameters[k:])
            error = (np.exp(log_p) - onehot) / n
            slope = np.concatenate([(error * inputs).sum(axis=0), error.sum(axis=0)])
            value = ridge * (parameters**2).sum() - (log_p * onehot).sum() / n
            return float(value), slope + 2 * ridge * parameters

        def hessian(parameters: Floats) -> Floats:
            p = softmax(inputs * (1 + parameters[:k]) + parameters[k:])
            px = p * inputs
            both = np.concatenate([px, p], axis=1)
            found: Floats = -both.T @ both / n + 2 * ridge * np.eye(2 * k)
            diagonal = np.arange(k)
            found[diagonal, diagonal] += (px * inputs).sum(axis=0) / n
            found[diagonal, diagonal + k] += px.sum(axis=0) / n
            found[diagonal + k, diagonal] += px.sum(axis=0) / n
            found[diagonal + k, diagonal + k] += p.sum(axis=0) / n
            return found

        moved = _least(loss, hessian, np.zeros(2 * k))
        self.scale = np.full(logits.shape[1], 1 / temperature)
        self.bias = np.zeros(logits.shape[1])
        self.scale[present] *= 1 + moved[:k]
        self.bias[present] = moved[k:]

    def _transform(self, logits: Floats) -> Floats:
        return softmax(logits * self.scale + self.bias)


@dataclass(eq=False)
class Dirichlet(Calibrator):
    """Map log-probabilities by a full matrix: ``softmax(W log p + b)``. May change the predicted class.

    Off-diagonal weights and intercepts are held small (ODIR): the penalty is ``off_diagonal`` times the mean
    square of the K (K - 1) weights off the diagonal plus ``intercept`` times the mean square of b, added to
    the mean negative log-likelihood. Classes without a calibration scan keep the best single temperature and
    no intercept; the others are fitted among themselves, so scans of one class leave one temperature. One
    scan is enough to fit; equal logits are answered with the shares of the classes that have scans.

    From 22 classes on the search stops after 100 steps: with 5,000 scans of 100 classes it is then within
    .005 nats of the optimum on its own scans, and more steps do no better on others. It overfits there.

    Parameters
    ----------
    off_diagonal, intercept : float, default=1e-2
        Called lambda and mu in the paper, which chooses them by cross-validation.

    Attributes
    ----------
    weights : ndarray, shape (n_classes, n_classes)
        Row k makes the new logit of class k.
    bias : ndarray, shape (n_classes,)

    References
    ----------
    Kull et al., Beyond temperature scaling, NeurIPS 2019, section 3 and equation 8.
    """

    name: ClassVar[str] = "dirichlet"
    off_diagonal: float = 1e-2
    intercept: float = 1e-2
    weights: Floats = field(default_factory=lambda: np.eye(1), init=False)
    bias: Floats = field(default_factory=lambda: np.zeros(1), init=False)

    @property
    def may_change_class(self) -> bool:
        """Whether the predicted class can change; it can."""
        return True

    def __post_init__(self) -> None:
        _check_penalty("off_diagonal", self.off_diagonal)
        _check_penalty("intercept", self.intercept)

    def _fit(self, logits: Floats, labels: Ints) -> None:
        temperature = math.exp(best_log_temperature(logits, labels))
        present, among_present = np.unique(labels, return_inverse=True)
        # The problem is solved for T W, so that it is as well scaled for logits of any size.
        inputs = np.column_stack([log_softmax(logits)[:, present] / temperature, np.ones(len(labels))])
        k, n = len(present), len(labels)
        onehot, identity = np.eye(k)[among_present], np.eye(k, k + 1)
        per_weight = self.off_diagonal / max(k * (k - 1), 1) / temperature**2
        penalty = np.where(identity > 0, _RIDGE, per_weight)
        penalty[:, -1] = self.intercept / k

        def loss(moved: Floats) -> tuple[float, Floats]:
            by_row = moved.reshape(k, k + 1)
            log_p = log_softmax(inputs @ (identity + by_row).T)
            slope = (np.exp(log_p) - onehot).T @ inputs / n + 2 * penalty * by_row
            return float((penalty * by_row**2).sum() - (log_p * onehot).sum() / n), slope.ravel()

        def hessian(moved: Floats) -> Floats:
            p = softmax(inputs @ (identity + moved.reshape(k, k + 1)).T)
            found = np.empty((k, k + 1, k, k + 1))
            for i in range(k):
                for j in range(i, k):
                    spread = p[:, i] * ((i == j) - p[:, j]) / n
                    found[i, :, j, :] = (inputs * spread[:, None]).T @ inputs
                    found[j, :, i, :] = found[i, :, j, :]
            return found.reshape(k * (k + 1), k * (k + 1)) + np.diag(2 * penalty.ravel())

        weights = identity + _least(loss, hessian, np.zeros(k * (k + 1))).reshape(k, k + 1)
        self.weights, self.bias = np.eye(logits.shape[1]) / temperature, np.zeros(logits.shape[1])
        self.weights[np.ix_(present, present)] = weights[:, :-1] / temperature
        self.bias[present] = weights[:, -1]

    def _transform(self, logits: Floats) -> Floats:
        return softmax(log_softmax(logits) @ self.weights.T + self.bias)


def _least(
    loss: Callable[[Floats], tuple[float, Floats]], hessian: Callable[[Floats], Floats], start: Floats
) -> Floats:
    """Return the minimum of a convex loss; where a Hessian would be too large, the search is cut short."""
    if len(start) <= _MOST_PARAMETERS:
        options = {"gtol": 1e-9, "maxiter": 200}
        found = scipy.optimize.minimize(
            loss, start, jac=True, hess=hessian, method="trust-exact", options=options
        )
    else:
        options = {"maxiter": _MOST_STEPS, "maxfun": 2 * _MOST_STEPS}
        found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    parameters: Floats = found.x
    return parameters


def _check_penalty(name: str, value: object) -> None:
    if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
        raise ValueError(f"{name}={value!r} is not valid. Expected a finite number of at least 0.")
