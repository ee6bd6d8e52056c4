"""What differs from scan to scan on a real scanner, beside the head: noise, motion, field of view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats
from pipeline.phantom.cohort import CUT_RULE

_CUT_SHARE = 0.05
_VERTEX_BELOW_EDGE_MM = 29.0
"""From the top of the field of view to the vertex of a head that lies in its middle."""
UNCORRECTED = ("not-attenuation-corrected", "attenuation-only-claimed")
"""Rules whose scans are reconstructed without attenuation correction."""
_SUBFRAME_S, _MOST_SUBFRAMES = 300.0, 3


@dataclass(frozen=True)
class Conditions:
    """How a scan is taken.

    Parameters
    ----------
    attenuation_corrected : bool
        False leaves out the correction: the middle of the head looks cold.
    realistic : bool
        Noise varies with the place in the scanner and with the reconstruction, and the head moves within
        each frame. Otherwise noise is the same everywhere and the head lies still from frame to frame.
    table_shift_mm : float
        How far above its usual place the field of view lies: a rise cuts the cerebellum, a fall the vertex.
    """

    attenuation_corrected: bool = True
    realistic: bool = False
    table_shift_mm: float = 0.0


def draw_conditions(scan_seed: list[int], spoiled: str) -> Conditions:
    """Draw how a scan of a real-looking cohort is taken; one in twenty has its vertex at the edge.

    The cerebellum of a scan spoiled by ``"reference-coverage"`` is cut through or left out.
    """
    rng = np.random.default_rng([*scan_seed, 31])
    cut = -(_VERTEX_BELOW_EDGE_MM + float(rng.uniform(-6, 4))) if rng.random() < _CUT_SHARE else 0.0
    if spoiled == CUT_RULE:
        cut = float(rng.uniform(50, 65))
    return Conditions(
        attenuation_corrected=spoiled not in UNCORRECTED,
        realistic=True,
        table_shift_mm=cut,
    )


def noise_gain(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return how much noisier than average each voxel of a scanner's grid is.

    References
    ----------
    Li & Votaw 1997, "Spatial variation of SNR in two- and three-dimensional neuro-PET", IEEE Trans Nucl Sci:
    the signal-to-noise ratio grows with the distance from the axis, and in 3-D falls outside the middle 8 cm.
    By how much is assumed: a fifth from axis to rim, a half at the ends.
    """
    x, y, z = ((np.arange(n) - (n - 1) / 2) * d for n, d in zip(shape, spacing_mm, strict=True))
    from_axis = np.clip(np.hypot(x[:, None], y[None, :]) / 95.0, 0, 1)
    beyond = np.clip((np.abs(z) - 40.0) / 55.0, 0, 1)
    gain = (1.1 - 0.2 * from_axis**2)[:, :, None] * (1 + 0.5 * beyond**2)
    head = from_axis < 0.9
    normed: NDArray[np.float32] = (gain / np.sqrt(np.mean(gain[head] ** 2))).astype(np.float32)
    return normed


def wander(duration_s: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw how a head wanders within a frame, in two or three pieces: turns in degrees, shifts in mm.

    The head walks as far in five minutes as between frames, half a degree and .7 mm in all; on average it is
    where the frame's pose says.

    Returns
    -------
    turns_deg, shifts_mm : ndarray, shape (pieces, 3)
    """
    pieces = int(np.clip(round(duration_s / _SUBFRAME_S) + 1, 2, _MOST_SUBFRAMES))
    reach = np.sqrt(duration_s / _SUBFRAME_S / 3 / (pieces - 1))
    turns = np.cumsum(rng.normal(0, 0.5 * reach, (pieces, 3)), axis=0)
    shifts = np.cumsum(rng.normal(0, 0.7 * reach, (pieces, 3)), axis=0)
    return turns - turns.mean(axis=0), shifts - shifts.mean(axis=0)
