"""Pieces of confidence with a temperature each, at which the piece is as confident as it is accurate."""

from __future__ import annotations

import math

import numpy as np

from .calibrator import Floats, Ints, softmax

_LARGEST_LOG_TEMPERATURE = math.log(20.0)
_MOST_PIECES = 20


def match_pieces(
    logits: Floats, labels: Ints, min_per_piece: int, overall: float
) -> tuple[Floats, Floats, Floats]:
    """Return log T and mean confidence of each piece, and the least confidence of each but the first.

    Scans are sorted by uncalibrated top-label confidence and cut into pieces of equal count; equal
    confidences stay together.

    Parameters
    ----------
    min_per_piece : int
        Fewest scans of a piece; there are at most 20 pieces, and one where the scans are fewer.
    overall : float
        Log of the one temperature for all. Temperatures are sought in [1/20, 20], or, where this one is
        outside of that because the logits are on another scale, within a factor of 20 around it. A piece
        whose logits are all equal has no temperature of its own and takes this one.
    """
    from scipy.optimize import elementwise  # slow to import, and only fitting needs it

    confidence = softmax(logits).max(axis=1)
    order = np.argsort(confidence, kind="stable")
    confidence = confidence[order]
    starts = _piece_starts(confidence, min_per_piece)
    counts = np.diff(starts, append=len(confidence))
    # Classes first: sums over a handful of classes are then sums of long rows.
    below_top = np.ascontiguousarray((logits - logits.max(axis=1, keepdims=True))[order].T)
    right = (logits.argmax(axis=1) == labels)[order].astype(np.float64)
    accuracy = np.add.reduceat(right, starts) / counts
    centre = overall if abs(overall) > _LARGEST_LOG_TEMPERATURE else 0.0

    def excess(log_temperatures: Floats, piece: Ints) -> Floats:
        # The search goes on with the pieces that are not done; the others are computed and not used.
        every = np.full(len(starts), centre)
        every[piece] = log_temperatures
        scores = np.exp(below_top * np.repeat(np.exp(-every), counts)).sum(axis=0)
        found: Floats = (np.add.reduceat(1.0 / scores, starts) / counts - accuracy)[piece]
        return found

    piece = np.arange(len(starts))
    low, high = (
        np.full(len(starts), centre + d) for d in (-_LARGEST_LOG_TEMPERATURE, _LARGEST_LOG_TEMPERATURE)
    )
    found = elementwise.find_root(excess, (low, high), args=(piece,)).x
    found = np.where(excess(high, piece) >= 0, high, found)
    found = np.where(excess(low, piece) <= 0, low, found)
    spread = np.minimum.reduceat(below_top.min(axis=0), starts)
    means = np.add.reduceat(confidence, starts) / counts
    return np.where(spread == 0, overall, found), means, confidence[starts[1:]]


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
