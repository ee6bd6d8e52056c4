"""Each figure of a study with the table of its numbers and how it is read."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.reporting.page.charts import (
    AMBER,
    BLUE,
    INK,
    MUTED,
    PALE,
    ChartStyle,
    Picture,
    ReportFigure,
    draw_rated,
    new_figure,
    percent_ticks,
    quiet,
    share_axes,
    svg,
)
from pipeline.reporting.page.facts import Facts
from pipeline.reporting.page.html import data_uri
from pipeline.reporting.study.study_numbers import (
    EpochRow,
    PosteriorPoint,
    ReliabilityPanel,
    RiskPoint,
    StudyReport,
)

TOP_LABEL = "top label"
"""How `pipeline.evaluation.metrics.reliability` names the curve of the most probable class."""

_WORDS = {
    "reliability": (
        "Reliability",
        "Reliability diagrams before and after calibration, for the most probable class and for each class",
        "Each dot is a group of test scans with similar stated probability. Horizontal: the stated "
        "probability. Vertical: how often the class was the diagnosis. On the diagonal the two agree; below "
        "it the stated probability is too high. The number above each dot, at the upper edge, is the count "
        "of its scans; the bar is the 95 % interval of the observed share (Wilson; scans are counted as "
        "independent). With few scans, a dot off the diagonal proves nothing.",
    ),
    "risk_coverage": (
        "Risk and coverage",
        "Share of wrong answers against share of scans answered",
        "If only the most confident scans were answered (horizontal: their share), this share of the answers "
        "would be wrong. Where confidence is useful, the curve rises to the right. The ring is the operating "
        "point; without a ring, no confidence was enough for a finding.",
    ),
    "confusion": (
        "Confusion",
        "Test scans by diagnosis and by most probable class",
        "Rows: the diagnosis. Columns: the most probable class. Counts, and their share of the row: the "
        "darker, the larger. Scans that would be referred to an expert are included.",
    ),
    "training": (
        "Training",
        "Training loss and validation metrics over epochs",
        "Loss on training scans and negative log-likelihood on validation scans by epoch. A validation "
        "curve that rises while the loss falls is overfitting; calibration corrects its confidence, not "
        "its errors. Losses other than cross-entropy have another scale than the NLL. For several networks, "
        "the mean is drawn.",
    ),
    "posterior": (
        "Stated against true probability",
        "Calibrated probability of every test scan against the phantom's true posterior",
        "The true probability of each scan is known for a phantom only. On the diagonal the stated "
        "probability is the true one. This is stricter than reliability, which averages over scans with "
        "similar stated probability.",
    ),
}


def study_figures(report: StudyReport) -> tuple[ReportFigure, ...]:
    """Draw every figure that the report has numbers for."""
    names = [str(n) for n in report.class_names]
    confusion = pd.DataFrame(report.confusion, columns=names).assign(diagnosis=names)
    found = [
        _figure("reliability", reliability_figure(report.reliability), _points(report)),
        _figure("risk_coverage", risk_figure(report.risk, report.operating_point), _table(report.risk)),
        _figure("confusion", confusion_figure(report.confusion, names), confusion),
    ]
    if report.training:
        found.append(_figure("training", training_figure(report.training), _table(report.training)))
    if report.posterior:
        drawn = posterior_figure(report.posterior, names)
        found.append(_figure("posterior", drawn, _table(report.posterior)))
    return tuple(found)


def _figure(name: str, drawn: Figure, numbers: pd.DataFrame) -> ReportFigure:
    return ReportFigure.of(name, _WORDS[name], drawn, numbers)


def _table(rows: Sequence[Facts]) -> pd.DataFrame:
    return pd.DataFrame([row.model_dump() for row in rows])


def _points(report: StudyReport) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"panel": panel.name, "stage": panel.stage, **point.model_dump()}
            for panel in report.reliability
            for point in panel.points
        ]
    )


def reliability_figure(panels: Sequence[ReliabilityPanel], *, titled: bool = True) -> Figure:
    """Draw one panel a curve: before and after calibration beside each other, a row for each name."""
    stages = list(dict.fromkeys(p.stage for p in panels))
    names = list(dict.fromkeys(p.name for p in panels))
    figure = new_figure(2.15 * len(stages) + 0.1, 2.4 * len(names))
    grid = figure.subplots(len(names), len(stages), squeeze=False)
    for panel in panels:
        row, column = names.index(panel.name), stages.index(panel.stage)
        axes = grid[row][column]
        share_axes(axes)
        axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2, zorder=1)
        for n, point in enumerate(panel.points):
            draw_rated(axes, point, ChartStyle())
            # Two lines of counts: beside the dots, those of neighbours would run into one number.
            place = (point.stated, 1.02 + 0.07 * (n % 2))
            look: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 6.5, "color": MUTED}
            axes.text(*place, str(point.scans), transform=axes.get_xaxis_transform(), **look)
        title = f"{_top(panel.name)}, {panel.stage}" if titled else str(panel.stage)
        axes.set_title(textwrap.fill(title, 30), fontsize=8, color=INK, pad=24)
        axes.set_ylabel("observed" if column == 0 else "", fontsize=8)
        axes.set_xlabel("stated", fontsize=8)
    return figure


def _top(name: str) -> str:
    return "most probable class" if name == TOP_LABEL else name


def risk_figure(points: Sequence[RiskPoint], operating_point: float | None) -> Figure:
    """Draw the share of wrong answers against the share of scans answered."""
    figure = new_figure(4.6, 3.0)
    axes = figure.subplots()
    quiet(axes)
    curve: dict[str, Any] = {"where": "post", "color": BLUE, "linewidth": 1.8, "clip_on": False}
    axes.step([p.coverage for p in points], [p.risk for p in points], **curve)
    answered = [p for p in points if operating_point is not None and p.threshold >= operating_point]
    if answered:
        last = answered[-1]
        named = f"confidence ≥ {100 * (operating_point or 0):.0f} %"
        ring: dict[str, Any] = {"mfc": "white", "mec": AMBER, "mew": 2, "markersize": 8, "clip_on": False}
        axes.plot(last.coverage, last.risk, "o", label=named, zorder=3, **ring)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, max(0.05, 1.15 * max((p.risk for p in points), default=0)))
    if answered:  # where the curve leaves room: beside the ring it would be struck through
        axes.legend(loc="best", frameon=False, fontsize=8, labelcolor=AMBER, numpoints=1)
    axes.set_xlabel("share of scans answered", fontsize=9)
    axes.set_ylabel("share of answers wrong", fontsize=9)
    percent_ticks(axes.xaxis)
    percent_ticks(axes.yaxis)
    return figure


def confusion_figure(counts: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Draw counts with the share of their row; a class without test scans has none."""
    names = [textwrap.fill(name, 14) for name in class_names]
    lines = 1 + max(name.count("\n") for name in names)
    size, room = len(names), 0.075 * max(len(line) for name in names for line in name.split("\n"))
    figure = new_figure(
        max(1.0, room) * size + room + 0.9, max(0.85, 0.16 * lines) * size + 0.16 * lines + 0.7
    )
    axes = figure.subplots()
    table = np.asarray(counts, dtype=float)
    totals = table.sum(axis=1, keepdims=True)
    shares = table / np.maximum(totals, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for row in range(size):
        for column in range(size):
            share = f"{100 * shares[row, column]:.0f} %" if totals[row] else "–"
            colour = "white" if shares[row, column] > 0.7 else INK
            text = f"{counts[row][column]}\n{share}"
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(size), names)
    axes.set_yticks(range(size), names)
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
    _losses(left, epochs)
    _balanced_accuracy(right, epochs)
    return figure


def _losses(axes: Axes, epochs: Sequence[EpochRow]) -> None:
    _by_epoch(axes, epochs, [e.loss for e in epochs], ("training loss", MUTED, "--"))
    _by_epoch(axes, epochs, [e.validation_nll for e in epochs], ("validation NLL", BLUE, "-"))


def _balanced_accuracy(axes: Axes, epochs: Sequence[EpochRow]) -> None:
    values = [e.validation_balanced_accuracy for e in epochs]
    _by_epoch(axes, epochs, values, ("validation balanced accuracy", BLUE, "-"))
    axes.set_ylim(0, 1.02)


def _by_epoch(
    axes: Axes, epochs: Sequence[EpochRow], values: list[float | None], look: tuple[str, str, str]
) -> None:
    label, colour, style = look
    y = [np.nan if v is None else v for v in values]
    marker = "o" if len(epochs) == 1 else ""  # of one epoch there is no line
    x = [e.epoch + 1 for e in epochs]
    axes.plot(x, y, linestyle=style, marker=marker, color=colour, linewidth=1.6, label=label)
    quiet(axes)
    axes.set_xlabel("epoch", fontsize=9)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def posterior_figure(points: Sequence[PosteriorPoint], class_names: Sequence[str]) -> Figure:
    """Draw stated against true probability, one panel a class."""
    figure = new_figure(2.3 * len(class_names) + 0.3, 2.6)
    for axes, name in zip(figure.subplots(1, len(class_names), squeeze=False)[0], class_names, strict=True):
        _stated_and_true(axes, [p for p in points if p.name == name])
        axes.set_title(textwrap.fill(name, 24), fontsize=9, color=INK)
    return figure


def _stated_and_true(axes: Axes, points: Sequence[PosteriorPoint]) -> None:
    share_axes(axes)
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2)
    marks: dict[str, Any] = {"color": BLUE, "markersize": 4, "alpha": 0.55, "mew": 0}
    axes.plot([p.true for p in points], [p.stated for p in points], "o", **marks)
    axes.set_xlabel("true probability", fontsize=8)
    axes.set_ylabel("stated", fontsize=8)


def study_pictures(report: StudyReport, names: Collection[str]) -> dict[str, tuple[Picture, ...]]:
    """Return the parts in which a page shows the figures of these names; the confusion is a table there."""
    drawn = {
        "reliability": _reliability_pictures,
        "risk_coverage": _risk_picture,
        "training": _training_pictures,
        "posterior": _posterior_pictures,
    }
    return {name: tuple(drawn[name](report)) for name in names if name in drawn}


def _risk_picture(report: StudyReport) -> Iterator[Picture]:
    yield _picture(_WORDS["risk_coverage"][1], risk_figure(report.risk, report.operating_point))


def _training_pictures(report: StudyReport) -> Iterator[Picture]:
    for what, draw in (
        ("Training loss and validation NLL", _losses),
        ("Validation balanced accuracy", _balanced_accuracy),
    ):
        figure = new_figure(3.6, 2.6)
        draw(figure.subplots(), report.training)
        yield _picture(f"{what} by epoch", figure)


def _reliability_pictures(report: StudyReport) -> Iterator[Picture]:
    for name in dict.fromkeys(panel.name for panel in report.reliability):
        mine = [panel for panel in report.reliability if panel.name == name]
        alt = f"Reliability of {_top(name)}, before and after calibration"
        yield _picture(alt, reliability_figure(mine, titled=False), _top(name))


def _posterior_pictures(report: StudyReport) -> Iterator[Picture]:
    for name in report.class_names:
        figure = new_figure(2.3, 2.3)
        _stated_and_true(figure.subplots(), [p for p in report.posterior if p.name == name])
        yield _picture(f"Stated against true probability of {name}", figure, name)


def _picture(alt: str, drawn: Figure, title: str = "") -> Picture:
    return Picture(alt, data_uri(svg(drawn), "image/svg+xml"), title)
