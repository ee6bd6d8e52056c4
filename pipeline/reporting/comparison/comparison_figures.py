"""Each figure of a comparison with the table of its numbers and how it is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.evaluation.metrics import metric_named
from pipeline.reporting.comparison import loss_figures as figures_of_losses
from pipeline.reporting.comparison.comparison_numbers import ComparisonReport, LossReliability, LossRisk
from pipeline.reporting.page.charts import Picture, ReportFigure, svg
from pipeline.reporting.page.facts import Measured
from pipeline.reporting.page.html import data_uri

DRAWN = (
    "negative_log_likelihood",
    "classwise_ece_above_noise",
    "balanced_accuracy",
    "macro_auroc",
    "posterior_error",
)
"""Metrics that the first figure shows, in the order of tables and sentences."""


def comparison_figures(report: ComparisonReport) -> dict[str, ReportFigure]:
    """Draw every figure that the report has numbers for."""
    found = [_forest(report)]
    if report.reliability:
        words = (
            "Reliability of each loss",
            "Reliability diagrams of every loss before and after calibration, over counts of scans",
            _how_to_read_reliability(report),
        )
        drawn = figures_of_losses.reliability_of_losses(_few_stages(report))
        found.append(ReportFigure.of("reliability", words, drawn, _reliability_table(report)))
    if report.risk:
        words = (
            "Risk and coverage of each loss",
            "Share of wrong answers against share of scans answered, one curve for each loss",
            _how_to_read_risk(report),
        )
        drawn = figures_of_losses.risk_of_losses(_ends(report), report.baseline)
        found.append(ReportFigure.of("risk_coverage", words, drawn, _risk_table(report)))
    return {figure.name: figure for figure in found if len(figure.numbers)}


def _forest(report: ComparisonReport) -> ReportFigure:
    last = report.stages[-1]
    drawn = [m for m in DRAWN if any(m in loss.metrics for loss in last.losses)]
    rows = [
        {"loss": loss.name, "calibration": last.name, "metric": m} | loss.metrics[m].model_dump()
        for m in drawn
        for loss in last.losses
        if m in loss.metrics
    ]
    values = {
        m: [(loss.name, _in_unit(loss.metrics[m], m)) for loss in last.losses if m in loss.metrics]
        for m in drawn
    }
    level = f"{100 * report.level:g} %"
    words = (
        "Metrics of each loss",
        f"Metrics of every loss, {last.name}, with {level} intervals",
        f"{str(last.name).capitalize()}. Dot: mean over seeds; bar: {level} interval over "
        f"{report.over}. Bars of two losses may overlap although their paired difference is clear, and the "
        "other way round: the summary above uses the paired differences.",
    )
    units = {m: ", %" if metric_named(m).percent else "" for m in drawn}
    titles = {m: f"{metric_named(m).heading}{units[m]}" for m in drawn}
    figure = figures_of_losses.forest_figure(values, titles)
    return ReportFigure.of("forest", words, figure, pd.DataFrame(rows))


def _in_unit(found: Measured, metric: str) -> Measured:
    """Return a metric as tables write it: in percent where it is."""
    scale = 100 if metric_named(metric).percent else 1
    return Measured(value=scale * found.value, low=scale * found.low, high=scale * found.high)


def _how_to_read_reliability(report: ComparisonReport) -> str:
    level = f"{100 * report.level:g} %"
    ends = " and ".join(dict.fromkeys(str(report.reliability[n].stage) for n in (0, -1)))
    return (
        "Horizontal: the stated probability of the most probable class, in ten bins. Vertical: how often "
        "that class was the diagnosis. On the diagonal the two agree; below it, networks trained with this "
        "loss are overconfident. All seeds and folds are pooled, and each test scan counts once: a scan that "
        "several seeds predicted is shared among its bins in the counts below. More seeds are no more "
        f"patients: a bar, drawn for {ends}, is the {level} Wilson interval for the number of independent "
        "subjects in the bin (Kish's effective sample size), whatever the number of seeds and of scans per "
        "subject. It does not show how much another training would move the dot. With few scans, a dot off "
        "the diagonal proves nothing."
    )


def _how_to_read_risk(report: ComparisonReport) -> str:
    named = figures_of_losses.named_losses(report.risk, report.baseline)
    some = len(named) < len({curve.name for curve in report.risk})
    which = (
        f" {report.baseline} and the losses at both ends are named; the others are pale, and their areas "
        "are in the tables."
        if some
        else ""
    )
    return (
        "If only the most confident scans were answered (horizontal: their share), this share of the answers "
        "would be wrong. Each seed ranks its own answers, all folds together; the curve is the mean over "
        "seeds. The legend gives the area under the curve (AURC; lower is better) and is sorted by it. The "
        "intervals of the areas are in the tables: the order of curves that lie close together is not a "
        f"test. The left end is based on few scans.{which}"
    )


def _few_stages(report: ComparisonReport) -> tuple[LossReliability, ...]:
    """Every stage where each can be drawn in its own way, else the first and the last."""
    stages = list(dict.fromkeys(panel.stage for panel in report.reliability))
    shown = stages if len(stages) <= len(figures_of_losses.STAGE_LOOKS) else (stages[0], stages[-1])
    return tuple(panel for panel in report.reliability if panel.stage in shown)


def _ends(report: ComparisonReport) -> tuple[LossRisk, ...]:
    """Before and after; those between them are in the table of the numbers."""
    shown = {report.risk[0].stage, report.risk[-1].stage}
    return tuple(curve for curve in report.risk if curve.stage in shown)


def _reliability_table(report: ComparisonReport) -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {"loss": panel.name, "calibration": panel.stage}
        | {"bin_low": panel.edges[p.bin], "bin_high": panel.edges[p.bin + 1]}
        | p.model_dump(exclude={"bin"})
        for panel in report.reliability
        for p in panel.points
    ]
    return pd.DataFrame(rows)


def _risk_table(report: ComparisonReport) -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {"loss": curve.name, "calibration": curve.stage, "coverage": share, "risk": risk}
        for curve in report.risk
        for share, risk in zip(curve.coverage, curve.risk, strict=True)
    ]
    return pd.DataFrame(rows)


def reliability_pictures(report: ComparisonReport) -> tuple[Picture, ...]:
    """Return one diagram a loss, all to one scale, after the legend that they share."""
    panels = _few_stages(report)
    if not panels:
        return ()
    stages = list(dict.fromkeys(str(panel.stage) for panel in panels))
    most = figures_of_losses.most_scans(panels)
    listed = ", ".join(stages)
    found = [Picture(f"How they are drawn: {listed}", _address(figures_of_losses.legend_of_stages(stages)))]
    for name in dict.fromkeys(panel.name for panel in panels):
        mine = [panel for panel in panels if panel.name == name]
        drawn = figures_of_losses.reliability_of_losses(mine, most=most)
        found.append(Picture(f"Reliability of {name}: {listed}", _address(drawn), name))
    return tuple(found)


def risk_pictures(report: ComparisonReport) -> tuple[Picture, ...]:
    """Return one chart before calibration and one after, to one scale."""
    curves = _ends(report) if report.risk else ()
    top = figures_of_losses.highest_risk(curves)
    named = figures_of_losses.named_losses(curves, report.baseline) if curves else ()
    return tuple(
        Picture(f"Wrong answers against scans answered, {stage}", _address(drawn))
        for stage in dict.fromkeys(curve.stage for curve in curves)
        for drawn in [
            figures_of_losses.risk_of_losses(
                [c for c in curves if c.stage == stage], report.baseline, top=top, named=named
            )
        ]
    )


def _address(drawn: Figure) -> str:
    return data_uri(svg(drawn), "image/svg+xml")


def pictures_of(report: ComparisonReport, drawn: Iterable[str]) -> dict[str, tuple[Picture, ...]]:
    """Return what a page shows of the figures of these names."""
    parts = {"reliability": reliability_pictures, "risk_coverage": risk_pictures}
    return {name: parts[name](report) for name in drawn if name in parts}
