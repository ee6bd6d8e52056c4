"""What every painted head has in common: patchy meninges with bright spots, and a truth that is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.arrays import Floats
from pipeline.atlas import REFERENCE
from pipeline.phantom.anatomy import RESOLUTION_MM, SPOT_SIGMA_MM
from pipeline.phantom.head_layers import spacing_of

_PATCH_MM, _PATCH_SD = 12.0, 0.5
"""Meningeal binding is patchy (Baker 2017, PMC5671473, names extracortical hot spots); sizes are assumed."""
_COARSE_MM = 6.0


def measure(
    suvr: NDArray[np.float32], affine: Floats, regions: NDArray[np.int16], names: tuple[str, ...]
) -> dict[str, float]:
    """Return the mean SUVR of regions at `RESOLUTION_MM`; the reference region has 1.

    Parameters
    ----------
    regions : ndarray of int16, shape (x, y, z)
        From 1 in the order of `names`; 0 is none. A region without a voxel is left out.
    """
    sigma = RESOLUTION_MM / 2.3548 / spacing_of(affine)
    blurred = ndimage.gaussian_filter(suvr, sigma, mode="constant").ravel()
    size = len(names) + 1
    voxels = np.bincount(regions.ravel(), minlength=size)
    means = np.bincount(regions.ravel(), blurred, minlength=size) / np.maximum(voxels, 1)
    means /= means[1 + names.index(REFERENCE)]
    return {name: float(means[k]) for k, name in enumerate(names, start=1) if voxels[k]}


def paint_meninges(
    suvr: NDArray[np.float32],
    meninges: NDArray[np.bool_],
    affine: Floats,
    heights: Floats,
    rng: np.random.Generator,
) -> None:
    """Make painted meninges patchy and add bright spots of these heights to them, in place."""
    voxels = np.argwhere(meninges)
    spacing = spacing_of(affine)
    coarse = tuple(int(n * s / _COARSE_MM) + 2 for n, s in zip(suvr.shape, spacing, strict=True))
    sigma = _PATCH_MM / _COARSE_MM
    field = ndimage.gaussian_filter(rng.standard_normal(coarse), sigma, mode="wrap")
    field *= _PATCH_SD / field.std()
    patches = np.exp(ndimage.map_coordinates(field, (voxels * spacing / _COARSE_MM).T, order=1))
    suvr[meninges] *= (patches / patches.mean()).astype(np.float32)
    sharp = SPOT_SIGMA_MM / spacing
    for height, centre in zip(heights, voxels[rng.integers(len(voxels), size=len(heights))], strict=True):
        box = tuple(
            slice(max(int(c - 6 * s), 0), min(int(c + 6 * s) + 1, n))
            for c, s, n in zip(centre, sharp, suvr.shape, strict=True)
        )
        offsets = zip(np.ogrid[box], centre, sharp, strict=True)
        suvr[box] += (height * np.exp(-sum(((a - c) / s) ** 2 for a, c, s in offsets) / 2)).astype(np.float32)
