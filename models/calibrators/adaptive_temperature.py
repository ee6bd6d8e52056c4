"""Adaptive piecewise temperature scaling (ATS): a temperature that depends on how sure the network is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy

from .calibrator import Calibrator, Floats, Ints, softmax
from .temperature import best_log_temperature

_LARGEST_LOG_TEMPERATURE = math.log(20.0)
_MOST_PIECES = 20
_PSEUDO_SCANS = 2


@dataclass(eq=False)
class AdaptiveTemperature(Calibrator):
    """Give each range of confidence the temperature at which its mean confidence equals its accuracy.

    The calibration scans are sorted by uncalibrated top-label confidence and cut into pieces of equal count;
    equal confidences stay together. Each piece's temperature is found without gradients, by a bracketed
    search over log T. All logits of a scan are divided by one number, so the order of its classes, and with
    it the accuracy, cannot change.

    Calibration sets in medicine are small, so three things steady the temperatures: each piece gets two
    pseudo-scans that are right as often as the global temperature predicts; its log T is drawn towards the
    global one by n / (n + shrinkage); and T may not rise so steeply with the confidence that a surer scan
    would come out less sure.

    Parameters
    ----------
    min_per_piece : int, default=50
        Fewest scans of a piece; there are at most 20 pieces, and one where the scans are fewer.
    interpolate : bool, default=True
        Log T runs linearly between the pieces' mean confidences and is constant beyond the outer two.
        Otherwise T is constant within a piece.
    shrinkage : float, default=50
        Scans that the global temperature is worth in each piece. Infinity gives `Temperature`.
    plain : bool, default=False
        Switch off pseudo-scans, shrinkage and monotonicity.

    Attributes
    ----------
    log_temperatures, confidences : ndarray, shape (n_pieces,)
        Of each piece: log T, and the mean uncalibrated confidence.
    edges : ndarray, shape (n_pieces - 1,)
        Least confidence in each piece but the first.

    Notes
    -----
    Temperatures are sought in [1/20, 20], or, where the global temperature is outside of that because the
    logits are on another scale, within a factor of 20 around it. A piece whose logits are all equal has no
    temperature of its own and takes the global one.

    The monotonicity is exact for two classes. For more, two scans of one confidence can differ in how they
    spread the rest, and already a single temperature reorders those; what holds then is that scaling one
    scan's logits up never makes it less sure. It holds where d log T / dr <= 1 / (r (1 - r) G(r)), with r
    the uncalibrated confidence and G(r) = log(r (K - 1) / (1 - r)) the logit gap of a scan that spreads the
    rest evenly, the worst case. The nearest temperatures in weighted least squares of log T that keep this
    bound are an isotonic regression. With ``interpolate=False`` the bound means that T never rises.

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
    min_per_piece: int = 50
    interpolate: bool = True
    shrinkage: float = 50.0
    plain: bool = False
    log_temperatures: Floats = field(default_factory=lambda: np.zeros(1), init=False)
    confidences: Floats = field(default_factory=lambda: np.ones(1), init=False)
    edges: Floats = field(default_factory=lambda: np.zeros(0), init=False)

    def __post_init__(self) -> None:
        if self.min_per_piece < 1:
            raise ValueError(
                f"min_per_piece={self.min_per_piece} is not valid. Expected a number of at least 1."
            )
        if not self.shrinkage >= 0:
            raise ValueError(f"shrinkage={self.shrinkage} is not valid. Expected a number of at least 0.")

    def _fit(self, logits: Floats, labels: Ints) -> None:
        confidence = softmax(logits).max(axis=1)
        order = np.argsort(confidence, kind="stable")
        confidence = confidence[order]
        starts = _piece_starts(confidence, self.min_per_piece)
        counts = np.diff(starts, append=len(confidence)).astype(np.float64)
        # Classes first: sums over a handful of classes are then sums of long rows.
        below_top = np.ascontiguousarray((logits - logits.max(axis=1, keepdims=True))[order].T)
        right = (logits.argmax(axis=1) == labels)[order].astype(np.float64)

        pieces = _Pieces(below_top, starts, counts)
        overall = best_log_temperature(logits, labels)
        hits = np.add.reduceat(right, starts)
        means = np.add.reduceat(confidence, starts) / counts
        if self.plain:
            log_temperatures = pieces.match(hits / counts, overall)
        else:
            expected = pieces.mean_confidence(np.full(len(starts), overall))
            target = (hits + _PSEUDO_SCANS * expected) / (counts + _PSEUDO_SCANS)
            own = counts / (counts + self.shrinkage)
            log_temperatures = own * pieces.match(target, overall) + (1 - own) * overall
            rises = _steepest_rises(means, logits.shape[1]) if self.interpolate else np.zeros(len(starts) - 1)
            log_temperatures = _limit_rises(log_temperatures, rises, counts)
        self.log_temperatures = log_temperatures
        self.confidences = means
        self.edges = confidence[starts[1:]]

    def temperatures(self, confidence: Floats) -> Floats:
        """Return the temperature for scans of the given uncalibrated top-label confidences."""
        if self.interpolate:
            log_temperatures = np.interp(confidence, self.confidences, self.log_temperatures)
        else:
            log_temperatures = self.log_temperatures[np.searchsorted(self.edges, confidence, side="right")]
        temperatures: Floats = np.exp(log_temperatures)
        return temperatures

    def _transform(self, logits: Floats) -> Floats:
        confidence = softmax(logits).max(axis=1)
        return softmax(logits / self.temperatures(confidence)[:, None])


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Scans sorted by confidence and cut into pieces.

    Parameters
    ----------
    below_top : ndarray, shape (n_classes, n_scans)
        Logits less the scan's largest.
    starts, counts : ndarray, shape (n_pieces,)
        First scan of each piece, and how many it holds.
    """

    below_top: Floats
    starts: Ints
    counts: Floats

    def mean_confidence(self, log_temperatures: Floats) -> Floats:
        """Return each piece's mean confidence at its own temperature."""
        inverse = np.repeat(np.exp(-log_temperatures), self.counts.astype(np.int64))
        confidence = 1.0 / np.exp(self.below_top * inverse).sum(axis=0)
        means: Floats = np.add.reduceat(confidence, self.starts) / self.counts
        return means

    def match(self, accuracy: Floats, overall: float) -> Floats:
        """Return log T of each piece at which its mean confidence is the given accuracy."""
        from scipy.optimize import elementwise  # slow to import, and only fitting needs it

        centre = overall if abs(overall) > _LARGEST_LOG_TEMPERATURE else 0.0
        low = np.full(len(self.starts), centre - _LARGEST_LOG_TEMPERATURE)
        high = np.full(len(self.starts), centre + _LARGEST_LOG_TEMPERATURE)

        def excess(log_temperatures: Floats, piece: Ints) -> Floats:
            # The search goes on with the pieces that are not done; the others are computed and not used.
            every = np.full(len(self.starts), centre)
            every[piece] = log_temperatures
            return (self.mean_confidence(every) - accuracy)[piece]

        piece = np.arange(len(self.starts))
        found = elementwise.find_root(excess, (low, high), args=(piece,)).x
        found = np.where(excess(high, piece) >= 0, high, found)
        found = np.where(excess(low, piece) <= 0, low, found)
        spread = np.minimum.reduceat(self.below_top.min(axis=0), self.starts)
        return np.where(spread == 0, overall, found)


def _piece_starts(confidence: Floats, min_per_piece: int) -> Ints:
    """Return where each piece starts in the sorted confidences; a run of equal ones is not cut."""
    n = len(confidence)
    pieces = int(np.clip(n // min_per_piece, 1, _MOST_PIECES))
    cuts = np.searchsorted(confidence, confidence[np.arange(1, pieces) * n // pieces], side="left")
    starts = [0]
    for cut in cuts.tolist():
        if min(cut - starts[-1], n - cut) >= min_per_piece:
            starts.append(cut)
    return np.array(starts, dtype=np.int64)


def _steepest_rises(confidences: Floats, num_classes: int) -> Floats:
    """Return how much log T may rise between neighbouring mean confidences, see the class's notes."""

    def gap(r: Floats) -> Floats:
        return np.log(r) + math.log(num_classes - 1) - np.log1p(-r)

    # r (1 - r) G(r) has one maximum, where (2 r - 1) G(r) = 1; the segment's largest value is there or at
    # its nearer end.
    peak = scipy.optimize.brentq(lambda r: (2 * r - 1) * gap(r) - 1, 0.5, 1 - 1e-9)
    # Nearer to 1 the confidence has too few digits left to distinguish scans; T does not rise there.
    below_one = np.minimum(confidences, 1 - 1e-9)
    low, high = below_one[:-1], below_one[1:]
    steepest = np.clip(peak, low, high)
    limits: Floats = (high - low) / (steepest * (1 - steepest) * gap(steepest))
    return limits


def _limit_rises(log_temperatures: Floats, rises: Floats, weights: Floats) -> Floats:
    """Return the nearest values whose steps up are no larger than the given rises."""
    if np.all(np.diff(log_temperatures) <= rises):
        return log_temperatures
    allowed = np.concatenate([[0.0], np.cumsum(rises)])
    falling = scipy.optimize.isotonic_regression(
        log_temperatures - allowed, weights=weights, increasing=False
    )
    limited: Floats = falling.x + allowed
    return limited
