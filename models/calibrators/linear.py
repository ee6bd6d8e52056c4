"""Linear maps of the logits: one scale and bias per class, or a full matrix on the log-probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy
from numpy.typing import NDArray

from .calibrator import Calibrator, Floats, Ints, log_softmax, softmax
from .temperature import best_log_temperature

_RIDGE = 1e-6
"""So small that it decides only what the scans leave open, as when every scan is right."""


@dataclass(eq=False)
class Vector(Calibrator):
    """Scale and shift each class's logit: ``softmax(scale * z + bias)``. May change the predicted class.

    Classes without a calibration scan keep the scale of the best single temperature and no bias; the others
    are fitted among themselves.

    Parameters
    ----------
    ridge : float, default=1e-6
        Pull towards a single temperature, per squared bias and squared scale relative to 1/T. So small that
        it decides only what the scans leave open, as when every scan is right.

    Attributes
    ----------
    scale, bias : ndarray, shape (n_classes,)

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """

    name: ClassVar[str] = "vector"
    ridge: float = _RIDGE
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
        diagonal = np.eye(len(present), dtype=bool)
        problem = _Problem(
            logits[:, present] / temperature,
            among_present,
            learned=diagonal,
            penalty=np.where(diagonal, self.ridge, 0.0),
            bias_penalty=self.ridge,
        )
        weights, bias = problem.solve()
        self.scale = np.full(logits.shape[1], 1 / temperature)
        self.bias = np.zeros(logits.shape[1])
        self.scale[present] = np.diag(weights) / temperature
        self.bias[present] = bias

    def _transform(self, logits: Floats) -> Floats:
        return softmax(logits * self.scale + self.bias)


@dataclass(eq=False)
class Dirichlet(Calibrator):
    """Map log-probabilities by a full matrix: ``softmax(W log p + b)``. May change the predicted class.

    Off-diagonal weights and intercepts are held small (ODIR): the penalty is ``off_diagonal`` times the mean
    square of the K (K - 1) weights off the diagonal plus ``intercept`` times the mean square of b, added to
    the mean negative log-likelihood. Classes without a calibration scan keep the best single temperature and
    no intercept; the others are fitted among themselves.

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
        n = len(present)
        # The problem is solved for T W, so that it is as well scaled for logits of any size.
        per_weight = self.off_diagonal / max(n * (n - 1), 1) / temperature**2
        problem = _Problem(
            log_softmax(logits)[:, present] / temperature,
            among_present,
            learned=np.ones((n, n), dtype=bool),
            penalty=np.where(np.eye(n, dtype=bool), _RIDGE, per_weight),
            bias_penalty=self.intercept / n,
        )
        weights, bias = problem.solve()
        self.weights, self.bias = np.eye(logits.shape[1]) / temperature, np.zeros(logits.shape[1])
        self.weights[np.ix_(present, present)] = weights / temperature
        self.bias[present] = bias

    def _transform(self, logits: Floats) -> Floats:
        return softmax(log_softmax(logits) @ self.weights.T + self.bias)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Mean negative log-likelihood of ``softmax(W x + b)`` plus squared distances from W = I and b = 0.

    Parameters
    ----------
    inputs : ndarray, shape (n_scans, n_classes)
    labels : ndarray of int, shape (n_scans,)
    learned : ndarray of bool, shape (n_classes, n_classes)
        Which weights move; every bias does.
    penalty : ndarray, shape (n_classes, n_classes)
        Per squared weight.
    bias_penalty : float
        Per squared bias.
    """

    inputs: Floats
    labels: Ints
    learned: NDArray[np.bool_]
    penalty: Floats
    bias_penalty: float

    def solve(self) -> tuple[Floats, Floats]:
        """Return W and b of the minimum; the problem is convex, so it is found from any start."""
        found = scipy.optimize.minimize(
            self._loss,
            self._identity()[self._learned()],
            jac=True,
            hess=self._hessian,
            method="trust-exact",
            options={"gtol": 1e-9, "maxiter": 200},
        )
        weights = self._unpack(found.x)
        return weights[:, :-1], weights[:, -1]

    # Weights and bias are one array (n_classes, n_classes + 1); each input has a 1 appended.
    def _identity(self) -> Floats:
        return np.eye(len(self.penalty), len(self.penalty) + 1)

    def _learned(self) -> NDArray[np.bool_]:
        return np.column_stack([self.learned, np.ones(len(self.learned), dtype=bool)])

    def _penalties(self) -> Floats:
        return np.column_stack([self.penalty, np.full(len(self.penalty), self.bias_penalty)])

    def _extended(self) -> Floats:
        return np.column_stack([self.inputs, np.ones(len(self.inputs))])

    def _unpack(self, learned: Floats) -> Floats:
        weights = self._identity()
        weights[self._learned()] = learned
        return weights

    def _loss(self, learned: Floats) -> tuple[float, Floats]:
        weights = self._unpack(learned)
        log_p = log_softmax(self._extended() @ weights.T)
        moved = weights - self._identity()
        rows = np.arange(len(self.labels))
        value = -log_p[rows, self.labels].mean() + (self._penalties() * moved**2).sum()
        error = np.exp(log_p)
        error[rows, self.labels] -= 1
        slope = error.T @ self._extended() / len(error) + 2 * self._penalties() * moved
        return float(value), slope[self._learned()]

    def _hessian(self, learned: Floats) -> Floats:
        extended = self._extended()
        p = softmax(extended @ self._unpack(learned).T)
        classes, width = self._learned().shape
        hessian = np.empty((classes, width, classes, width))
        for k in range(classes):
            for j in range(classes):
                spread = p[:, k] * ((k == j) - p[:, j]) / len(p)
                hessian[k, :, j, :] = (extended * spread[:, None]).T @ extended
        flat = hessian.reshape(classes * width, classes * width) + np.diag(2 * self._penalties().ravel())
        moving = np.flatnonzero(self._learned())
        return flat[np.ix_(moving, moving)]


def _check_penalty(name: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name}={value} is not valid. Expected a finite number of at least 0.")
