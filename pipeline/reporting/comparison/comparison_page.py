"""The report of a comparison of losses: a sentence for each loss, figures, and tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline.evaluation.comparison.stages import AT_SHARES
from pipeline.evaluation.metrics import ABOVE_NOISE, METRICS, TABLE
from pipeline.evaluation.metrics.catalogue import ABOVE
from pipeline.files import written_whole
from pipeline.reporting.comparison.comparison_figures import comparison_figures, pictures_of
from pipeline.reporting.comparison.comparison_numbers import ComparisonReport
from pipeline.reporting.page.charts import ReportFigure
from pipeline.reporting.page.html import Page, data_uri
from pipeline.reporting.page.words import change_text, interval_text, metric_heading, noise_text, size_text

FURTHER = (
    "brier_score",
    "expected_calibration_error",
    "maximum_calibration_error",
    "ks_calibration_error",
    "overconfidence_error",
    "accuracy",
    "macro_f1",
    "risk_coverage_area",
)
"""What the last table of a stage shows, in order."""
COLUMNS = (
    *(name for name in TABLE if name not in FURTHER),
    "excess_nll",
    "set_coverage",
    "set_size",
)
"""What its first table shows."""
TESTED_COLUMNS = tuple(
    shown
    for name in (*COLUMNS, *FURTHER)
    for shown in (name, f"{name}{ABOVE}")
    if shown in {name, *ABOVE_NOISE}
)
"""What the table of differences can show: what lies above noise stands in the place of its error."""


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
                    | ({"noise": loss.noise[metric]} if metric in loss.noise else {})
                    | {f"difference_{k}": v for k, v in (d.model_dump() if d else {}).items()}
                )
    return pd.DataFrame(rows)


def write_comparison_report(report: ComparisonReport, folder: Path, *, pdf: bool = True) -> dict[str, Path]:
    """Write ``comparison.html``, ``.csv``, ``.json`` and, where this machine can, ``.pdf``; and ``figures/``.

    Returns
    -------
    dict of str to Path
        ``"html"``, ``"csv"``, ``"json"``, ``"figures"`` (a folder of SVG, PNG and CSV), and ``"pdf"`` where
        it was written.
    """
    drawn = comparison_figures(report)
    for figure in drawn.values():
        figure.write(folder / "figures")
    with written_whole(folder / "comparison.csv") as beside:
        comparison_table(report).to_csv(beside, index=False)
    written = comparison_page(report, drawn).write(folder, "comparison", pdf=pdf)
    return written | {"csv": folder / "comparison.csv", "figures": folder / "figures"}


def comparison_page(report: ComparisonReport, figures: Mapping[str, ReportFigure]) -> Page:
    """Return the page of a comparison with its figures."""
    seen = {m for stage in report.stages for loss in stage.losses for m in loss.metrics}
    tested = {m for stage in report.stages for loss in stage.losses for m in loss.difference}
    drawn = {
        "last": report.stages[-1],
        "columns": _headings(COLUMNS, seen),
        "further": _headings(FURTHER, seen),
        "tested": _headings(TESTED_COLUMNS, tested),
        "at_shares": _headings(AT_SHARES, METRICS),
        "figures": figures,
        "forest": data_uri(figures["forest"].svg, "image/svg+xml") if "forest" in figures else "",
        "pictures": pictures_of(report, figures),
        "cell": interval_text,
        "change": change_text,
        "size": size_text,
        "powered": any("80 % power" in loss.sentence for loss in report.stages[-1].losses),
        "noisy": any(loss.noise for stage in report.stages for loss in stage.losses),
        "floor": noise_text,
        "level": f"{100 * report.level:g} %",
        "coverage": f"{100 * report.set_coverage:g} %",
        "test": _test_in_words(report),
    }
    return Page("comparison.html.j2", report, report.title, drawn)


def _headings(names: Sequence[str], present: Collection[str]) -> dict[str, str]:
    return {name: metric_heading(name) for name in names if name in present}


def _test_in_words(report: ComparisonReport) -> str:
    losses = [loss for stage in report.stages for loss in stage.losses]
    if any(loss.folds > 1 for loss in losses):
        return "corrected resampled t-test over folds (Nadeau and Bengio)"
    if any(loss.seeds > 1 for loss in losses):
        return "t-test with the variance over subjects and that over seeds"
    return "t-test with the variance over subjects, which shows nothing of the randomness of training"
