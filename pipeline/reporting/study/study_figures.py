"""Each figure of a study with the table of its numbers and how it is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.reporting.page.charts import (
    AMBER,
    BLUE,
    INK,
    MUTED,
    PALE,
    ChartStyle,
    ReportFigure,
    draw_rated,
    new_figure,
    quiet,
    share_axes,
)
from pipeline.reporting.page.facts import Facts
from pipeline.reporting.study.study_numbers import (
    EpochRow,
    PosteriorPoint,
    ReliabilityPanel,
    RiskPoint,
    StudyReport,
)

_WORDS = {
    "reliability": (
        "Reliability",
        "Reliability diagrams before and after calibration, for the top label and for each class",
        "Each dot is a group of test scans with similar stated probability. Horizontal: the stated "
        "probability. Vertical: how often it was right. On the diagonal the two agree; below it the "
        "classifier is overconfident. The number is the count of scans, the bar the 95 % interval of the "
        "observed share. With few scans, a dot off the diagonal proves nothing.",
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
        "Rows: the diagnosis. Columns: the most probable class. Counts, and their share of the row. "
        "Scans that would be referred to an expert are included.",
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
            axes.set_ylabel(f"{panel.stage}\nobserved", fontsize=8)
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
        named = f"confidence ≥ {100 * (operating_point or 0):.0f} %"
        axes.plot(last.coverage, last.risk, "o", mfc="white", mec=AMBER, mew=2, markersize=8, label=named)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, max(0.05, 1.15 * max((p.risk for p in points), default=0)))
    if answered:  # where the curve leaves room: beside the ring it would be struck through
        axes.legend(loc="best", frameon=False, fontsize=8, labelcolor=AMBER, numpoints=1)
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
