"""How all charts look and are written: SVG or PNG, the same bytes every time, beside their numbers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.files import written_whole
from pipeline.reporting.page.facts import Rated

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
    """How a series is drawn: mark and line differ too, for print in grey."""

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


def percent_ticks(axis: Axis) -> None:
    """Mark shares in percent at round numbers, so that no label is a rounded one."""
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6):g} %"))


def draw_rated(axes: Axes, point: Rated, look: ChartStyle, *, bar: float = 3, size: float = 4.5) -> None:
    """Draw observed against predicted frequency, over the bar of its interval."""
    x = point.stated
    axes.plot([x, x], [point.low, point.high], color=look.colour, alpha=0.35, linewidth=bar, zorder=2)
    axes.plot(x, point.came_true, look.marker, color=look.colour, mfc=look.face, markersize=size, zorder=3)


@dataclass(frozen=True)
class Picture:
    """A part of a figure that a page shows by itself, so that a narrow screen can stack the parts.

    Parameters
    ----------
    alt : str
        What it shows, for who cannot see it.
    address : str
        The picture itself, as an address that needs no request.
    title : str
        Stands above it on the page, whose fonts have letters and lines that a chart lacks.
    """

    alt: str
    address: str
    title: str = ""


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """A figure, the table of its numbers, and how it is read."""

    name: str
    title: str
    alt: str
    how_to_read: str
    svg: bytes
    png: bytes
    numbers: pd.DataFrame

    @classmethod
    def of(cls, name: str, words: tuple[str, str, str], drawn: Figure, numbers: pd.DataFrame) -> ReportFigure:
        """Return a figure as drawn; its words are title, alternative text and how to read it."""
        return cls(name, *words, svg(drawn), png(drawn, dpi=160), numbers)

    def write(self, folder: Path) -> None:
        """Write it as ``<name>.svg`` and ``<name>.png``, and its numbers as ``<name>.csv``."""
        for suffix, content in (("svg", self.svg), ("png", self.png)):
            with written_whole(folder / f"{self.name}.{suffix}") as beside:
                beside.write_bytes(content)
        with written_whole(folder / f"{self.name}.csv") as beside:
            self.numbers.to_csv(beside, index=False)
