"""The report of a comparison of losses: one table, one sentence a loss, no bold number without a test."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from pipeline.evaluation.metrics import HIGHER_IS_BETTER
from pipeline.files import write_json, written_whole
from pipeline.reporting import figures
from pipeline.reporting.page import Facts, Named, Text, data_uri, render, signed
from pipeline.reporting.pdf import write_page
from pipeline.reporting.study_numbers import Measured
from pipeline.reporting.words import METRIC_TITLES, interval_text

Told = Literal["better", "worse", "not told apart"]
SIGNIFICANCE = 0.05
JUDGED_BY = ("balanced_accuracy", "macro_auroc", "negative_log_likelihood", "classwise_ece")
"""Metrics that the sentences speak of."""


class Difference(Facts):
    """A loss minus the baseline, paired by subject; `p` adjusted over the losses, None where not tested."""

    value: float
    low: float
    high: float
    p: float | None = None

    def told(self, *, higher_is_better: bool) -> Told:
        """Return whether the loss is better, worse, or not told apart from the baseline.

        Examples
        --------
        >>> Difference(value=-0.1, low=-0.2, high=-0.01).told(higher_is_better=False)
        'better'
        >>> Difference(value=-0.1, low=-0.2, high=-0.01, p=0.2).told(higher_is_better=False)
        'not told apart'
        """
        if self.low <= 0 <= self.high or (self.p is not None and self.p >= SIGNIFICANCE):
            return "not told apart"
        return "better" if (self.value > 0) == higher_is_better else "worse"


class LossRow(Facts):
    """One loss over its seeds: metrics before and after calibration, and the differences to the baseline.

    `recall` maps a class to the share of its test scans that were found; `difference` is after calibration.
    """

    name: Text
    seeds: int
    calibrator: Text = ""
    before: dict[str, Measured]
    after: dict[str, Measured]
    difference: dict[str, Difference] = Field(default_factory=dict)
    recall: dict[str, float] = Field(default_factory=dict)


class ComparisonReport(Facts):
    """All the report of a comparison says. Dates are passed in: the same results give the same bytes."""

    format_version: int = 1
    title: Text
    report_date: Text
    run_id: Text
    synthetic: bool = False
    class_names: tuple[Text, ...]
    baseline: Text
    test_scans: int
    test_subjects: int
    losses: tuple[LossRow, ...]
    failed: tuple[Named, ...] = ()
    versions: tuple[Named, ...] = ()


def sentence(row: LossRow, baseline: str) -> str:
    """Return what is known of one loss against the baseline, in one sentence.

    Examples
    --------
    >>> gain = Difference(value=0.03, low=0.01, high=0.05)
    >>> row = LossRow(name="gce", seeds=3, before={}, after={}, difference={"balanced_accuracy": gain})
    >>> sentence(row, "ce")
    'gce is better than ce by balanced accuracy (+0.030, +0.010 to +0.050).'
    """
    if row.name == baseline:
        return f"{row.name} is the baseline."
    parts: dict[Told, list[str]] = {"better": [], "worse": [], "not told apart": []}
    for metric in JUDGED_BY:
        if metric in row.difference:
            d = row.difference[metric]
            told = d.told(higher_is_better=metric in HIGHER_IS_BETTER)
            name = metric.replace("_", " ").replace("ece", "ECE").replace("auroc", "AUROC")
            numbers = f"({signed(d.value, 3)}, {signed(d.low, 3)} to {signed(d.high, 3)})"
            parts[told].append(name if told == "not told apart" else f"{name} {numbers}")
    words = [f"{told} than {baseline} by {_and(parts[told])}" for told in ("better", "worse") if parts[told]]
    if parts["not told apart"]:
        words.append(f"not told apart from {baseline} by {_and(parts['not told apart'])}")
    return f"{row.name} is {'; '.join(words)}." if words else f"{row.name} was not compared with {baseline}."


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def comparison_table(report: ComparisonReport) -> pd.DataFrame:
    """Return one row a loss, stage and metric: value, low, high, and the difference to the baseline."""
    rows = []
    for loss in report.losses:
        for stage, metrics in (("before", loss.before), ("after", loss.after)):
            for metric, m in metrics.items():
                d = loss.difference.get(metric) if stage == "after" else None
                rows.append(
                    {"loss": loss.name, "seeds": loss.seeds, "calibration": stage, "metric": metric}
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
    seen = {m for loss in report.losses for m in loss.after}
    columns = {name: title for name, title in METRIC_TITLES.items() if name in seen}
    judged = [m for m in JUDGED_BY if m in columns]
    forest = figures.forest_figure(
        {m: [(loss.name, loss.after[m]) for loss in report.losses if m in loss.after] for m in judged},
        {m: METRIC_TITLES[m] for m in judged},
    )
    return render(
        "comparison.html.j2",
        report=report,
        who=report.title,
        columns=columns,
        forest=data_uri(figures.svg(forest), "image/svg+xml") if judged else "",
        sentences=[(loss.name, sentence(loss, report.baseline)) for loss in report.losses],
        cell=interval_text,
    )
