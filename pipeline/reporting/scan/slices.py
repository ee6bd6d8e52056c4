"""What is shown of one scan: which slices, and which way round. Numbers only.

Everything is in radiological convention: the patient's right is on the left of axial and coronal pictures.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.errors import InputError
from pipeline.scan import Volume

TAU_LEVELS_MM = (-34.0, -22.0, -8.0, 8.0, 28.0, 46.0)
"""Axial heights: entorhinal, fusiform, temporal, posterior cingulate and striatum, precuneus, parietal."""

Plane = Literal["axial", "coronal", "sagittal"]
_AXIS: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice, turned as it is shown.

    Parameters
    ----------
    plane : {"axial", "coronal", "sagittal"}
    position_mm : float
        MNI coordinate along the plane's normal.
    image : ndarray, shape (rows, columns)
        SUVR; row 0 is the top: anterior in axial, superior in coronal and sagittal slices.
    left_mark, right_mark : str
        Marks at the left and right edge of the picture: ``"R"`` and ``"L"``, or ``"A"`` and ``"P"``.
    cross : tuple of float or None
        Column and row of the crosshair.
    """

    plane: Plane
    position_mm: float
    image: NDArray[np.float32]
    left_mark: str
    right_mark: str
    cross: tuple[float, float] | None = None


def check_grid(volume: Volume) -> None:
    """Raise unless a volume is SUVR on the template grid.

    Raises
    ------
    InputError
        If the unit, the shape or the affine is another.
    """
    if volume.unit != "SUVR" or volume.array.shape != SHAPE or not np.allclose(volume.affine, AFFINE):
        raise InputError(
            f"The volume is {volume.unit} of shape {volume.array.shape}; a report draws SUVR on the template "
            f"grid {SHAPE}",
            hint="pass the volume that `pipeline.imaging` wrote",
        )


def cut(array: NDArray[np.floating], plane: Plane, at_mm: tuple[float, float, float]) -> Slice:
    """Cut a volume on the template grid at a point, as radiologists look at it.

    Parameters
    ----------
    array : ndarray, shape (96, 112, 96)
        Indexed (x, y, z), x from the patient's left to right.
    plane : {"axial", "coronal", "sagittal"}
    at_mm : tuple of float
        MNI point the slice goes through.

    Examples
    --------
    >>> volume = np.zeros(SHAPE, dtype=np.float32)
    >>> volume[5, 50, 40] = 1  # the patient's left
    >>> view = cut(volume, "axial", (0.0, 0.0, 0.0))
    >>> view.image.shape, view.left_mark, int(view.image.max(axis=0).argmax())
    ((112, 96), 'R', 90)
    """
    voxel = [(at_mm[n] - AFFINE[n, 3]) / AFFINE[n, n] for n in range(3)]
    index = [round(min(max(v, 0), SHAPE[n] - 1)) for n, v in enumerate(voxel)]
    axis = _AXIS[plane]
    section = np.take(np.asarray(array, dtype=np.float32), index[axis], axis=axis)
    # Both in-plane axes are turned: the first to put the patient's right (or front) at the left edge,
    # the second to put anterior (or superior) at the top.
    image = section[::-1, ::-1].T
    across, up = [n for n in range(3) if n != axis]
    cross = (SHAPE[across] - 1 - index[across], SHAPE[up] - 1 - index[up])
    marks = ("A", "P") if plane == "sagittal" else ("R", "L")
    position = float(AFFINE[axis, axis] * index[axis] + AFFINE[axis, 3])
    return Slice(plane, position, image, *marks, cross=cross)


def hottest_point(array: NDArray[np.floating], region: str, side: str) -> tuple[float, float, float]:
    """Return the MNI point of the highest SUVR in a region, after 4 mm of smoothing against noise."""
    mask = load_atlas().mask(region, side if side in ("left", "right") else None)  # type: ignore[arg-type]
    smooth = ndimage.gaussian_filter(np.asarray(array, dtype=np.float32), 2.0 / 2.355)
    place = np.unravel_index(int(np.argmax(np.where(mask, smooth, -np.inf))), SHAPE)
    x, y, z = (float(AFFINE[n, n] * place[n] + AFFINE[n, 3]) for n in range(3))
    return x, y, z


def three_planes(array: NDArray[np.floating], at_mm: tuple[float, float, float]) -> tuple[Slice, ...]:
    """Return the axial, coronal and sagittal slice through a point."""
    planes: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
    return tuple(cut(array, plane, at_mm) for plane in planes)


def tau_levels(array: NDArray[np.floating]) -> tuple[Slice, ...]:
    """Return the axial slices at the standard levels, from below upwards, without crosshair."""
    found = (cut(array, "axial", (0.0, 0.0, z)) for z in TAU_LEVELS_MM)
    return tuple(Slice(s.plane, s.position_mm, s.image, s.left_mark, s.right_mark) for s in found)


@functools.lru_cache(maxsize=3)
def frame_of(plane: Plane) -> tuple[slice, slice]:
    """Return the rows and columns that hold the brain and 8 mm around it, the same for every scan."""
    seen = np.asarray(load_atlas().brain.any(axis=_AXIS[plane]))[::-1, ::-1].T
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows[0] - 4, 0), max(columns[0] - 4, 0)
    return slice(top, rows[-1] + 5), slice(left, columns[-1] + 5)
