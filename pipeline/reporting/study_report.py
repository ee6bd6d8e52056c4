"""The report of a study: where the scans went, what was measured, and how to read each figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.files import write_json, written_whole
from pipeline.reporting.page import data_uri, render
from pipeline.reporting.pdf import write_page
from pipeline.reporting.study_build import StudySources, build_study_report
from pipeline.reporting.study_figures import StudyFigure, study_figures
from pipeline.reporting.study_numbers import StudyReport
from pipeline.reporting.words import METRIC_TITLES, interval_text

__all__ = ["StudyReport", "StudySources", "build_study_report", "write_study_report"]

CHECKLIST = (
    ("Title, objectives", "Title and summary"),
    ("Source of data, eligibility", "Where the scans went"),
    ("Outcome and its timing", "Cohort: diagnosis of the visit nearest the scan"),
    ("Predictors", "SUVR volume only; no clinical score, no age, no sex"),
    ("Sample size, missing data", "Where the scans went; Cohort"),
    ("Model building, tuning", "Training; Choice of the calibrator"),
    ("Performance measures with intervals", "What was measured on the test scans"),
    ("Calibration", "Reliability; Choice of the calibrator"),
    ("Fairness: performance in subgroups", "Slices of the test scans"),
    ("Model output, thresholds", "Risk and coverage; Prediction sets"),
    ("Limitations", "What this report can't tell"),
    ("Protocol, code and data availability", "Versions"),
)


def write_study_report(report: StudyReport, folder: Path, *, pdf: bool = True) -> dict[str, Path]:
    """Write the report as HTML, JSON and, where this machine can, PDF; and ``figures/`` as SVG, PNG and CSV.

    Parameters
    ----------
    report : StudyReport
    folder : Path
        Made where it is missing.
    pdf : bool
        A machine without pango writes no PDF; `pipeline.reporting.pdf.why_no_pdf` says why.

    Returns
    -------
    dict of str to Path
        ``"html"``, ``"json"``, ``"figures"`` (a folder), and ``"pdf"`` where it was written.
    """
    drawn = study_figures(report)
    for figure in drawn:
        _write_figure(figure, folder / "figures")
    written = write_page(study_html(report, drawn), folder / "study", pdf=pdf)
    written["json"] = write_json(folder / "study.json", report.model_dump(mode="json"))
    return written | {"figures": folder / "figures"}


def _write_figure(figure: StudyFigure, folder: Path) -> None:
    for suffix, content in (("svg", figure.svg), ("png", figure.png)):
        with written_whole(folder / f"{figure.name}.{suffix}") as beside:
            beside.write_bytes(content)
    with written_whole(folder / f"{figure.name}.csv") as beside:
        figure.numbers.to_csv(beside, index=False)


def study_html(report: StudyReport, drawn: Sequence[StudyFigure]) -> str:
    """Return the report as one HTML page."""
    return render(
        "study.html.j2",
        report=report,
        who=report.title,
        figures={f.name: f for f in drawn},
        pictures={f.name: data_uri(f.svg, "image/svg+xml") for f in drawn},
        columns={k: v for k, v in METRIC_TITLES.items() if any(k in r.metrics for r in report.metrics)},
        cell=interval_text,
        checklist=CHECKLIST,
    )
