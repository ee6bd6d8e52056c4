"""Charts of a study: their numbers come in, SVG or PNG comes out, the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.reporting.study.study_numbers import (
    EpochRow,
    Measured,
    PosteriorPoint,
    Rated,
    ReliabilityPanel,
    RiskPoint,
)

_STYLE = {
    "svg.hashsalt": "taucal",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def png(figure: Figure, *, dpi: int = 110) -> bytes:
    """Return a figure as PNG without date or version."""
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(
            stream, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None}
        )
    return stream.getvalue()


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG without date, with fixed ids."""
    FigureCanvasSVG(figure)
    stream = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


INK, MUTED, BLUE, AMBER, PALE = "#1b2430", "#55606d", "#1f5a8a", "#a86a00", "#dfe4e9"


@dataclass(frozen=True)
class ChartStyle:
    """How a series is told from others: by mark and line where there is no colour."""

    colour: str = BLUE
    marker: str = "o"
    line: str | tuple[int, tuple[float, ...]] = "-"
    hollow: bool = False

    @property
    def face(self) -> str:
        """What fills its marks."""
        return "white" if self.hollow else self.colour


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    # constrained layout keeps labels inside without hand-set margins
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def quiet(axes: Axes) -> None:
    """Leave the axes a left and a lower line, and mute both."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b8c1ca")
    axes.tick_params(colors=MUTED, labelsize=8, length=3)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)


def share_axes(axes: Axes) -> None:
    """Let both axes run from 0 to 100 %."""
    quiet(axes)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    ticks = [0, 0.5, 1]
    axes.set_xticks(ticks, ["0", "50", "100 %"])
    axes.set_yticks(ticks, ["0", "50", "100 %"])
    axes.set_aspect("equal")


def draw_rated(axes: Axes, point: Rated, look: ChartStyle, *, bar: float = 3, size: float = 4.5) -> None:
    """Draw what came true against what was stated, over the bar of its interval."""
    x = point.stated
    axes.plot([x, x], [point.low, point.high], color=look.colour, alpha=0.35, linewidth=bar, zorder=2)
    axes.plot(x, point.came_true, look.marker, color=look.colour, mfc=look.face, markersize=size, zorder=3)


def reliability_figure(panels: Sequence[ReliabilityPanel]) -> Figure:
    """Draw one panel a curve; before and after calibration in rows, top label and classes in columns."""
    stages = list(dict.fromkeys(p.stage for p in panels))
    names = list(dict.fromkeys(p.name for p in panels))
    figure = new_figure(2.15 * len(names) + 0.3, 2.0 * len(stages) + 0.35)
    grid = figure.subplots(len(stages), len(names), squeeze=False)
    for panel in panels:
        row, column = stages.index(panel.stage), names.index(panel.name)
        axes = grid[row][column]
        share_axes(axes)
        axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2, zorder=1)
        for p in panel.points:
            draw_rated(axes, p, ChartStyle())
            axes.annotate(
                str(p.scans),
                (p.stated, p.came_true),
                (4, 3),
                textcoords="offset points",
                fontsize=7,
                color=MUTED,
            )
        if row == 0:
            axes.set_title(panel.name, fontsize=9, color=INK)
        if column == 0:
            axes.set_ylabel(f"{panel.stage}\ncame true", fontsize=8)
        if row == len(stages) - 1:
            axes.set_xlabel("stated", fontsize=8)
    return figure


def risk_figure(points: Sequence[RiskPoint], operating_point: float | None) -> Figure:
    """Draw the share of wrong answers against the share of scans answered."""
    figure = new_figure(4.6, 3.0)
    axes = figure.subplots()
    quiet(axes)
    axes.step([p.coverage for p in points], [p.risk for p in points], where="post", color=BLUE, linewidth=1.8)
    answered = [p for p in points if operating_point is not None and p.threshold >= operating_point]
    if answered:
        last = answered[-1]
        axes.plot(last.coverage, last.risk, "o", mfc="white", mec=AMBER, mew=2, markersize=8)
        axes.annotate(
            f"confidence ≥ {100 * (operating_point or 0):.0f} %",
            (last.coverage, last.risk), (8, 8), textcoords="offset points", fontsize=8, color=AMBER,
        )  # fmt: skip
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, max(0.05, 1.15 * max((p.risk for p in points), default=0)))
    axes.set_xlabel("share of scans answered", fontsize=9)
    axes.set_ylabel("share of answers wrong", fontsize=9)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def confusion_figure(counts: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Draw counts with the share of their row."""
    size = len(class_names)
    figure = new_figure(1.0 * size + 1.3, 0.85 * size + 1.0)
    axes = figure.subplots()
    table = np.asarray(counts, dtype=float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25)
    for row in range(size):
        for column in range(size):
            text = f"{counts[row][column]}\n{100 * shares[row, column]:.0f} %"
            colour = "white" if shares[row, column] > 0.7 else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(size), list(class_names))
    axes.set_yticks(range(size), list(class_names))
    axes.set_xlabel("most probable class", fontsize=9, color=MUTED)
    axes.set_ylabel("diagnosis", fontsize=9, color=MUTED)
    axes.tick_params(length=0, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def training_figure(epochs: Sequence[EpochRow]) -> Figure:
    """Draw training loss and validation NLL, and validation balanced accuracy beside them."""
    figure = new_figure(7.2, 2.8)
    left, right = figure.subplots(1, 2)
    x = [e.epoch + 1 for e in epochs]

    def line(axes: Axes, values: list[float | None], label: str, colour: str, style: str) -> None:
        y = [np.nan if v is None else v for v in values]
        axes.plot(x, y, style, color=colour, linewidth=1.6, label=label)

    line(left, [e.loss for e in epochs], "training loss", MUTED, "--")
    line(left, [e.validation_nll for e in epochs], "validation NLL", BLUE, "-")
    line(right, [e.validation_balanced_accuracy for e in epochs], "validation balanced accuracy", BLUE, "-")
    for axes in (left, right):
        quiet(axes)
        axes.set_xlabel("epoch", fontsize=9)
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_ylim(0, 1)
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def posterior_figure(points: Sequence[PosteriorPoint], class_names: Sequence[str]) -> Figure:
    """Draw stated against true probability, one panel a class."""
    figure = new_figure(2.3 * len(class_names) + 0.3, 2.6)
    for axes, name in zip(figure.subplots(1, len(class_names), squeeze=False)[0], class_names, strict=True):
        share_axes(axes)
        mine = [p for p in points if p.name == name]
        axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2)
        axes.plot(
            [p.true for p in mine], [p.stated for p in mine], "o", color=BLUE, markersize=4, alpha=0.55, mew=0
        )
        axes.set_title(name, fontsize=9, color=INK)
        axes.set_xlabel("true probability", fontsize=8)
    figure.axes[0].set_ylabel("stated", fontsize=8)
    return figure


def forest_figure(values: Mapping[str, Sequence[tuple[str, Measured]]], titles: Mapping[str, str]) -> Figure:
    """Draw one panel a metric, one row a name: value and interval."""
    rows = max((len(v) for v in values.values()), default=1)
    figure = new_figure(2.3 * max(len(values), 1) + 0.8, 0.26 * rows + 0.8)
    panels = figure.subplots(1, max(len(values), 1), squeeze=False, sharey=True)[0]
    for axes, (metric, found) in zip(panels, values.items(), strict=False):
        quiet(axes)
        for n, (_, m) in enumerate(found):
            axes.plot([m.low, m.high], [n, n], color=BLUE, alpha=0.35, linewidth=3)
            axes.plot(m.value, n, "o", color=BLUE, markersize=4.5)
        axes.set_title(titles[metric], fontsize=9, color=INK)
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.grid(axis="x", color=PALE, linewidth=0.6)
    panels[0].invert_yaxis()
    return figure
