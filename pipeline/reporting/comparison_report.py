"""The report of a comparison of losses: one table, one sentence a loss, no bold number without a test."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pydantic import Field

from pipeline.files import write_json, written_whole
from pipeline.reporting import figures
from pipeline.reporting.page import Facts, Named, Text, data_uri, render
from pipeline.reporting.pdf import write_page
from pipeline.reporting.study_numbers import Measured
from pipeline.reporting.words import METRIC_TITLES, interval_text

DRAWN = (
    "balanced_accuracy",
    "macro_auroc",
    "negative_log_likelihood",
    "classwise_ece",
    "posterior_error",
)
"""Metrics that the figure shows."""
COLUMNS = METRIC_TITLES | {
    "excess_nll": "NLL above the oracle ↓",
    "set_coverage": "Sets that hold the truth",
    "set_size": "Classes in a set ↓",
}
"""What tables show, in order."""


class Difference(Facts):
    """A loss minus the baseline, paired by subject; `p` is adjusted over the losses."""

    value: float
    low: float
    high: float
    p: float
    verdict: Text


class LossRow(Facts):
    """One loss at one stage: metrics, differences to the baseline, and what they mean in a sentence.

    `recall` maps a class to the share of its test scans that were found, `coverage` to the share whose
    conformal set holds it.
    """

    name: Text
    seeds: int
    folds: int = 1
    metrics: dict[str, Measured]
    difference: dict[str, Difference] = Field(default_factory=dict)
    recall: dict[str, Measured] = Field(default_factory=dict)
    coverage: dict[str, Measured] = Field(default_factory=dict)
    sentence: str


class Stage(Facts):
    """All losses before a calibrator, or after one; `note` says what was done to the logits."""

    name: Text
    note: Text = ""
    losses: tuple[LossRow, ...]


class ComparisonReport(Facts):
    """All the report of a comparison says. Dates are passed in: the same results give the same bytes.

    `published` holds figures from the literature beside ours, a sentence each.
    """

    format_version: int = 2
    title: Text
    report_date: Text
    run_id: Text
    synthetic: bool = False
    class_names: tuple[Text, ...]
    baseline: Text
    test_scans: int
    test_subjects: int
    level: float = 0.95
    set_coverage: float = 0.9
    stages: tuple[Stage, ...]
    published: tuple[Text, ...] = ()
    failed: tuple[Named, ...] = ()
    versions: tuple[Named, ...] = ()


def comparison_table(report: ComparisonReport) -> pd.DataFrame:
    """Return one row a loss, stage and metric: value, low, high, and the difference to the baseline.

    Recall and coverage of a class are metrics of their own, ``recall: CLASS``.
    """
    rows = []
    for stage in report.stages:
        for loss in stage.losses:
            classes = {f"recall: {name}": m for name, m in loss.recall.items()}
            classes |= {f"set_coverage: {name}": m for name, m in loss.coverage.items()}
            for metric, m in {**loss.metrics, **classes}.items():
                d = loss.difference.get(metric)
                rows.append(
                    {"loss": loss.name, "seeds": loss.seeds, "folds": loss.folds}
                    | {"calibration": stage.name, "metric": metric}
                    | m.model_dump()
                    | {f"difference_{k}": v for k, v in (d.model_dump() if d else {}).items()}
                )
    return pd.DataFrame(rows)


def write_comparison_report(report: ComparisonReport, folder: Path, *, pdf: bool = True) -> dict[str, Path]:
    """Write ``comparison.html``, ``.csv``, ``.json`` and, where this machine can, ``.pdf``.

    Returns
    -------
    dict of str to Path
        ``"html"``, ``"csv"``, ``"json"``, and ``"pdf"`` where it was written.
    """
    written = write_page(comparison_html(report), folder / "comparison", pdf=pdf)
    written["json"] = write_json(folder / "comparison.json", report.model_dump(mode="json"))
    with written_whole(folder / "comparison.csv") as beside:
        comparison_table(report).to_csv(beside, index=False)
    return written | {"csv": folder / "comparison.csv"}


def comparison_html(report: ComparisonReport) -> str:
    """Return the report as one HTML page."""
    last = report.stages[-1]
    seen = {m for stage in report.stages for loss in stage.losses for m in loss.metrics}
    columns = {name: title for name, title in COLUMNS.items() if name in seen}
    drawn = [m for m in DRAWN if m in columns]
    forest = figures.forest_figure(
        {m: [(loss.name, loss.metrics[m]) for loss in last.losses if m in loss.metrics] for m in drawn},
        {m: COLUMNS[m] for m in drawn},
    )
    return render(
        "comparison.html.j2",
        report=report,
        who=report.title,
        last=last,
        columns=columns,
        forest=data_uri(figures.svg(forest), "image/svg+xml") if drawn else "",
        cell=interval_text,
        level=f"{100 * report.level:g} %",
        coverage=f"{100 * report.set_coverage:g} %",
    )
