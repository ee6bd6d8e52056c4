"""Where a scan holds no measurement: values that are not numbers, and blocks of one value."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.atlas import AFFINE, load_atlas
from pipeline.imaging.head import Mask
from pipeline.imaging.space import Matrix
from pipeline.scan import Fact, FloatArray
from pipeline.wording import counted

_FEW_VOXELS = 20
"""This many may share the largest value by chance, or as a hot vessel does in an image stored coarsely."""
_SHORTEST_SIDE = 5
"""Voxels across a block of one value: shorter ones occur in images that were stored coarsely."""


@dataclass(frozen=True)
class Missing:
    """How much of a scan holds no measurement, and where.

    Parameters
    ----------
    voxels : int
        In the whole image.
    in_brain : float
        Share of the brain.
    worst : float
        Largest share of an atlas region, the reference region among them.
    region : str
        That region, empty where none is concerned.
    """

    voxels: int
    in_brain: float
    worst: float
    region: str

    def __str__(self) -> str:
        where = f"{self.in_brain:.1%} of the brain, most in {self.region.replace('_', ' ')}"
        return f"{counted(self.voxels, 'voxel')}, " + (
            where if self.worst > 0 else "none of them in the brain"
        )


def doubtful_values(array: FloatArray, noted: Fact = None) -> list[str]:
    """Return in words where stored values look cut off at the largest one, or overflown.

    What was noted of them when they were read comes first.

    Examples
    --------
    >>> doubtful_values(np.minimum(np.arange(1000.0), 900.0))
    ['100 voxels hold the largest value: the scan may have been cut off there']
    """
    top, low = (float(ufunc.reduce(array, axis=None)) for ufunc in (np.fmax, np.fmin))
    found = [str(noted)] if noted else []
    if not 0 < top < np.inf:
        return found
    count = int(np.count_nonzero(array == top))
    if max(_FEW_VOXELS, 1e-5 * array.size) < count < 0.5 * array.size:
        found.append(f"{count} voxels hold the largest value: the scan may have been cut off there")
    if low < -0.5 * top:
        found.append("the lowest value is as far below zero as others are above: stored values may overflow")
    return found


def one_valued(array: FloatArray) -> Mask:
    """Return the voxels of blocks that hold one value, at least five voxels across in every direction.

    Noise leaves no two neighbours equal; a mask, a cut or a saturated detector does.
    """
    core = np.zeros(array.shape, dtype=bool)
    if min(array.shape) < _SHORTEST_SIDE:
        return core
    flat = _all_neighbours(array)
    inner = flat[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for step in (0, 2):
            inner &= flat[_shifted(axis, step)]
    core[2:-2, 2:-2, 2:-2] = inner
    return _grown(_grown(core)) if inner.any() else core


def _grown(mask: Mask) -> Mask:
    """Return a mask with the six neighbours of each of its voxels."""
    grown = mask.copy()
    for axis in range(3):
        ahead, behind = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
        ahead[1:] |= behind[:-1]
        ahead[:-1] |= behind[1:]
    return grown


def _all_neighbours(array: FloatArray) -> Mask:
    """Return which inner voxels equal all six neighbours."""
    middle = array[1:-1, 1:-1, 1:-1]
    equal = np.ones(middle.shape, dtype=bool)
    for axis in range(3):
        for step in (0, 2):
            equal &= array[_shifted(axis, step)] == middle
    return equal


def _shifted(axis: int, step: int) -> tuple[slice, ...]:
    """Return the inner part of an array, one step forth or back along an axis."""
    stop = {0: -2, 1: -1, 2: None}[step]
    return tuple(slice(step, stop) if a == axis else slice(1, -1) for a in range(3))


def locate(masks: Sequence[Mask], matrices: Sequence[Matrix], affine: Matrix) -> Missing:
    """Count voxels and find the regions they belong to.

    Parameters
    ----------
    masks : sequence of ndarray of bool, shape (x, y, z)
        One a frame: where it holds no measurement.
    matrices : sequence of ndarray, shape (4, 4)
        Template millimetres to millimetres of each frame.
    affine : ndarray, shape (4, 4)
        Voxel to millimetres of the masks.
    """
    voxels = sum(int(mask.sum()) for mask in masks)
    if not voxels:
        return Missing(0, 0.0, 0.0, "")
    places, labels, in_brain = _places()
    lost = np.zeros(len(labels), dtype=bool)
    for mask, matrix in zip(masks, matrices, strict=True):
        to_voxel = np.linalg.inv(affine) @ matrix @ AFFINE
        index = to_voxel[:3, :3].astype(np.float32) @ places + to_voxel[:3, 3:].astype(np.float32)
        x, y, z = np.rint(index).astype(np.int64)
        inside = np.ones(len(labels), dtype=bool)
        for place, size in zip((x, y, z), mask.shape, strict=True):
            inside &= (place >= 0) & (place < size)
        flat = (x * mask.shape[1] + y) * mask.shape[2] + z
        lost |= inside & mask.ravel().take(flat, mode="clip")
    names = load_atlas().names
    counts = np.bincount(labels, minlength=len(names))
    shares = np.bincount(labels, weights=lost, minlength=len(names)) / np.maximum(counts, 1)
    shares[0] = 0.0  # brain that belongs to no region
    worst = int(np.argmax(shares))
    brain = float(lost[in_brain].mean())
    largest = max(float(shares[worst]), brain)
    return Missing(voxels, brain, largest, names[worst] if shares[worst] > 0 else "no region" * (brain > 0))


@functools.lru_cache(maxsize=1)
def _places() -> tuple[FloatArray, NDArray[np.int16], Mask]:
    """Return indices (3, n), labels and brain membership of all voxels in the brain or a region."""
    atlas = load_atlas()
    where = atlas.brain | (atlas.labels > 0)
    return np.array(np.nonzero(where), dtype=np.float32), atlas.labels[where], atlas.brain[where]
