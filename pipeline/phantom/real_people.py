"""Real people: whole-brain label volumes painted with the uptake of the phantom.

`paint_labels(labels, affine, latents, seed)` paints labels that are in memory; `paint_person(file, uptake,
seed)` is what a cohort uses. Both return a `Rendering`: `suvr` (float32, sharp, on a grid that holds the
whole head), `affine` (its voxel index to RAS+ mm; the brain's centre lies where the template's does),
`labels` (the person's own numbers on that grid) and `regional`, the truth: the mean SUVR of the person's own
regions after blurring to 8 mm, against the lower half of the person's own cerebellar grey matter. Names are
those of the atlas, ``left_entorhinal`` and so on, for regions that the person's labels define.

Intensities are those that the phantom's own anatomy is painted with, so a thin cortex reads lower here as it
does in a scanner. Nothing of it depends on the class.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.arrays import Floats
from pipeline.atlas import AFFINE, REFERENCE, load_atlas
from pipeline.phantom.anatomy import (
    Rendering,
    Uptake,
    draw_uptake,
    intensities,
    load_model,
)
from pipeline.phantom.brain_labels import (
    CEREBELLAR_GREY,
    FLUID,
    OUTSIDE,
    VENTRICLES,
    check_labels,
    measured_labels,
    painted_like,
    read_person,
)
from pipeline.phantom.head_layers import HeadLayers, draw_layers, places_mm, spacing_of, surround
from pipeline.phantom.painting import measure, paint_meninges
from pipeline.phantom.population import Latents

_MARGIN_MM, _NECK_MM = 24.0, 40.0
_HULL_MM = 8.0
"""Sulci narrower than twice this lie inside the brain's hull."""
_COARSE_FROM_MM = 1.25
_CHOROID_PLEXUS = {"right_choroid_plexus": ((49, 51), (47, 59)), "left_choroid_plexus": ((50, 52), (48, 60))}
_CHOROID_MM = 3.0
"""The choroid plexus fills the ventricle this far from thalamus and hippocampus: labels do not show it."""


@dataclass(frozen=True, eq=False)
class _Head:
    """A person's head before any uptake: compartments on a grid, and the regions that are measured."""

    compartments: NDArray[np.int16]
    labels: NDArray[np.int16]
    affine: Floats
    regions: NDArray[np.int16]
    names: tuple[str, ...]
    """Names of the regions from 1; 0 is none."""


def paint_labels(
    labels: NDArray[np.integer], affine: Floats, latents: Latents, seed: int, where: str = "labels"
) -> Rendering:
    """Paint a person's labels with the uptake that these latents give.

    Parameters
    ----------
    labels : ndarray of int, shape (x, y, z)
        BrainCOLOR or DLMUSE numbers; axes run to the right, the front and the top.
    affine : ndarray, shape (4, 4)
        Voxel index to RAS+ mm.
    latents : Latents
        Decide where tau is shown, and how much.
    seed : int
        Decides the regional deviations, the skull and the meningeal spots.
    where : str
        Names the labels in errors.

    Returns
    -------
    Rendering
        Activity and the truth in the person's own regions.

    Raises
    ------
    InputError
        If the labels are not of the numbering, or not of a whole brain.
    """
    check_labels(labels, affine, where)
    head = _lay_out(np.asarray(labels, dtype=np.int16), affine, draw_layers([seed, 1]))
    return _paint(head, draw_uptake(latents, [seed, 1], [seed, 2]), [seed, 1])


def paint_person(path: Path, uptake: Uptake, subject_seed: list[int]) -> Rendering:
    """Paint the label volume of a file with an uptake.

    Parameters
    ----------
    subject_seed : list of int
        Decides the skull and the meningeal spots, which last in a subject.

    Raises
    ------
    InputError
        If the file is no label volume of a whole brain.
    """
    return _paint(_head_of(path, tuple(subject_seed)), uptake, subject_seed)


@functools.lru_cache(maxsize=2)
def _head_of(path: Path, subject_seed: tuple[int, ...]) -> _Head:
    """Lay out a person once for all visits of a subject."""
    person = read_person(path)
    return _lay_out(person.labels, person.affine, draw_layers(list(subject_seed)))


def _lay_out(labels: NDArray[np.int16], affine: Floats, layers: HeadLayers) -> _Head:
    labels, affine = _with_margin(labels, affine)
    index = {name: k for k, name in enumerate(load_model().names)}
    fluid = np.isin(labels, (0, *FLUID)) & ~np.isin(labels, VENTRICLES)
    compartments = np.where(
        fluid, _around(~fluid, affine, layers, index), _numbers(painted_like(), index)[labels]
    )
    names = (*measured_labels(), *_CHOROID_PLEXUS, REFERENCE, "cerebellar_grey")
    order = {name: k for k, name in enumerate(names, start=1)}
    defined = {label: name for name, numbers in measured_labels().items() for label in numbers}
    regions = _numbers(defined, order)[labels]
    lower, upper = _halves(np.isin(labels, CEREBELLAR_GREY), affine)
    for name, where in {
        REFERENCE: lower,
        "cerebellar_grey": upper,
        **_choroid_plexus(labels, affine),
    }.items():
        compartments[where], regions[where] = index[name], order[name]
    return _Head(compartments, labels, affine, regions, names)


def _numbers(names: Mapping[int, str], index: Mapping[str, int]) -> NDArray[np.int16]:
    """Return a table from label to number; 0 for labels without a name."""
    table = np.zeros(max(painted_like()) + 1, dtype=np.int16)
    for label, name in names.items():
        table[label] = index[name]
    return table


def _with_margin(labels: NDArray[np.int16], affine: Floats) -> tuple[NDArray[np.int16], Floats]:
    """Fit the grid to labels and head, and move the brain to where the template's is."""
    labels = np.where(np.isin(labels, OUTSIDE), 0, labels)
    tissue = np.argwhere(~np.isin(labels, (0, *FLUID)))
    spacing = spacing_of(affine)
    low = tissue.min(axis=0) - np.ceil(np.array([_MARGIN_MM, _MARGIN_MM, _NECK_MM]) / spacing).astype(int)
    high = tissue.max(axis=0) + 1 + np.ceil(_MARGIN_MM / spacing).astype(int)
    padding = [(max(0, -a), max(0, b - n)) for a, b, n in zip(low, high, labels.shape, strict=True)]
    start = np.maximum(low, 0)
    padded = np.pad(labels, padding)[
        tuple(slice(a, a + b - c) for a, b, c in zip(start, high, low, strict=True))
    ]
    moved = affine.copy()
    moved[:3, 3] = _template_centre_mm() - affine[:3, :3] @ (tissue.mean(axis=0) - low)
    return np.ascontiguousarray(padded), moved


@functools.cache
def _template_centre_mm() -> Floats:
    atlas = load_atlas()
    tissue = np.argwhere(atlas.brain & (atlas.grey + atlas.white > 0.5))
    centre: Floats = AFFINE[:3, :3] @ tissue.mean(axis=0) + AFFINE[:3, 3]
    return centre


def _choroid_plexus(labels: NDArray[np.int16], affine: Floats) -> dict[str, NDArray[np.bool_]]:
    found = {}
    for name, (ventricle, walls) in _CHOROID_PLEXUS.items():
        wall = np.isin(labels, walls)
        around = ndimage.find_objects(ndimage.binary_dilation(wall, iterations=8).astype(np.uint8))[0]
        reach = ndimage.distance_transform_edt(~wall[around], sampling=spacing_of(affine))
        found[name] = np.zeros(labels.shape, dtype=bool)
        found[name][around] = np.isin(labels[around], ventricle) & (reach <= _CHOROID_MM)
    return found


def _halves(mask: NDArray[np.bool_], affine: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Divide a mask into a lower and an upper half of equal size."""
    height = np.broadcast_to(places_mm(mask.shape, affine)[2], mask.shape)
    low = mask & (height < np.median(height[mask]))
    return low, mask & ~low


def _around(
    brain: NDArray[np.bool_], affine: Floats, layers: HeadLayers, index: Mapping[str, int]
) -> NDArray[np.int16]:
    """Fill the sulci with fluid and surround the brain's hull; on every second voxel where they are small."""
    step = 2 if spacing_of(affine).max() <= _COARSE_FROM_MM else 1
    coarse, wide = affine @ np.diag([step, step, step, 1.0]), brain[::step, ::step, ::step]
    coarse[:3, 3] += affine[:3, :3].sum(axis=1) * (step - 1) / 2
    hull = _hull(wide, coarse)
    around = surround(hull, coarse, layers, index)
    around[hull] = index["csf"]
    for axis in range(3):
        around = np.repeat(around, step, axis=axis)
    return around[tuple(map(slice, brain.shape))]


def _hull(brain: NDArray[np.bool_], affine: Floats) -> NDArray[np.bool_]:
    """Close the sulci of a brain."""
    spacing = spacing_of(affine)
    near = np.asarray(ndimage.distance_transform_edt(~brain, sampling=spacing)) <= _HULL_MM
    closed = np.asarray(ndimage.distance_transform_edt(near, sampling=spacing)) > _HULL_MM
    hull: NDArray[np.bool_] = ndimage.binary_fill_holes(closed | brain)
    return hull


def _paint(head: _Head, uptake: Uptake, subject_seed: list[int]) -> Rendering:
    """Paint a head, and measure its regions after blurring."""
    suvr = intensities(uptake).astype(np.float32)[head.compartments]
    meninges = head.compartments == load_model().names.index("meninges")
    rng = np.random.default_rng([*subject_seed, 12])
    paint_meninges(suvr, meninges, head.affine, uptake.spots[:, 3], rng)
    regional = measure(suvr, head.affine, head.regions, head.names)
    return Rendering(suvr, regional, head.affine, head.labels, own_shape=True)
