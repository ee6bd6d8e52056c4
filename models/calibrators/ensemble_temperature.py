"""A mixture of the tempered, the raw and the uniform probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy

from .calibrator import Calibrator, Floats, Ints, softmax
from .temperature import best_log_temperature


@dataclass(eq=False)
class EnsembleTemperature(Calibrator):
    """Mix ``w0 softmax(z / T) + w1 softmax(z) + w2 / K``, weights on the simplex.

    T is that of `Temperature`; the weights then minimise the negative log-likelihood, a convex problem. All
    three parts keep the order of a scan's classes, so the accuracy cannot change. The uniform part bounds
    the confidence. One scan, one class or equal logits are enough to fit: the mixture is then no less likely
    than its temperature alone.

    Attributes
    ----------
    temperature : float
    weights : ndarray, shape (3,)
        Of the tempered, the raw and the uniform part.

    References
    ----------
    Zhang, Kailkhura, Han, Mix-n-Match, ICML 2020, equation 4. The authors' code also offers squared error in
    place of the likelihood.
    """

    name: ClassVar[str] = "ensemble_temperature"
    temperature: float = field(default=1.0, init=False)
    weights: Floats = field(default_factory=lambda: np.array([1.0, 0.0, 0.0]), init=False)

    def _fit(self, logits: Floats, labels: Ints) -> None:
        self.temperature = math.exp(best_log_temperature(logits, labels))
        of_true_class = np.stack(
            [part[np.arange(len(labels)), labels] for part in self._parts(logits)], axis=1
        )
        self.weights = _likeliest_mixture(of_true_class)

    def _parts(self, logits: Floats) -> tuple[Floats, Floats, Floats]:
        uniform = np.full(logits.shape, 1.0 / logits.shape[1])
        return softmax(logits / self.temperature), softmax(logits), uniform

    def _transform(self, logits: Floats) -> Floats:
        tempered, raw, uniform = self._parts(logits)
        mixed: Floats = self.weights[0] * tempered + self.weights[1] * raw + self.weights[2] * uniform
        return mixed


def _likeliest_mixture(likelihoods: Floats) -> Floats:
    """Return weights on the simplex that maximise the mean log of the mixed likelihoods (n_scans, 3)."""

    def loss(weights: Floats) -> tuple[float, Floats]:
        mixed = np.maximum(likelihoods @ weights, 1e-300)
        return -float(np.log(mixed).mean()), -(likelihoods / mixed[:, None]).mean(axis=0)

    tempered_only = np.array([1.0, 0.0, 0.0])
    found = scipy.optimize.minimize(
        loss,
        np.array([0.8, 0.1, 0.1]),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights: Floats = np.clip(found.x, 0.0, None) / np.clip(found.x, 0.0, None).sum()
    return weights if loss(weights)[0] <= loss(tempered_only)[0] else tempered_only
