"""Partial-volume correction by regions, without an MRI: what each region would read if nothing blurred it.

The atlas's regions, white matter and fluid in parts, and what surrounds the brain are taken to be uniform.
Blurred by the scan's resolution, each adds a known share to the mean of every other (the geometric transfer
matrix); the uptake that explains all means together is solved for.

References
----------
Rousset, Ma and Evans, Correction for partial volume effects in PET: principle and validation, J Nucl Med
1998;39:904-911.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import REFERENCE, SPACING_MM, load_atlas, load_regions
from pipeline.imaging.head import around_brain, named_labels, nearest_region, tissue_parts
from pipeline.imaging.space import FWHM_PER_SIGMA, Matrix
from pipeline.imaging.suvr import composites, regional_table
from pipeline.scan import FloatArray

_LAYERS_MM = (4.0, 8.0, 18.0)
"""Nothing farther from the brain blurs into it."""
_CORE = 0.7
"""Share of a voxel from which on the mean of a tissue is read there."""
_TISSUES = ("white_matter", "cerebellar_white", "stem_white", "lateral_ventricle", "csf")


@dataclass(frozen=True, eq=False)
class Unblurred:
    """The second number of every region, beside its SUVR as read.

    Parameters
    ----------
    regions : DataFrame
        Rows of `pipeline.imaging.suvr.regional_table`; SUVR after correction.
    composites : dict of str to float
        See `pipeline.imaging.suvr.composites`; after correction.
    resolution_mm : float
        The blur (FWHM) that was corrected for.
    """

    regions: pd.DataFrame
    composites: dict[str, float]
    resolution_mm: float


@dataclass(frozen=True, eq=False)
class Compartments:
    """What is taken to be uniform, and where its mean is read.

    Parameters
    ----------
    names : tuple of str
        As in the atlas, where it has them.
    boxes : tuple of (slice, slice, slice)
        The part of the template grid that holds each.
    shares : tuple of ndarray of float32
        Of each voxel of the box, in [0, 1].
    read : ndarray of int16, shape (96, 112, 96)
        1 + the index of the compartment that is read there, 0 for none. Regions of the atlas are read where
        the regional table reads them, tissues in their core.
    """

    names: tuple[str, ...]
    boxes: tuple[tuple[slice, slice, slice], ...]
    shares: tuple[FloatArray, ...]
    read: NDArray[np.int16]


def unblur(image: FloatArray, resolution_mm: float, stretch: Sequence[float]) -> Unblurred:
    """Correct the regions of an image on the template grid for its blur.

    Parameters
    ----------
    image : ndarray, shape (96, 112, 96)
        Any unit that is proportional to activity.
    resolution_mm : float
        Its resolution (FWHM), in millimetres of the scanner.
    stretch : sequence of float
        Size of the head over size of the template along the three axes.

    Returns
    -------
    Unblurred
        Relative to the reference region, which is corrected as well; NaN where that is not positive.
    """
    sigma = resolution_mm / FWHM_PER_SIGMA / SPACING_MM / np.asarray(stretch)
    found = compartments()
    counts = np.bincount(found.read.ravel())
    means = np.bincount(found.read.ravel(), image.ravel().astype(np.float64)) / counts
    uptake = np.linalg.solve(transfer_matrix(sigma), means[1:])
    reference = uptake[found.names.index(REFERENCE)]
    of = dict(zip(found.names, uptake / (reference if reference > 0 else np.nan), strict=True))
    atlas = load_atlas()
    painted = np.array([of.get(name, 0.0) for name in atlas.names])[atlas.labels]
    return Unblurred(regional_table(painted), composites(painted), resolution_mm)


def transfer_matrix(sigma: NDArray[np.float64]) -> Matrix:
    """Return the mean of each compartment (rows) per unit uptake of each (columns) after a blur.

    Parameters
    ----------
    sigma : ndarray, shape (3,)
        Standard deviation of the blur, in voxels of the template grid.
    """
    found = compartments()
    counts = np.bincount(found.read.ravel())
    matrix = np.zeros((len(found.names), len(found.names)))
    margin = np.ceil(4 * sigma).astype(int)
    for k, (box, share) in enumerate(zip(found.boxes, found.shares, strict=True)):
        wide = tuple(
            slice(max(b.start - m, 0), min(b.stop + m, n))
            for b, m, n in zip(box, margin, found.read.shape, strict=True)
        )
        padding = [(b.start - w.start, w.stop - b.stop) for b, w in zip(box, wide, strict=True)]
        blurred = ndimage.gaussian_filter(np.pad(share, padding), sigma, mode="constant")
        sums = np.bincount(found.read[wide].ravel(), blurred.ravel(), minlength=len(counts))
        matrix[:, k] = sums[1:] / counts[1:]
    return matrix


@functools.lru_cache(maxsize=1)
def compartments() -> Compartments:
    """Lay out the template's compartments: regions, white matter, fluid, surroundings."""
    atlas = load_atlas()
    kinds = {r.name: r.kind for r in load_regions()}
    # Nuclei are drawn by the parcellation: on the grey matter map, half of them is white.
    nuclei = [k for k in named_labels() if kinds.get(atlas.names[k].split("_", 1)[-1]) == "offtarget"]
    rest = (~np.isin(atlas.labels, nuclei)).astype(np.float32)
    shares: dict[str, NDArray[np.float32]] = {}
    read = np.zeros(atlas.labels.shape, dtype=np.int16)
    for k in named_labels():
        grey = (nearest_region() == k) * atlas.grey * rest
        shares[atlas.names[k]] = np.where((atlas.labels == k) & (k in nuclei), np.float32(1), grey)
        read[atlas.labels == k] = len(shares)
    layers = around_brain(_LAYERS_MM)
    around = {f"around_{k}": layer.astype(np.float32) for k, layer in enumerate(layers)}
    for name, share in {**dict(zip(_TISSUES, tissue_parts() * rest, strict=True)), **around}.items():
        shares[name] = share
        read[(share > _CORE) & (read == 0)] = len(shares)
    boxes = [ndimage.find_objects((share > 0).astype(np.uint8))[0] for share in shares.values()]
    cut = [np.array(share[box]) for share, box in zip(shares.values(), boxes, strict=True)]
    return Compartments(tuple(shares), tuple(boxes), tuple(cut), read)
