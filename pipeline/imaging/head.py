"""What a head looks like to PET: blurred tissue and region maps, coarse for starting, fine for refining."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import AFFINE, REFERENCE, SHAPE, SPACING_MM, Atlas, load_atlas
from pipeline.imaging.alignment import LinearModel, build_model
from pipeline.imaging.space import FWHM_PER_SIGMA, Matrix, gaussian
from pipeline.scan import FloatArray

Mask = NDArray[np.bool_]

_TISSUES = ("outside", "white_matter", "lateral_ventricle")
_KERNEL_SIGMAS = 4.0
"""How far scipy's Gaussian filter reaches."""
_CEREBELLUM = (REFERENCE, "cerebellar_grey")


@dataclass(frozen=True)
class Grid:
    """A coarser grid over the template, and the resolution (FWHM) that images have on it."""

    factor: int
    resolution_mm: float

    @property
    def spacing_mm(self) -> float:
        """Voxel size."""
        return SPACING_MM * self.factor

    @property
    def sigma_mm(self) -> float:
        """Of the smoothing to its resolution."""
        return self.resolution_mm / FWHM_PER_SIGMA

    @property
    def affine(self) -> Matrix:
        """Voxel to template millimetres: block centres."""
        blocks = np.diag([self.factor, self.factor, self.factor, 1.0])
        blocks[:3, 3] = (self.factor - 1) / 2
        return np.asarray(AFFINE @ blocks)

    def bring(self, array: NDArray[Any]) -> FloatArray:
        """Average blocks of template voxels."""
        f = self.factor
        fine = np.asarray(array, dtype=np.float32)
        # Strided views added up: ten times as fast as `mean` over the axes of a block, to the same bits.
        rows = functools.reduce(np.add, (fine[..., k::f] for k in range(f)))
        sums = functools.reduce(np.add, (rows[i::f, j::f] for i in range(f) for j in range(f)))
        return np.asarray(sums / np.float32(f**3), dtype=np.float32)

    def smoothed(self, array: NDArray[Any]) -> FloatArray:
        """Average blocks of template voxels, and smooth to the resolution of the grid."""
        return gaussian(self.bring(array), self.sigma_mm, self.spacing_mm)


COARSE = Grid(factor=4, resolution_mm=14.0)
FINE = Grid(factor=2, resolution_mm=8.0)


@functools.lru_cache(maxsize=1)
def distance_to_brain_mm() -> FloatArray:
    """Return the distance to the template's brain, 0 inside, shape (96, 112, 96)."""
    # The nearest voxel of a mirror image lies on the same side.
    half = ndimage.distance_transform_edt(~load_atlas().brain[SHAPE[0] // 2 :]) * SPACING_MM
    return np.concatenate([half[::-1], half], dtype=np.float32, casting="same_kind")


@functools.lru_cache(maxsize=4)
def brain_within(distance_mm: float) -> Mask:
    """Return the template's brain grown by a distance."""
    grown: Mask = distance_to_brain_mm() <= distance_mm
    return grown


@functools.lru_cache(maxsize=1)
def template_image() -> FloatArray:
    """Uptake of a tau-negative head: cortex 1.1, white matter 1.25, fluid .65, a faint scalp."""
    atlas = load_atlas()
    image = np.where(atlas.brain, 0.65 + 0.45 * atlas.grey + 0.6 * atlas.white, 0.0)
    image = np.where(brain_within(14.0) & ~atlas.brain, 0.5, image)
    return gaussian(image.astype(np.float32), FINE.resolution_mm / FWHM_PER_SIGMA, SPACING_MM)


@functools.lru_cache(maxsize=1)
def five_tissue_model() -> LinearModel:
    """Grey, white, fluid, and what surrounds the brain: enough to start from.

    The surroundings have one map per direction: else a bright neck would be taken for part of the brain.
    """
    atlas = load_atlas()
    layers = around_brain((6.0, np.inf))
    maps = (COARSE.smoothed(part) for part in (atlas.grey, atlas.white, _fluid(atlas), *layers))
    return _model(COARSE, maps, reach_mm=16.0)


@functools.lru_cache(maxsize=1)
def region_model() -> LinearModel:
    """White matter and fluid in parts, the grey matter of every region and what surrounds the brain.

    The weight of each map is free, so a tau-positive cortex is as well explained as a negative one. Grey
    matter belongs to the nearest region up to its rim, and the cerebellum has its own white matter: if its
    rim were as bright as the rest of the brain's, a smaller cerebellum would explain it. What surrounds the
    brain has one map per direction, since face and neck take up more than the scalp, and reaches 12 mm only:
    beyond, people differ more than an affine map can follow.
    """
    tissues = (FINE.smoothed(part) for part in tissue_parts())
    around = (FINE.smoothed(part) for part in around_brain((4.0, 8.0, np.inf)))
    return _model(FINE, itertools.chain(tissues, _region_maps(FINE), around), reach_mm=12.0)


def _region_maps(grid: Grid) -> Iterable[FloatArray]:
    """Yield the grey matter of each named region as it is seen on a grid.

    Only a box is smoothed, as far as the smoothing reaches beyond the region: to the same bits as the whole.
    """
    owner, grey = nearest_region(), load_atlas().grey
    margin = int(_KERNEL_SIGMAS * grid.sigma_mm / grid.spacing_mm + 0.5)
    f, shape = grid.factor, tuple(count // grid.factor for count in SHAPE)
    boxes = ndimage.find_objects(owner)
    for label in named_labels():
        ends = [
            (max(span.start // f - margin, 0), min(-(-span.stop // f) + margin, count))
            for span, count in zip(boxes[label - 1], shape, strict=True)
        ]
        fine = tuple(slice(f * first, f * last) for first, last in ends)
        whole = np.zeros(shape, dtype=np.float32)
        part = np.where(owner[fine] == label, grey[fine], 0)
        whole[tuple(slice(first, last) for first, last in ends)] = grid.smoothed(part)
        yield whole


def named_labels() -> list[int]:
    """Return the atlas's labels of regions: neither white matter nor a ventricle."""
    return [k for k, name in enumerate(load_atlas().names) if name not in _TISSUES]


@functools.lru_cache(maxsize=1)
def nearest_region() -> NDArray[np.int16]:
    """Return the region that each voxel of the brain is nearest to, as its label; 0 outside."""
    atlas = load_atlas()
    (box,) = ndimage.find_objects(atlas.brain, max_label=1)  # all regions lie in it
    labels = atlas.labels[box]
    nearest = ndimage.distance_transform_edt(
        ~np.isin(labels, named_labels()), return_distances=False, return_indices=True
    )
    owner = np.zeros(SHAPE, dtype=np.int16)
    owner[box] = np.where(atlas.brain[box], labels[tuple(nearest)], 0)
    return owner


def tissue_parts() -> FloatArray:
    """Return shares of white matter (cerebrum, cerebellum, stem) and fluid (ventricles, the rest)."""
    atlas = load_atlas()
    cerebellum = np.isin(nearest_region(), [atlas.names.index(name) for name in _CEREBELLUM])
    stem = stem_box() & (atlas.labels == 0)
    ventricles = ndimage.binary_dilation(atlas.mask("lateral_ventricle"))
    parts = [~cerebellum & ~stem, cerebellum & ~stem, stem]
    tissues = [np.where(part, atlas.white, 0) for part in parts]
    tissues += [np.where(part, _fluid(atlas), 0) for part in (ventricles, ~ventricles)]
    return np.asarray(tissues, dtype=np.float32)


def stem_box() -> Mask:
    """Return a box around pons and medulla."""
    x, y, z = (np.ogrid[tuple(slice(n) for n in SHAPE)][k] * SPACING_MM + AFFINE[k, 3] for k in range(3))
    return np.asarray((np.abs(x) < 22) & (y > -45) & (y < -10) & (z < -14))


def _fluid(atlas: Atlas) -> NDArray[Any]:
    return np.where(atlas.brain, np.clip(1 - atlas.grey - atlas.white, 0, 1), 0)


def _directions() -> Mask:
    """Above, face and neck: three parts of the space around the brain."""
    _, y, z = (np.ogrid[tuple(slice(n) for n in SHAPE)][k] * SPACING_MM + AFFINE[k, 3] for k in range(3))
    low = np.broadcast_to(z < -15, SHAPE)
    front = np.broadcast_to(y > -10, SHAPE)
    return np.array([~low, low & front, low & ~front])


def around_brain(outer_mm: Sequence[float]) -> list[Mask]:
    """Layers around the brain up to each distance, in three parts: above, face and neck."""
    distance = distance_to_brain_mm()
    edges = [0.0, *outer_mm]
    return [
        (distance > inner) & (distance <= outer) & part
        for inner, outer in itertools.pairwise(edges)
        for part in _directions()
    ]


def _model(grid: Grid, maps: Iterable[FloatArray], reach_mm: float) -> LinearModel:
    near = grid.bring(distance_to_brain_mm()) <= reach_mm
    return build_model(np.array(list(maps)), grid.affine, near)
