"""Each figure of a study with the table of its numbers and how it is read."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from pipeline.reporting.page import charts as figures
from pipeline.reporting.page.html import Facts
from pipeline.reporting.page.report_figure import ReportFigure
from pipeline.reporting.study.study_numbers import StudyReport

_WORDS = {
    "reliability": (
        "Reliability",
        "Reliability diagrams before and after calibration, for the top label and for each class",
        "Each dot is a group of test scans rated alike: across, what was stated; up, how often it came "
        "true. On the diagonal, stated is what happens; below it, the classifier is too sure. The number "
        "is the count of scans, the bar the 95 % interval of the share. With few scans, a dot off the "
        "diagonal proves nothing.",
    ),
    "risk_coverage": (
        "Risk and coverage",
        "Share of wrong answers against share of scans answered",
        "Were only the most confident scans answered, up to the share across, this share of the answers "
        "would be wrong. A useful confidence makes the curve rise to the right. The ring is the operating "
        "point.",
    ),
    "confusion": (
        "Confusion",
        "Test scans by diagnosis and by most probable class",
        "Rows: the diagnosis. Columns: the most probable class. Counts, and their share of the row. "
        "Abstention is not applied here.",
    ),
    "training": (
        "Training",
        "Training loss and validation metrics over epochs",
        "Loss on training scans and negative log-likelihood on validation scans by epoch. A validation "
        "curve that rises while the loss falls is overfitting; calibration mends its confidence, not its "
        "mistakes. Losses other than cross-entropy are on another scale than the NLL. Of several networks, "
        "the mean.",
    ),
    "posterior": (
        "Stated against true probability",
        "Calibrated probability of every test scan against the phantom's true posterior",
        "Only a phantom knows the true probability of each scan. On the diagonal the stated probability is "
        "the true one. This is stricter than reliability, which averages over scans rated alike.",
    ),
}


def study_figures(report: StudyReport) -> tuple[ReportFigure, ...]:
    """Draw every figure that the report has numbers for."""
    names = [str(n) for n in report.class_names]
    confusion = pd.DataFrame(report.confusion, columns=names).assign(diagnosis=names)
    found = [
        _figure("reliability", figures.reliability_figure(report.reliability), _points(report)),
        _figure(
            "risk_coverage", figures.risk_figure(report.risk, report.operating_point), _table(report.risk)
        ),
        _figure("confusion", figures.confusion_figure(report.confusion, names), confusion),
    ]
    if report.training:
        found.append(_figure("training", figures.training_figure(report.training), _table(report.training)))
    if report.posterior:
        drawn = figures.posterior_figure(report.posterior, names)
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
