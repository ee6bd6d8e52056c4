"""Pictures of one scan: which slices, which way round, on which scale. Numbers first, drawing after.

Everything is shown in radiological convention: the patient's right is on the left of axial and coronal
pictures. The SUVR scale is the same for every scan, so that two reports can be laid side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.errors import InputError
from pipeline.reporting.figures import png
from pipeline.scan import Volume

SUVR_RANGE = (0.0, 3.5)
BACKGROUND_LIMIT = 1.65
"""Background is up to 1.65 times the cerebellar average (Tauvid label, reading aid)."""
TAU_LEVELS_MM = (-34.0, -22.0, -8.0, 8.0, 28.0, 46.0)
"""Axial heights: entorhinal, fusiform, temporal, posterior cingulate and striatum, precuneus, parietal."""
COLORMAP = "inferno"
"""Lightness rises evenly: read alike by colour-blind eyes and in grey print."""

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
        What stands at the left and right edge of the picture: ``"R"`` and ``"L"``, or ``"A"`` and ``"P"``.
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
            f"A report draws SUVR on the template grid {SHAPE}, "
            f"got {volume.unit} of shape {volume.array.shape}",
            mend="pass the volume that `pipeline.imaging` wrote",
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


_INK, _PAPER = "#e8ecf1", "#000000"
_DARK_INK, _OUTLINE, _SALIENCY_COLORMAP = "#1b2430", "#7fd4ff", "cividis"
_Z_COLORMAP = LinearSegmentedColormap.from_list("z", colormaps[COLORMAP](np.linspace(0.12, 1, 256)))
"""Starts above black, which would hide the shading of the surface."""
_CELL = 2.0
"""Width of one slice in inches."""
_BAR = 0.62
"""Width of the colour bar's strip in inches."""


def draw_slices(slices: Sequence[Slice]) -> bytes:
    """Draw SUVR slices in one row on the fixed scale, sides marked, with one colour bar; return PNG."""
    figure = _strip(len(slices), 1.2 if all(s.plane == "axial" for s in slices) else 1.02)
    for n, view in enumerate(slices):
        _show(_cell(figure, n), view, COLORMAP, SUVR_RANGE[1])
    _scale_bar(figure, COLORMAP, SUVR_RANGE, (0, 1, BACKGROUND_LIMIT, 2.5, 3.5), "SUVR", BACKGROUND_LIMIT)
    return png(figure, dpi=150)


def draw_saliency(saliency: NDArray[np.floating], at_mm: tuple[float, float, float]) -> bytes:
    """Draw saliency in three planes on a scale of its own; return PNG."""
    figure = _strip(3, 1.02)
    top = float(np.quantile(saliency, 0.999)) or 1.0
    for n, view in enumerate(three_planes(saliency, at_mm)):
        _show(_cell(figure, n), view, _SALIENCY_COLORMAP, top)
    _scale_bar(figure, _SALIENCY_COLORMAP, (0, top), (), "low to high")
    return png(figure, dpi=120)


def draw_registration(array: NDArray[np.floating]) -> bytes:
    """Draw three planes in grey with the template's outline, to see whether the scan lies on it; PNG."""
    atlas = load_atlas()
    centre = (1.0, -20.0, 4.0)
    outlines = three_planes(atlas.brain.astype(np.float32), centre)
    figure = _strip(3, 1.02)
    for n, (view, outline) in enumerate(zip(three_planes(array, centre), outlines, strict=True)):
        axes = _cell(figure, n)
        _show(axes, replace(view, cross=None), "gray", 2.0)
        axes.contour(outline.image, levels=[0.5], colors=[_OUTLINE], linewidths=0.9)
    return png(figure, dpi=110)


def _strip(cells: int, height: float) -> Figure:
    return Figure(figsize=(_CELL * cells + _BAR, _CELL * height), facecolor=_PAPER)


def _cell(figure: Figure, n: int) -> Axes:
    width = figure.get_figwidth()
    return figure.add_axes(((n * _CELL + 0.02) / width, 0.01, (_CELL - 0.04) / width, 0.98))


def _show(axes: Axes, view: Slice, colours: str, high: float) -> None:
    axes.imshow(view.image, cmap=colours, vmin=0, vmax=high, interpolation="bilinear")
    axes.set_axis_off()
    letter = {"axial": "z", "coronal": "y", "sagittal": "x"}[view.plane]
    sign = "−" if view.position_mm < 0 else "+"
    place = f"{letter} {sign}{abs(view.position_mm):.0f} mm"
    for x, y, word, side in ((0.02, 0.99, view.left_mark, "left"), (0.98, 0.99, view.right_mark, "right")):
        axes.text(x, y, word, ha=side, va="top", color=_INK, transform=axes.transAxes, fontsize=10)
    axes.text(0.5, 0.005, place, ha="center", va="bottom", color=_INK, transform=axes.transAxes, fontsize=8)
    if view.cross is not None:
        _crosshair(axes, view.cross, view.image.shape)
    left, right, top, bottom = _frame(view.plane)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _crosshair(axes: Axes, cross: tuple[float, float], shape: tuple[int, ...]) -> None:
    (column, row), (rows, columns), gap = cross, shape, 7
    for low, high in ((0, row - gap), (row + gap, rows - 1)):
        axes.plot([column, column], [low, high], color=_INK, linewidth=0.6, alpha=0.75)
    for low, high in ((0, column - gap), (column + gap, columns - 1)):
        axes.plot([low, high], [row, row], color=_INK, linewidth=0.6, alpha=0.75)


@functools.lru_cache(maxsize=3)
def _frame(plane: Plane) -> tuple[float, float, float, float]:
    """Return the columns and rows that hold the brain and 8 mm around it, the same for every scan."""
    seen = np.asarray(load_atlas().brain.any(axis=_AXIS[plane]))[::-1, ::-1].T
    columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
    return columns[0] - 4.5, columns[-1] + 4.5, rows[0] - 4.5, rows[-1] + 4.5


def _scale_bar(  # noqa: PLR0913 - one colour bar for all strips
    figure: Figure,
    colours: str | Colormap,
    limits: tuple[float, float],
    marks: Sequence[float],
    title: str,
    line: float | None = None,
    ink: str = _INK,
) -> None:
    width = figure.get_figwidth()
    axes = figure.add_axes((1 - (_BAR - 0.08) / width, 0.14, 0.1 / width, 0.68))
    axes.imshow(np.linspace(1, 0, 256)[:, None], cmap=colours, aspect="auto", extent=(0, 1, *limits))
    if line is not None:
        axes.axhline(line, color="white", linewidth=1.6)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks(list(marks), [f"{m:g}" for m in marks])
    axes.tick_params(colors=ink, labelsize=8, length=2, pad=2)
    figure.text(1 - 0.04 / width, 0.9, title, fontsize=7, color=ink, ha="right", va="center")
    for spine in axes.spines.values():
        spine.set_visible(False)


@dataclass(frozen=True, eq=False)
class Surface:
    """One view of half a brain from outside or from the midline.

    Parameters
    ----------
    side : {"left", "right"}
    aspect : {"lateral", "medial"}
    values : ndarray, shape (rows, columns)
        Value of the region seen there; NaN where none was measured or nothing is seen.
    shade : ndarray, shape (rows, columns)
        Light on the surface, 0 to 1; NaN outside the brain.
    """

    side: Literal["left", "right"]
    aspect: Literal["lateral", "medial"]
    values: NDArray[np.float64]
    shade: NDArray[np.float64]


def surface(
    values: dict[str, float], side: Literal["left", "right"], aspect: Literal["lateral", "medial"]
) -> Surface:
    """Project the atlas-labelled cortex of one half, coloured by a value per region.

    Parameters
    ----------
    values : dict
        ``"left_precuneus"`` -> value, as in `pipeline.atlas.Atlas.names`.

    Notes
    -----
    A view of the first labelled voxel along x, no anatomical surface: folds are those of the template.
    """
    atlas = load_atlas()
    cortical = {f"{side}_{r}" for r in atlas.regions_of("target")}
    of_label = np.full(len(atlas.names), np.nan)
    for k, name in enumerate(atlas.names):
        if name in cortical:
            of_label[k] = values.get(name, np.nan)
    seen = np.isin(atlas.labels, [k for k, name in enumerate(atlas.names) if name in cortical])
    half = SHAPE[0] // 2
    # x runs from left to right; put the eye at index 0 and let depth grow away from it.
    part = slice(0, half) if side == "left" else slice(half, None)
    seen, labels = seen[part], atlas.labels[part]
    if (side == "left") != (aspect == "lateral"):
        seen, labels = seen[::-1], labels[::-1]
    depth = np.where(seen.any(axis=0), seen.argmax(axis=0), np.nan)
    first = np.take_along_axis(labels, seen.argmax(axis=0)[None], axis=0)[0]
    shown = np.where(np.isnan(depth), np.nan, of_label[first])
    light = _light(depth)
    # Anterior stands on the left in the left lateral and the right medial view, as one sees the head.
    anterior_left = (side == "left") == (aspect == "lateral")
    turn = (slice(None, None, -1), slice(None, None, -1 if anterior_left else 1))
    return Surface(side, aspect, shown.T[turn], light.T[turn])


def _light(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = ~np.isnan(depth)
    filled = np.where(inside, depth, np.nanmax(depth))
    smooth = ndimage.gaussian_filter(filled, 1.2)
    steep = np.hypot(*np.gradient(smooth))
    light = 1.0 / np.sqrt(1.0 + (0.45 * steep) ** 2)
    return np.where(inside, 0.35 + 0.65 * light, np.nan)


def draw_surfaces(surfaces: Sequence[Surface], limits: tuple[float, float], marks: Sequence[float]) -> bytes:
    """Draw surface-like views of z-scores on white with one colour bar; return PNG."""
    figure = Figure(figsize=(_CELL * len(surfaces) + _BAR, _CELL * 0.84), facecolor="white")
    for n, view in enumerate(surfaces):
        axes = _cell(figure, n)
        axes.imshow(_surface_rgba(view, limits), interpolation="bilinear")
        axes.set_axis_off()
        rows, columns = (np.flatnonzero((~np.isnan(view.shade)).any(axis=a)) for a in (1, 0))
        axes.set_xlim(3 * columns[0] - 6, 3 * columns[-1] + 8)
        axes.set_ylim(3 * rows[-1] + 8, 3 * rows[0] - 34)
        title = f"{view.side} {view.aspect}"
        axes.text(
            0.5, 0.99, title, ha="center", va="top", fontsize=8, color=_DARK_INK, transform=axes.transAxes
        )
    _scale_bar(figure, _Z_COLORMAP, limits, marks, "z", ink=_DARK_INK)
    return png(figure, dpi=150)


def _surface_rgba(view: Surface, limits: tuple[float, float]) -> NDArray[np.float64]:
    share = np.clip((view.values - limits[0]) / (limits[1] - limits[0]), 0, 1)
    colour = _Z_COLORMAP(np.nan_to_num(share))
    colour[np.isnan(view.values), :3] = 0.75
    colour[..., :3] *= np.nan_to_num(view.shade)[..., None]
    colour[..., 3] = (~np.isnan(view.shade)).astype(float)
    return np.kron(colour, np.ones((3, 3, 1)))
