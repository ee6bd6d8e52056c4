"""Where the regions of the atlas lie in a scan: the registration, the other way round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.arrays import Floats
from pipeline.atlas import AFFINE, SHAPE, SPACING_MM, load_atlas
from pipeline.imaging.registration import Registration

_FACTOR = 2
"""A warp is smooth: it is turned round on every second voxel of the template."""
_ROUNDS = 8
"""Each makes the error smaller by the largest slope of the warp; a tenth of a millimetre is left."""


class ScanRegions:
    """Looks up the region of any point of a scan.

    Parameters
    ----------
    registration : Registration
        Of the scan.
    """

    def __init__(self, registration: Registration) -> None:
        self._to_voxels = np.linalg.inv(registration.matrix @ AFFINE)
        self._back = None
        if registration.warp is not None:
            self._back = _turned_round(
                np.asarray(registration.warp.displacement_mm(), dtype=np.float64) / SPACING_MM
            )

    def labels_at(self, points_mm: Floats) -> NDArray[np.int16]:
        """Return the index into the atlas's names of each point; 0 outside.

        Parameters
        ----------
        points_mm : ndarray, shape (..., 3)
            Millimetres of the scan, RAS+.
        """
        shape = points_mm.shape[:-1]
        voxels = points_mm.reshape(-1, 3) @ self._to_voxels[:3, :3].T + self._to_voxels[:3, 3]
        if self._back is not None:
            coarse = voxels.T / _FACTOR
            shift = [ndimage.map_coordinates(axis, coarse, order=1, mode="nearest") for axis in self._back]
            voxels = voxels + np.stack(shift, axis=-1)
        nearest = np.rint(voxels).astype(int)
        inside = ((nearest >= 0) & (nearest < SHAPE)).all(axis=1)
        labels = np.zeros(len(voxels), dtype=np.int16)
        labels[inside] = load_atlas().labels[tuple(nearest[inside].T)]
        return labels.reshape(shape)


def _turned_round(displacement: Floats) -> Floats:
    """Return what to add to a warped voxel to find the voxel it came from, shape (3, x, y, z), coarse."""
    warped = np.stack(np.meshgrid(*(np.arange(0, n, _FACTOR) for n in SHAPE), indexing="ij")).astype(float)
    back = np.zeros_like(warped)
    for _ in range(_ROUNDS):
        places = warped + back
        back = -np.stack([ndimage.map_coordinates(d, places, order=1, mode="nearest") for d in displacement])
    return back
