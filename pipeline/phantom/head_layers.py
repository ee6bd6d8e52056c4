"""What surrounds a brain: fluid, meninges, skull, scalp, face and neck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.arrays import Floats

_MENINGES_FROM_MM = 1.0


@dataclass(frozen=True)
class HeadLayers:
    """Layers around a brain in mm, from the inside out.

    Parameters
    ----------
    fluid : float
        From the brain to the skull; all but the first and the last millimetre of it are meninges.
    skull, scalp : float
    """

    fluid: float = 6.0
    skull: float = 5.0
    scalp: float = 5.0


def draw_layers(subject_seed: list[int]) -> HeadLayers:
    """Draw the thickness of a person's skull and scalp.

    References
    ----------
    Moreira-Gonzalez et al. 2006, doi 10.1097/01.prs.0000209933.78532.a7: 281 skulls, mean thickness 6.3 mm,
    5.3 to 7.5 mm by place.
    """
    rng = np.random.default_rng([*subject_seed, 11])
    skull, scalp = rng.normal(6.3, 1.0), rng.normal(5.0, 1.0)
    return HeadLayers(skull=float(np.clip(skull, 4.0, 9.0)), scalp=float(np.clip(scalp, 3.0, 8.0)))


def surround(
    brain: NDArray[np.bool_], affine: Floats, layers: HeadLayers, index: Mapping[str, int]
) -> NDArray[np.int16]:
    """Return the compartment of every voxel outside a brain; inside it the values have no meaning.

    Parameters
    ----------
    brain : ndarray of bool, shape (x, y, z)
        Without holes.
    affine : ndarray, shape (4, 4)
        Voxel index to RAS+ mm in a space whose brain lies where the template's does.
    index : mapping
        Compartment names to numbers.
    """
    x, y, z = places_mm(brain.shape, affine)
    depth = np.asarray(ndimage.distance_transform_edt(~brain, sampling=spacing_of(affine)))
    face = (np.hypot(x / 62, (y + 5) / 88) < 1) & (z < -10) | (np.hypot(x / 52, (y + 20) / 60) < 1) & (
        z < -50
    )
    skull = layers.fluid + layers.skull
    around = np.zeros(brain.shape, dtype=np.int16)
    around[(depth <= skull + layers.scalp) | face] = index["soft_tissue"]
    around[depth <= skull] = index["skull"]
    around[depth <= layers.fluid] = index["csf"]
    around[(depth > _MENINGES_FROM_MM) & (depth <= layers.fluid - 1)] = index["meninges"]
    return around


def places_mm(shape: tuple[int, ...], affine: Floats) -> tuple[Floats, Floats, Floats]:
    """Return x, y and z in mm of the voxels of a grid; they broadcast to its shape."""
    index = np.ogrid[tuple(map(slice, shape))]
    x, y, z = (
        sum((a * affine[k, axis] for axis, a in enumerate(index) if affine[k, axis]), affine[k, 3])
        for k in range(3)
    )
    return x, y, z


def spacing_of(affine: Floats) -> Floats:
    """Return the voxel size in mm along each axis of a grid."""
    spacing: Floats = np.linalg.norm(affine[:3, :3], axis=0)
    return spacing
