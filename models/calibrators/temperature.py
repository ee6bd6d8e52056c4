"""One temperature for all scans, or none at all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy

from .calibrator import Calibrator, Floats, Ints, softmax

# log T is sought here; scikit-learn's range.
_LOW, _HIGH = -10.0, 10.0


@dataclass(eq=False)
class Identity(Calibrator):
    """Softmax alone, the baseline of every other calibrator. Needs no fitting."""

    name: ClassVar[str] = "identity"
    needs_fitting: ClassVar[bool] = False

    def _fit(self, logits: Floats, labels: Ints) -> None:
        """Learn nothing."""

    def _transform(self, logits: Floats) -> Floats:
        return softmax(logits)


@dataclass(eq=False)
class Temperature(Calibrator):
    """Divide all logits by the one temperature that minimises the negative log-likelihood.

    Attributes
    ----------
    temperature : float
        Above 1 softens, below 1 sharpens; 1 before fitting.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.

    Examples
    --------
    Two of three equally sure answers are right, so the calibrated confidence is 2/3:

    >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
    >>> calibrator = Temperature().fit(logits, np.array([0, 0, 1]))
    >>> calibrator.transform(logits)[0].round(6)
    array([0.666667, 0.333333])
    """

    name: ClassVar[str] = "temperature"
    temperature: float = field(default=1.0, init=False)

    def _fit(self, logits: Floats, labels: Ints) -> None:
        self.temperature = math.exp(best_log_temperature(logits, labels))

    def _transform(self, logits: Floats) -> Floats:
        return softmax(logits / self.temperature)


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
