"""Pictures of one scan as PNG; the SUVR scale is fixed, so that two reports can be laid side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.arrays import Floats
from pipeline.atlas import load_atlas
from pipeline.reporting.page.charts import png
from pipeline.reporting.scan.slices import Slice, Surface, frame_of, three_planes

SUVR_RANGE = (0.0, 3.5)
BACKGROUND_LIMIT = 1.65
"""Background is up to 1.65 times the cerebellar average (Tauvid label, reading aid)."""
COLORMAP = "inferno"
"""Lightness rises evenly: read alike by colour-blind eyes and in grey print."""
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
    left, right, top, bottom = frame_of(view.plane)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _crosshair(axes: Axes, cross: tuple[float, float], shape: tuple[int, ...]) -> None:
    (column, row), (rows, columns), gap = cross, shape, 7
    for low, high in ((0, row - gap), (row + gap, rows - 1)):
        axes.plot([column, column], [low, high], color=_INK, linewidth=0.6, alpha=0.75)
    for low, high in ((0, column - gap), (column + gap, columns - 1)):
        axes.plot([low, high], [row, row], color=_INK, linewidth=0.6, alpha=0.75)


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


def _surface_rgba(view: Surface, limits: tuple[float, float]) -> Floats:
    share = np.clip((view.values - limits[0]) / (limits[1] - limits[0]), 0, 1)
    colour = _Z_COLORMAP(np.nan_to_num(share))
    colour[np.isnan(view.values), :3] = 0.75
    colour[..., :3] *= np.nan_to_num(view.shade)[..., None]
    colour[..., 3] = (~np.isnan(view.shade)).astype(float)
    return np.kron(colour, np.ones((3, 3, 1)))
