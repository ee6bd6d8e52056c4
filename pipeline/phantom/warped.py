"""The atlas's brain as another person's: warped, with other ventricles, cortex, fluid and skull.

The image is painted in template space, where the intensities are known, thinned there, and carried into the
person's head by the warp; what surrounds the brain is laid around the warped one. The person's regions are
the atlas's, carried along and thinned with the cortex, and the truth is measured in them.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.arrays import Floats
from pipeline.atlas import AFFINE, SHAPE, SPACING_MM, load_atlas
from pipeline.phantom.anatomy import Rendering, Uptake, intensities, load_model
from pipeline.phantom.head_layers import places_mm, surround
from pipeline.phantom.painting import measure, paint_meninges
from pipeline.phantom.variation import Variation, on_template_grid, pull_back

_CORTEX_FROM = 0.4
"""A voxel whose share of grey matter falls below this leaves its region, as it would in an MRI (assumed)."""
_CHOROID_PATH_MM = (
    (10.0, -4.0, 18.0),
    (16.0, -26.0, 18.0),
    (24.0, -38.0, 8.0),
    (31.0, -30.0, -6.0),
    (30.0, -18.0, -13.0),
)
"""Along the choroid fissure of the right side: body, atrium and temporal horn, above the hippocampus."""
_CHOROID_RADIUS_MM, _CHOROID_SHARE = 2.2, 0.7
_TENTORIUM_MM, _TENTORIUM_SHARE = 3.0, 0.5


def paint_warped(uptake: Uptake, variation: Variation) -> Rendering:
    """Paint a person's head.

    Returns
    -------
    Rendering
        On the template grid; `labels` are indices into the atlas's names, carried into the head; `warp` leads
        from the head back to the template.
    """
    model, atlas = load_model(), load_atlas()
    index = {name: k for k, name in enumerate(model.names)}
    intensity = _as_published(uptake, variation)
    kept, image = _thinned(intensity, variation)
    _add_membranes(image, intensity, index)
    displacement = pull_back(variation)
    there = np.indices(SHAPE, dtype=np.float32) + on_template_grid(displacement)
    brain = ndimage.map_coordinates(atlas.brain.astype(np.float32), there, order=1) > 0.5
    labels = ndimage.map_coordinates(kept, there, order=0)
    labels[~brain] = 0
    around = surround(brain, AFFINE, variation.layers, index)
    suvr: NDArray[np.float32] = intensity[around]
    suvr[brain] = ndimage.map_coordinates(image, there[:, brain], order=1)
    meninges = (around == index["meninges"]) & ~brain
    rng = np.random.default_rng([*variation.seed, 12])
    paint_meninges(suvr, meninges, AFFINE, uptake.spots[:, 3], rng)
    regional = measure(suvr, AFFINE, labels, atlas.names[1:])
    return Rendering(suvr, regional, labels=labels, warp=displacement)


def _as_published(uptake: Uptake, variation: Variation) -> NDArray[np.float32]:
    """Raise tau by the share of cortex that a typical person of this stage has lost."""
    all_of_it = intensities(uptake)
    without = intensities(replace(uptake, tau={}))
    expected = np.array([variation.expected.get(name, 0.0) for name in load_model().names])
    raised: NDArray[np.float32] = (without + (all_of_it - without) / (1 - expected)).astype(np.float32)
    return raised


def _thinned(
    intensity: NDArray[np.float32], variation: Variation
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Return the labels that are left, and the image, with a share of the cortex lost to its sulci."""
    model, atlas = load_model(), load_atlas()
    loss = np.array([variation.thinning.get(name, 0.0) for name in model.names], dtype=np.float32)
    lost = loss[model.paint]
    cortex = np.where(model.grey_part < 1, model.grey_part, 0)
    grown = np.minimum(model.grey_part + cortex * np.maximum(-lost, 0), 1)
    filler, paint = intensity[model.filler], intensity[model.paint]
    fluid = intensity[model.names.index("csf")]
    image = filler + grown * (paint - filler) + cortex * np.maximum(lost, 0) * (fluid - paint)
    gone = (lost > 0) & (loss[atlas.labels] > 0) & (cortex * (1 - lost) <= _CORTEX_FROM)
    return np.where(gone, 0, atlas.labels).astype(np.int16), image.astype(np.float32)


def _add_membranes(image: NDArray[np.float32], intensity: NDArray[np.float32], index: dict[str, int]) -> None:
    """Paint the ribbon of the choroid plexus and the tentorium, which the atlas does not show, in place."""
    tentorium, ribbon = _membranes()
    image += _TENTORIUM_SHARE * tentorium * (intensity[index["meninges"]] - image)
    for side, where in ribbon.items():
        image += _CHOROID_SHARE * where * (intensity[index[f"{side}_choroid_plexus"]] - image)


@functools.cache
def _membranes() -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Shares of tentorium and choroid ribbon in each voxel of the template."""
    atlas = load_atlas()
    cerebellum = atlas.mask("cerebellar_grey") | atlas.mask("inferior_cerebellar_grey")
    above = np.any(
        [atlas.mask(n) for n in ("lingual", "fusiform", "inferior_temporal", "lateral_occipital")], axis=0
    )
    near = [
        ndimage.distance_transform_edt(~m, sampling=SPACING_MM) <= _TENTORIUM_MM for m in (cerebellum, above)
    ]
    tentorium = (near[0] & near[1] & ~cerebellum & ~above).astype(np.float32)
    x, y, z = places_mm(SHAPE, AFFINE)
    ribbon = {}
    for side, sign in (("right", 1.0), ("left", -1.0)):
        nearest = np.full(SHAPE, np.inf)
        for start, end in itertools.pairwise(_CHOROID_PATH_MM):
            nearest = np.minimum(nearest, _distance((sign * x, y, z), np.array(start), np.array(end)))
        ribbon[side] = np.clip(1.5 - nearest / _CHOROID_RADIUS_MM, 0, 1).astype(np.float32)
    return tentorium, ribbon


def _distance(places: tuple[Floats, Floats, Floats], start: Floats, end: Floats) -> Floats:
    """Distance in mm from a segment."""
    along = end - start
    share = sum((p - s) * a for p, s, a in zip(places, start, along, strict=True)) / float(along @ along)
    share = np.clip(share, 0, 1)
    squared = sum((p - s - share * a) ** 2 for p, s, a in zip(places, start, along, strict=True))
    distance: Floats = np.sqrt(squared)
    return distance
