"""Charts that compare losses: metrics, reliability as small multiples, risk against coverage."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.reporting.comparison.comparison_numbers import LossReliability, LossRisk
from pipeline.reporting.page.charts import (
    AMBER,
    BLUE,
    INK,
    PALE,
    ChartStyle,
    draw_rated,
    new_figure,
    percent_ticks,
    quiet,
    share_axes,
)
from pipeline.reporting.page.facts import Measured

COLUMNS = 4
STAGE_LOOKS = (
    ChartStyle("#7b8794", "s", "--", hollow=True),
    ChartStyle(BLUE, "o"),
    ChartStyle(AMBER, "^", ":"),
    ChartStyle(INK, "D", "-."),
)
"""The first stage, the last, and those between them."""
_PERCENTS = ([0, 0.5, 1], ["0", "50", "100"])  # the unit is in the label of the axis: panels are narrow
NAMED = 10
"""At most this many curves can be distinguished in grey."""
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (7, 2, 1, 2)))
_COLOURS = ("#0072b2", "#c25400", "#00805c", "#a8478a", "#7d6200")  # after Okabe & Ito, darker on white
_MARKERS = "so^Dv<P>X"
_REST = ChartStyle("#c3cbd3", "", "-")


def stage_looks(stages: Sequence[str]) -> dict[str, ChartStyle]:
    """Return how each stage is drawn, in the order of the stages."""
    between = [STAGE_LOOKS[2 + n % (len(STAGE_LOOKS) - 2)] for n in range(len(stages) - 2)]
    looks = [STAGE_LOOKS[0], *between, STAGE_LOOKS[1]] if len(stages) > 1 else [STAGE_LOOKS[1]]
    return dict(zip(stages, looks, strict=True))


def most_scans(panels: Sequence[LossReliability]) -> float:
    """Return the fullest bin's scans, the common height of the counts."""
    return max((point.scans for panel in panels for point in panel.points), default=1.0)


def reliability_of_losses(panels: Sequence[LossReliability], *, most: float | None = None) -> Figure:
    """Draw one diagram a loss over its counts, every stage in it; `most` is the height of the counts.

    A figure of one loss has no legend: `legend_of_stages` draws it apart.
    """
    names = list(dict.fromkeys(panel.name for panel in panels))
    looks = stage_looks(list(dict.fromkeys(panel.stage for panel in panels)))
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    single = len(names) == 1
    width, of_stage = 2.1 * columns + 0.1, _legend_width(list(looks))
    beside = max(1, int(width / of_stage))  # stages in a line of the legend
    legend = 0 if single else 0.1 + 0.2 * -(-len(looks) // beside)
    figure = new_figure(max(width, 0 if single else of_stage), 2.75 * rows + legend)
    figure.set_layout_engine("constrained", h_pad=0.02, hspace=0)
    grid = figure.subplots(2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": [3.2, 1] * rows})
    for axes in grid.ravel():
        axes.set_visible(False)
    for n, name in enumerate(names):
        row, column = divmod(n, columns)
        upper, lower = grid[2 * row][column], grid[2 * row + 1][column]
        mine = [panel for panel in panels if panel.name == name]
        _diagram(upper, mine, looks)
        _counts(lower, mine, looks, most or most_scans(panels))
        if not single:  # alone, the page names it: its fonts have letters and lines that a chart lacks
            upper.set_title(textwrap.fill(name, 24), fontsize=9, color=INK)
        if column == 0:
            upper.set_ylabel("observed, %", fontsize=8)
            lower.set_ylabel("scans", fontsize=8)
        if n + columns >= len(names):
            lower.set_xlabel("stated, %", fontsize=8)
    if not single:
        figure.legend(handles=_handles(looks), loc="outside upper center", ncols=beside, **_LEGEND)
    return figure


_LEGEND = {"frameon": False, "fontsize": 8, "labelcolor": INK, "numpoints": 1}


def legend_of_stages(stages: Sequence[str]) -> Figure:
    """Draw the mark and the line of each stage, one below the other: so the letters fit a phone too."""
    figure = new_figure(_legend_width(stages), 0.1 + 0.2 * len(stages))
    figure.legend(handles=_handles(stage_looks(stages)), loc="center left", **_LEGEND)
    return figure


def _legend_width(stages: Sequence[str]) -> float:
    """Return how many inches one stage of a legend needs."""
    return 0.75 + 0.085 * max(map(len, stages))


def _handles(looks: Mapping[str, ChartStyle]) -> list[Line2D]:
    return [
        Line2D(
            [], [], color=k.colour, marker=k.marker, mfc=k.face, linestyle=k.line, markersize=5, label=name
        )
        for name, k in looks.items()
    ]


def _diagram(axes: Axes, panels: Sequence[LossReliability], looks: Mapping[str, ChartStyle]) -> None:
    axes.set_visible(True)
    share_axes(axes)
    axes.tick_params(labelbottom=False)
    axes.set_yticks(*_PERCENTS)
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2, zorder=1)
    for panel in panels:
        look = looks[panel.stage]
        line = [(p.stated, p.came_true) for p in panel.points]
        axes.plot(*np.transpose(line), linestyle=look.line, color=look.colour, linewidth=1, zorder=2)
        for point in panel.points:
            # Bars of three stages on top of each other could not be distinguished.
            draw_rated(axes, point, look, bar=2 if look in STAGE_LOOKS[:2] else 0, size=4)


def _counts(
    axes: Axes, panels: Sequence[LossReliability], looks: Mapping[str, ChartStyle], most: float
) -> None:
    axes.set_visible(True)
    quiet(axes)
    for panel in panels:
        scans = np.zeros(len(panel.edges) - 1)
        scans[[p.bin for p in panel.points]] = [p.scans for p in panel.points]
        look = looks[panel.stage]
        axes.stairs(scans, panel.edges, color=look.colour, linestyle=look.line, linewidth=1.2)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks(*_PERCENTS)
    axes.set_ylim(0, 1.05 * most)
    axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))


def risk_of_losses(
    curves: Sequence[LossRisk], baseline: str, *, top: float | None = None, named: Sequence[str] | None = None
) -> Figure:
    """Draw wrong answers against answers, one panel a stage; the legend goes by area, the least first.

    Parameters
    ----------
    top : float, optional
        The end of the vertical axis.
    named : sequence of str, optional
        The losses with a colour and a name; by default `named_losses` of these curves. The others are pale.
    """
    stages = list(dict.fromkeys(curve.stage for curve in curves))
    names = list(dict.fromkeys(curve.name for curve in curves))
    looks = loss_looks(names, baseline, named_losses(curves, baseline) if named is None else named)
    top = top or highest_risk(curves)
    rows = min(len(names), NAMED)
    lines = max((_label(c).count("\n") + 1 for c in curves), default=1)
    figure = new_figure(4.6 * len(stages), 2.9 + 0.17 * lines * -(-rows // 2))
    for axes, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        mine = sorted((c for c in curves if c.stage == stage), key=lambda c: c.area)
        _risks(axes, mine, looks)
        axes.set_ylim(0, top)
        axes.set_title(stage, fontsize=9, color=INK)
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, handlelength=3.5, **_LEGEND)
    return figure


def _label(curve: LossRisk) -> str:
    """Return name and area in lines of which the legend can have two beside each other."""
    return textwrap.fill(f"{curve.name}  {curve.area:.3f}", 26)


def highest_risk(curves: Sequence[LossRisk]) -> float:
    """Return the common end of the vertical axis, the least confident tenth and noise at its start apart."""
    seen = [r for c in curves for share, r in zip(c.coverage, c.risk, strict=True) if share >= 0.1]
    return max(0.05, 1.1 * max(seen, default=0))


def named_losses(curves: Sequence[LossRisk], baseline: str) -> tuple[str, ...]:
    """Return the losses that a chart can name: all of a few, else the baseline and both ends by area.

    The last stage decides.
    """
    last = sorted((c for c in curves if c.stage == curves[-1].stage), key=lambda c: c.area)
    if len(last) <= NAMED:
        return tuple(c.name for c in last)
    others = [c.name for c in last if c.name != baseline]
    half = (NAMED - 2) // 2
    return (baseline, *others[:half], *others[-half:])


def loss_looks(names: Sequence[str], baseline: str, named: Sequence[str]) -> dict[str, ChartStyle]:
    """Return how each loss is drawn: the baseline in ink, those named each in its own way, the rest pale."""
    looks = {baseline: ChartStyle(INK, "")}
    for n, name in enumerate(name for name in names if name in named and name != baseline):
        dash = _DASHES[(n + n // len(_COLOURS)) % len(_DASHES)]
        looks[name] = ChartStyle(_COLOURS[n % len(_COLOURS)], _MARKERS[n % len(_MARKERS)], dash)
    return {name: looks.get(name, _REST) for name in names}


def _risks(axes: Axes, curves: Sequence[LossRisk], looks: Mapping[str, ChartStyle]) -> None:
    quiet(axes)
    rest = sum(looks[curve.name] is _REST for curve in curves)
    for n, curve in enumerate(curves):
        look = looks[curve.name]
        label = _label(curve)
        if look is _REST:
            label, rest = (f"{rest} others", 0) if rest else ("", 0)
        axes.plot(
            curve.coverage, curve.risk, color=look.colour, linestyle=look.line, marker=look.marker,
            markersize=4, mfc=look.face, label=label, zorder=1 if look is _REST else 2,
            linewidth=2.2 if not look.marker and look is not _REST else 1.2,
            # Marks stand apart where curves lie on each other.
            markevery=(0.03 + 0.02 * (n % 9), 0.2),
        )  # fmt: skip
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("share of scans answered", fontsize=8)
    axes.set_ylabel("share of answers wrong", fontsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        percent_ticks(axis)


def forest_figure(values: Mapping[str, Sequence[tuple[str, Measured]]], titles: Mapping[str, str]) -> Figure:
    """Draw one panel a metric, one row a name: value and interval."""
    rows = max((len(v) for v in values.values()), default=1)
    figure = new_figure(1.75 * max(len(values), 1) + 0.8, 0.26 * rows + 0.95)
    panels = figure.subplots(1, max(len(values), 1), squeeze=False, sharey=True)[0]
    for axes, (metric, found) in zip(panels, values.items(), strict=False):
        quiet(axes)
        for n, (_, m) in enumerate(found):
            axes.plot([m.low, m.high], [n, n], color=BLUE, alpha=0.35, linewidth=3)
            axes.plot(m.value, n, "o", color=BLUE, markersize=4.5)
        axes.set_title(textwrap.fill(titles[metric], 20), fontsize=9, color=INK)
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.grid(axis="x", color=PALE, linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(3))
    panels[0].set_ylim(rows - 0.4, -0.6)  # the first row on top, none on the edge
    return figure
