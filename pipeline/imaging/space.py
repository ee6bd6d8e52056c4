"""Grids and the one resampling: from the scanner's voxels to the template's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, SPACING_MM
from pipeline.scan import FloatArray, Volume

Matrix = NDArray[np.float64]

FWHM_PER_SIGMA = float(2.0 * np.sqrt(2.0 * np.log(2.0)))


def smoothing_sigma_mm(native_mm: float, target_mm: float) -> float:
    """Return the standard deviation of the Gaussian that takes one FWHM to a coarser one.

    A scan that is already at or beyond the target is not smoothed.

    Examples
    --------
    >>> round(smoothing_sigma_mm(6.0, 8.0), 3)
    2.247
    >>> smoothing_sigma_mm(8.5, 8.0)
    0.0
    """
    return float(np.sqrt(max(target_mm**2 - native_mm**2, 0.0))) / FWHM_PER_SIGMA


def gaussian(image: FloatArray, sigma_mm: float, spacing_mm: float) -> FloatArray:
    """Smooth an isotropic image; NaN stays NaN and gives nothing to its neighbours."""
    if sigma_mm <= 0:
        return image
    sigma = sigma_mm / spacing_mm
    known = np.isfinite(image)
    if known.all():
        return np.asarray(ndimage.gaussian_filter(image, sigma), dtype=np.float32)
    share = ndimage.gaussian_filter(known.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(np.where(known, image, np.float32(0)), sigma)
    return np.where(known, smooth / np.maximum(share, np.float32(1e-6)), np.float32(np.nan))


def without_erased_planes(volume: Volume) -> Volume:
    """Cut away planes of zeros that border on planes full of activity: there, nothing was measured.

    Air is dark too, but a head tapers off before it ends; one that ends at full width was cut.

    Examples
    --------
    >>> array = np.ones((6, 6, 6), dtype=np.float32)
    >>> array[:, :, 4:] = 0
    >>> without_erased_planes(Volume(array, np.eye(4), "counts")).array.shape
    (6, 6, 4)
    """
    array = volume.array if volume.array.ndim == 3 else volume.array.max(axis=3)
    bright = array > 0.3 * np.percentile(array, 99)
    parts = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        area, filled = bright.sum(axis=others), np.flatnonzero((array != 0).any(axis=others))
        first, last = int(filled[0]), int(filled[-1])
        wide = area.max() / 4
        parts.append(
            slice(first if area[first] > wide else 0, last + 1 if area[last] > wide else array.shape[axis])
        )
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in parts]
    return replace(volume, array=volume.array[tuple(parts)], affine=affine)


def shows_body(volume: Volume) -> bool:
    """Return whether a scan is longer than any of the head."""
    axis = _upright(volume)
    return bool(volume.array.shape[axis] * volume.spacing_mm[axis] > _LONGEST_HEAD_SCAN_MM)


def _upright(volume: Volume) -> int:
    """Return the axis of the array that runs along the body."""
    return int(np.argmax(np.abs(volume.affine[2, :3]) / volume.spacing_mm))


def upper_end(volume: Volume) -> Volume:
    """Cut a scan of half the body or all of it down to the height of a head, from the vertex on.

    A scan of usual length is returned as it is. The header states which end is up; arms above the head are
    taken for one, and refused later.

    Examples
    --------
    >>> body = Volume(np.ones((30, 30, 300), dtype=np.float32), np.diag([7.0, 7.0, 4.0, 1.0]), "counts")
    >>> upper_end(body).array.shape, float(upper_end(body).affine[2, 3])
    ((30, 30, 58), 968.0)
    """
    if not shows_body(volume):
        return volume
    array = volume.array if volume.array.ndim == 3 else volume.array.max(axis=3)
    axis = _upright(volume)
    others = tuple(a for a in range(3) if a != axis)
    area_mm2 = np.prod([volume.spacing_mm[a] for a in others])
    filled = (array > 0.1 * np.percentile(array, 99)).sum(axis=others) * area_mm2 > _LEAST_AREA_MM2
    places, height = np.flatnonzero(filled), round(_HEAD_MM / volume.spacing_mm[axis])
    if not len(places):
        return volume
    upward = volume.affine[2, axis] > 0
    top = int(places[-1]) + 1 if upward else int(places[0])
    kept = slice(max(0, top - height), top) if upward else slice(top, top + height)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, axis] * kept.start
    parts = tuple(kept if a == axis else slice(None) for a in range(3))
    return replace(volume, array=volume.array[parts], affine=affine)


_LONGEST_HEAD_SCAN_MM = 400.0
"""Scanners see 150 to 320 mm in one bed position; head and chest take two."""
_HEAD_MM = 230.0
"""From the vertex to below the jaw; the cerebellum ends 160 mm below the vertex."""
_LEAST_AREA_MM2 = 1000.0


def coarse_volume(volume: Volume, spacing_mm: float, sigma_mm: float = 0.0) -> Volume:
    """Bring a 3D volume onto an isotropic grid along the RAS axes, for registration only.

    Blocks of voxels are averaged first, so that nothing is aliased and oblique, flipped or sheared grids
    need no further thought downstream.

    Parameters
    ----------
    volume : Volume
        3D.
    spacing_mm : float
        Voxel size of the result.
    sigma_mm : float
        Gaussian smoothing of the result.

    Returns
    -------
    Volume
        NaN outside the field of view.
    """
    blocks = tuple(max(1, int(spacing_mm / s + 0.01)) for s in volume.spacing_mm)
    array, affine = _block_mean(volume.array, volume.affine, blocks)
    last = np.array(array.shape) - 1
    corners = np.array(np.meshgrid(*([0, n] for n in last))).reshape(3, -1)
    places = affine[:3, :3] @ corners + affine[:3, 3:]
    low, high = places.min(axis=1), places.max(axis=1)
    shape = tuple(int(n) for n in np.ceil((high - low) / spacing_mm - 1e-6) + 1)
    grid = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    grid[:3, 3] = low
    to_block = np.linalg.inv(affine) @ grid
    image = ndimage.affine_transform(array, to_block[:3, :3], to_block[:3, 3], shape, order=1, cval=np.nan)
    return Volume(gaussian(image, sigma_mm, spacing_mm), grid, volume.unit)


def _block_mean(array: FloatArray, affine: Matrix, blocks: tuple[int, ...]) -> tuple[FloatArray, Matrix]:
    counts = [n // b for n, b in zip(array.shape, blocks, strict=True)]
    whole = array[tuple(slice(0, n * b) for n, b in zip(counts, blocks, strict=True))]
    split = [size for n, b in zip(counts, blocks, strict=True) for size in (n, b)]
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ ((np.array(blocks) - 1) / 2)
    moved[:3, :3] = affine[:3, :3] * np.array(blocks)
    return whole.reshape(split).mean(axis=(1, 3, 5), dtype=np.float32), moved


def to_template(
    arrays: Sequence[FloatArray],
    weights: Sequence[float],
    matrices: Sequence[Matrix],
    affine: Matrix,
    displacement_mm: FloatArray | None = None,
) -> FloatArray:
    """Interpolate frames once, each through its own motion, and average them on the template grid.

    Parameters
    ----------
    arrays : sequence of ndarray, shape (x, y, z)
        Frames as the scanner wrote them.
    weights : sequence of float
        Their shares of the average; they sum to 1.
    matrices : sequence of ndarray, shape (4, 4)
        Template millimetres to millimetres of each frame.
    affine : ndarray, shape (4, 4)
        Voxel to millimetres of the frames.
    displacement_mm : ndarray of float32, shape (3, 96, 112, 96), or None
        Template millimetres that a warp adds to each voxel's place before the matrix.

    Returns
    -------
    ndarray of float32, shape (96, 112, 96)
        Zero outside the field of view.
    """
    average = np.zeros(SHAPE, dtype=np.float32)
    for array, weight, matrix in zip(arrays, weights, matrices, strict=True):
        voxels = np.linalg.inv(affine) @ matrix @ AFFINE
        if displacement_mm is None:
            moved = ndimage.affine_transform(
                array, voxels[:3, :3], voxels[:3, 3], SHAPE, order=1, prefilter=False
            )
        else:
            places = _places(voxels, displacement_mm)
            moved = ndimage.map_coordinates(array, places, order=1, output=np.float32, prefilter=False)
        average += np.float32(weight) * moved
    return average


def _places(voxels: Matrix, displacement_mm: FloatArray) -> FloatArray:
    """Voxel coordinates of the warped template grid, shape (3, 96, 112, 96)."""
    matrix = voxels.astype(np.float32)
    places = np.tensordot(matrix[:3, :3] / np.float32(SPACING_MM), displacement_mm, axes=1)
    x, y, z = np.ogrid[tuple(slice(n) for n in SHAPE)]
    for place, row in zip(places, matrix[:3], strict=True):
        place += row[0] * x.astype(np.float32) + row[3]
        place += row[1] * y.astype(np.float32)
        place += row[2] * z.astype(np.float32)
    return places


def smooth_on_template(
    image: FloatArray, sigma_mm: float, matrix: Matrix, native_spacing_mm: Sequence[float]
) -> FloatArray:
    """Smooth on the template grid by a Gaussian that is given in the scanner's millimetres.

    The affine stretches the head, so the kernel is stretched with it. Linear interpolation has blurred
    already, by a variance of a sixth of the squared voxel size on average; that much is left out.
    """
    stretch = np.linalg.norm(matrix[:3, :3], axis=0)
    blurred_already = float(np.mean(np.square(native_spacing_mm))) / 6.0
    sigma = np.sqrt(max(sigma_mm**2 - blurred_already, 0.0))
    return np.asarray(ndimage.gaussian_filter(image, sigma / stretch / AFFINE[0, 0]), dtype=np.float32)


def field_of_view(
    shape: Sequence[int], affine: Matrix, matrix: Matrix, displacement_mm: FloatArray | None = None
) -> NDArray[np.bool_]:
    """Return which template voxels lie inside the scanner's field of view, shape (96, 112, 96)."""
    voxels = np.linalg.inv(affine) @ matrix @ AFFINE
    inside = np.ones(SHAPE, dtype=bool)
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    for row, size in zip(voxels[:3], shape, strict=False):
        place = row[0] * axes[0] + row[1] * axes[1] + row[2] * axes[2] + row[3]
        if displacement_mm is not None:
            place = place + np.tensordot(row[:3] / SPACING_MM, displacement_mm, axes=1)
        inside &= (place >= -0.5) & (place <= size - 0.5)
    return inside
