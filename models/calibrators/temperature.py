"""No temperature, one for all scans, and one with an offset per class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import scipy

from .calibrator import Calibrator, Floats, Ints, softmax
from .posterior import LEVELS, Evidence, Level, Prior, draw_parameters

# log T is sought here; scikit-learn's range.
_LOW, _HIGH = -10.0, 10.0
_MOST_AT_ONCE = 100_000


@dataclass(eq=False)
class Identity(Calibrator):
    """Softmax alone, the baseline of every other calibrator. Needs no fitting, so no scans can mislead it."""

    name: ClassVar[str] = "identity"
    needs_fitting: ClassVar[bool] = False

    def _fit(self, logits: Floats, labels: Ints) -> None:
        """Learn nothing."""

    def _transform(self, logits: Floats) -> Floats:
        return softmax(logits)


@dataclass(eq=False)
class DrawnTemperature(Calibrator):
    """A temperature per scan and offsets per class with a posterior; probabilities are means over it.

    Attributes
    ----------
    log_temperatures : ndarray, shape (n_draws, n_values)
    biases : ndarray, shape (n_draws, n_classes)
        The offsets; of shape (n_draws, 0) where there are none.
    """

    log_temperatures: Floats = field(default_factory=lambda: np.zeros((1, 1)), init=False)
    biases: Floats = field(default_factory=lambda: np.zeros((1, 0)), init=False)

    def _draw(
        self,
        logits: Floats,
        labels: Ints,
        weights: Floats,
        *,
        offsets: bool,
        levels: Sequence[Level] = LEVELS,
    ) -> None:
        """Draw the parameters; where all scans are of one class, offsets would only repeat it and stay 0."""
        num_offsets = logits.shape[1] if offsets and len(np.unique(labels)) > 1 else 0
        grid = Prior.grid(weights.shape[1], num_offsets, levels)
        start = np.zeros(len(grid[0].mean))
        start[: weights.shape[1]] = best_log_temperature(logits, labels)
        below_top = np.ascontiguousarray((logits - logits.max(axis=1, keepdims=True)).T)
        evidence = Evidence(below_top, labels, weights)
        drawn = draw_parameters(evidence, grid, start)
        self.log_temperatures, self.biases = np.split(drawn, [weights.shape[1]], axis=1)

    def _weights(self, logits: Floats) -> Floats:
        """Return how much each value of log T counts for each scan, shape (n_scans, n_values)."""
        return np.ones((len(logits), 1))

    def _draws(self, logits: Floats) -> Floats:
        below_top = logits - logits.max(axis=1, keepdims=True)
        scores = below_top * np.exp(-(self.log_temperatures @ self._weights(logits).T))[:, :, None]
        if self.biases.shape[1]:
            scores += self.biases[:, None, :]
            scores -= scores.max(axis=2, keepdims=True)
        np.exp(scores, out=scores)
        probabilities: Floats = scores / scores.sum(axis=2, keepdims=True)
        return probabilities

    def _transform(self, logits: Floats) -> Floats:
        # In parts, because the draws of many scans would not fit into memory.
        most = max(1, _MOST_AT_ONCE // (len(self.log_temperatures) * logits.shape[1]))
        means = [self._draws(logits[i : i + most]).mean(axis=0) for i in range(0, len(logits), most)]
        return np.concatenate(means) if means else np.zeros(logits.shape)


@dataclass(eq=False)
class Temperature(DrawnTemperature):
    """Divide all logits by one temperature.

    One scan, one class or equal logits are enough to fit: T then stays within its prior, or without one at
    the limits of `best_log_temperature`.

    Parameters
    ----------
    prior : {"learned"}, (float, float) or None, default="learned"
        Mean and standard deviation of a normal prior on log T; "learned" weighs a narrow, a middle and a wide
        one by their marginal likelihood. None takes the one T that minimises the negative log-likelihood.

    Attributes
    ----------
    temperature : float
        Above 1 softens, below 1 sharpens; 1 before fitting. With a prior, the posterior's geometric mean.
    log_temperatures : ndarray, shape (n_draws, 1)
        Of shape (0, 1) without a prior.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.

    Examples
    --------
    Two of three equally sure answers are right, so the calibrated confidence is 2/3:

    >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
    >>> calibrator = Temperature(prior=None).fit(logits, np.array([0, 0, 1]))
    >>> calibrator.transform(logits)[0].round(6)
    array([0.666667, 0.333333])
    """

    name: ClassVar[str] = "temperature"
    prior: tuple[float, float] | Literal["learned"] | None = "learned"
    temperature: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        if self.prior is None or isinstance(self.prior, str):
            valid = self.prior in (None, "learned")
        else:
            try:
                mean, width = map(float, self.prior)
                self.prior = (mean, width)
                valid = math.isfinite(mean) and 0 < width < math.inf
            except (TypeError, ValueError):
                valid = False
        if not valid:
            raise ValueError(
                f"prior={self.prior!r} is not valid. "
                "Expected 'learned', None, or mean and standard deviation of log T."
            )

    def _fit(self, logits: Floats, labels: Ints) -> None:
        if self.prior is None:
            self.temperature = math.exp(best_log_temperature(logits, labels))
            self.log_temperatures, self.biases = np.zeros((0, 1)), np.zeros((0, 0))
            return
        levels = LEVELS if isinstance(self.prior, str) else ((*self.prior, 1.0),)
        self._draw(logits, labels, self._weights(logits), offsets=False, levels=levels)
        self.temperature = math.exp(self.log_temperatures.mean())

    def _transform(self, logits: Floats) -> Floats:
        return (
            super()._transform(logits) if len(self.log_temperatures) else softmax(logits / self.temperature)
        )

    def _draws(self, logits: Floats) -> Floats:
        return super()._draws(logits) if len(self.log_temperatures) else self._transform(logits)[None]

    @classmethod
    def _upgraded(
        cls, options: dict[str, Any], fitted: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if "temperature" in fitted and "log_temperatures" not in fitted:  # of an older version: no prior
            return options | {"prior": None}, fitted | {"log_temperatures": [], "biases": []}
        return options, fitted


@dataclass(eq=False)
class BiasCorrectedTemperature(DrawnTemperature):
    """Divide all logits by one temperature and shift them by class: ``softmax(z / T + b)``.

    The offsets b have a normal prior around 0 whose width the scans choose; they supply the class shares that
    a loss such as generative cross-entropy leaves loose. May change the predicted class. One scan is enough
    to fit. Where all scans are of one class, b stays 0; where all logits are equal, T stays at its prior and
    b moves part of the way to the class shares.

    References
    ----------
    Alexandari, Kundaje, Shrikumar, Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at
    Label Shift Adaptation, ICML 2020, section 3; there without a prior.
    """

    name: ClassVar[str] = "bias_corrected_temperature"

    @property
    def may_change_class(self) -> bool:
        """Whether offsets may change the predicted class."""
        return True

    def _fit(self, logits: Floats, labels: Ints) -> None:
        self._draw(logits, labels, self._weights(logits), offsets=True)


def best_log_temperature(logits: Floats, labels: Ints) -> float:
    """Return the log of the temperature with the least negative log-likelihood.

    The likelihood is concave in 1/T, so the optimum is the root of a monotone slope and the bracketed search
    ends there, wherever it starts.

    Three cases have no such root. All logits of every scan equal: T is 1. Every scan wrong to the point that
    no temperature is high enough: T is e^10, which is uniform in practice. Every scan right: the likelihood
    grows for ever as T falls, but n right answers out of n do not show certainty, so T stops where the mean
    confidence is Laplace's (n + 1)/(n + 2), or at 1 where the logits are surer than that already.

    Parameters
    ----------
    logits : ndarray, shape (n_scans, n_classes)
    labels : ndarray of int, shape (n_scans,)

    Returns
    -------
    float
        Within [-10, 10].
    """
    # Classes first: sums over a handful of classes are then sums of long rows.
    below_top = np.ascontiguousarray((logits - logits.max(axis=1, keepdims=True)).T)
    of_true_class = float(below_top[labels, np.arange(len(labels))].mean())

    def slope(log_temperature: float) -> float:
        scores = np.exp(below_top * math.exp(-log_temperature))
        expected = np.einsum("kn,kn->n", scores, below_top) / scores.sum(axis=0)
        return float(expected.mean()) - of_true_class

    if not below_top.any():
        return 0.0
    if slope(_LOW) <= 0:
        return _when_all_are_right(below_top)
    if slope(_HIGH) >= 0:
        return _HIGH
    return float(scipy.optimize.brentq(slope, _LOW, _HIGH, xtol=1e-12, rtol=1e-14))


def _when_all_are_right(below_top: Floats) -> float:
    n = int(below_top.shape[1])
    target = (n + 1) / (n + 2)

    def excess(log_temperature: float) -> float:
        confidence = 1 / np.exp(below_top * math.exp(-log_temperature)).sum(axis=0)
        return float(confidence.mean()) - target

    # Ties for the top class keep the confidence low at any temperature; then too T stays 1.
    if excess(0.0) >= 0 or excess(_LOW) <= 0:
        return 0.0
    return float(scipy.optimize.brentq(excess, _LOW, 0.0, xtol=1e-12, rtol=1e-14))
