"""Adaptive piecewise temperature scaling (ATS): a temperature that depends on how sure the network is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import scipy

from .calibrator import Floats, Ints, check_whole, softmax
from .pieces import match_pieces
from .temperature import DrawnTemperature, best_log_temperature

_FEWEST_KNOTS, _MOST_KNOTS = 2, 12


@dataclass(eq=False)
class AdaptiveTemperature(DrawnTemperature):
    """Divide each scan's logits by a temperature that follows its confidence, and shift them by class.

    The model is ``softmax(z / T(u) + b)``. u is the logit gap of a scan, the log-odds of its confidence
    against a rest that is evenly spread; log T is piecewise linear in u over round(n^(1/3)), 2 to 12, knots
    at quantiles of u, and constant beyond the outer two. Priors on the level of log T, on its increments and
    on the offsets b contain one temperature and no change at all, so that few scans change little.
    Probabilities are means over the posterior.

    One scan is enough to fit; three change little. Where all scans are of one class, b stays 0: it would only
    repeat that class. A class without a scan among many gets a lower b, within its prior. Where all logits
    are equal there is one knot, and T stays at its prior.

    Parameters
    ----------
    offsets : bool, default=True
        Without them the order of a scan's classes, and with it the accuracy, cannot change. They correct
        class shares that the network learned wrongly, as from generative cross-entropy or reweighting.
    plain : bool, default=False
        For comparison: pieces of equal count, each at the temperature at which its mean confidence is its
        accuracy; no prior, no offsets, no posterior. A piece without an error gets T = 1/20 and is then all
        but certain: of 500 sound scans the surest 50 are such a piece in one draw of three, which costs .12
        nats where the other draws cost .01.
    min_per_piece : int, default=50
        Fewest scans of a plain piece.
    interpolate : bool, default=True
        Whether a plain log T runs linearly between the pieces' mean confidences.

    Attributes
    ----------
    knots : ndarray, shape (n_knots,)
        Logit gaps.
    log_temperatures : ndarray, shape (n_draws, n_knots)
        Log T at the knots; of plain pieces, shape (n_pieces,).
    biases : ndarray, shape (n_draws, n_classes)
        The offsets; of shape (n_draws, 0) where there are none.
    confidences : ndarray, shape (n_pieces,)
        Mean uncalibrated confidence of plain pieces.
    edges : ndarray, shape (n_pieces - 1,)
        Least confidence in each plain piece but the first.

    Notes
    -----
    A surer scan must not come out less sure. Without offsets this is exact for two classes. For more, two
    scans of one confidence can differ in how they spread the rest, and already a single temperature reorders
    those; what holds then is that scaling one scan's logits up never makes it less sure. It holds where
    d log T / du <= 1 / u, because u grows at most in proportion to the scale. The increments of each draw
    keep this bound; where a draw exceeds it, the nearest that does not is an isotonic regression.

    References
    ----------
    Zhan, Zhou, Shen, arXiv:2604.06689, calibrate with ATS but do not give its recipe; the choices are ours.

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.array([[1.0, 0.0]] * 50 + [[4.0, 0.0]] * 50)
    >>> labels = np.array([0] * 40 + [1] * 10 + [0] * 45 + [1] * 5)
    >>> ats = AdaptiveTemperature(plain=True).fit(logits, labels)
    >>> ats.transform(np.array([[1.0, 0.0], [4.0, 0.0]])).round(3)
    array([[0.8, 0.2],
           [0.9, 0.1]])
    """

    name: ClassVar[str] = "adaptive_temperature"
    offsets: bool = True
    plain: bool = False
    min_per_piece: int = 50
    interpolate: bool = True
    knots: Floats = field(default_factory=lambda: np.zeros(1), init=False)
    confidences: Floats = field(default_factory=lambda: np.zeros(0), init=False)
    edges: Floats = field(default_factory=lambda: np.zeros(0), init=False)

    def __post_init__(self) -> None:
        check_whole("min_per_piece", self.min_per_piece)
        for name in ("offsets", "plain", "interpolate"):
            if getattr(self, name) not in (True, False):
                raise ValueError(f"{name}={getattr(self, name)!r} is not valid. Expected True or False.")

    @property
    def may_change_class(self) -> bool:
        """Whether offsets may change the predicted class."""
        return self.offsets and not self.plain

    def _fit(self, logits: Floats, labels: Ints) -> None:
        if self.plain:
            overall = best_log_temperature(logits, labels)
            pieces = match_pieces(logits, labels, self.min_per_piece, overall)
            self.log_temperatures, self.confidences, self.edges = pieces
            return
        self.confidences = self.edges = np.zeros(0)
        gaps = logit_gaps(logits)
        count = int(np.clip(round(len(labels) ** (1 / 3)), _FEWEST_KNOTS, _MOST_KNOTS))
        self.knots = np.unique(np.quantile(gaps, (np.arange(count) + 0.5) / count))
        self._draw(logits, labels, self._weights_at(gaps), offsets=self.offsets)
        self.log_temperatures = _limit_rises(self.log_temperatures, self.knots)

    def _weights(self, logits: Floats) -> Floats:
        """Return how much log T at each knot counts for each scan, shape (n_scans, n_knots)."""
        return self._weights_at(logit_gaps(logits))

    def _weights_at(self, gaps: Floats) -> Floats:
        return np.stack([np.interp(gaps, self.knots, one) for one in np.eye(len(self.knots))], axis=1)

    def _transform(self, logits: Floats) -> Floats:
        if not self.confidences.size:
            return super()._transform(logits)
        confidence = softmax(logits).max(axis=1)
        if self.interpolate:
            log_temperatures = np.interp(confidence, self.confidences, self.log_temperatures)
        else:
            log_temperatures = self.log_temperatures[np.searchsorted(self.edges, confidence, side="right")]
        return softmax(logits / np.exp(log_temperatures)[:, None])

    def _draws(self, logits: Floats) -> Floats:
        return self._transform(logits)[None] if self.confidences.size else super()._draws(logits)

    @classmethod
    def _upgraded(
        cls, options: dict[str, Any], fitted: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        # Older versions stored pieces, steadied by a shrinkage that only fitting used.
        if "confidences" in fitted and "knots" not in fitted:
            options = {key: value for key, value in options.items() if key != "shrinkage"}
            return options | {"offsets": False}, fitted | {"knots": [0.0], "biases": [[]]}
        return options, fitted


def logit_gaps(logits: Floats) -> Floats:
    """Return each scan's log-odds of its confidence against an evenly spread rest, shape (n_scans,), from 0.

    It is the logit gap of a scan whose other classes are equal: log(r (K - 1) / (1 - r)) of confidence r.
    """
    rest = logits - logits.max(axis=1, keepdims=True)
    rest[np.arange(len(rest)), logits.argmax(axis=1)] = -np.inf
    largest = rest.max(axis=1, keepdims=True)
    log_sum = largest[:, 0] + np.log(np.exp(rest - largest).sum(axis=1))
    gaps: Floats = np.maximum(math.log(logits.shape[1] - 1) - log_sum, 0.0)
    return gaps


def _limit_rises(log_temperatures: Floats, knots: Floats) -> Floats:
    """Return the nearest draws (n_draws, n_knots) whose slopes between knots keep the bound of the class."""
    rises = 1 - knots[:-1] / np.maximum(knots[1:], 1e-300)
    allowed = np.concatenate([[0.0], np.cumsum(rises)])
    limited = log_temperatures.copy()
    for row in np.flatnonzero((np.diff(log_temperatures, axis=1) > rises).any(axis=1)):
        falling = scipy.optimize.isotonic_regression(log_temperatures[row] - allowed, increasing=False)
        limited[row] = falling.x + allowed
    return limited
