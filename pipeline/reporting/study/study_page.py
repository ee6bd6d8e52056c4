"""The report of a study: where the scans went, what was measured, and how to read each figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.evaluation.metrics import TABLE, metric_named
from pipeline.reporting.page.charts import ReportFigure
from pipeline.reporting.page.html import Page, data_uri
from pipeline.reporting.page.words import interval_text
from pipeline.reporting.study.study_figures import study_figures
from pipeline.reporting.study.study_numbers import StudyReport

CHECKLIST = (
    ("1 Title", "Title"),
    ("2 Abstract", "In a sentence"),
    ("3 Background", "Not here: README"),
    ("4 Objectives", "In a sentence; README"),
    ("5 Data", "Where the scans went; Cohort"),
    ("6 Participants", "Where the scans went, with every rule of refusal; Cohort"),
    ("7 Data preparation", "Where the scans went; README, a scan's way"),
    ("8 Outcome", "Cohort: diagnosis of the visit nearest the scan"),
    ("9 Predictors", "SUVR volume only; no clinical score, no age, no sex"),
    ("10 Sample size", "Cohort; small slices and intervals say where it is too small"),
    ("11 Missing data", "Where the scans went: without diagnosis; refused"),
    ("12 Analytical methods", "Training; Choice of the calibrator; What was measured"),
    ("13 Class imbalance", "Cohort; Confusion; Prediction sets: by class"),
    ("14 Fairness", "Slices of the test scans"),
    ("15 Model output", "Calibrated probabilities; Risk and coverage; Prediction sets"),
    ("16 Training versus evaluation", "Cohort: parts that share no subject"),
    ("17 Ethical approval", "Not here: with the source of the data"),
    ("18 Open science", "Versions; configuration logged with the run; code in the repository"),
    ("19 Patient and public involvement", "None"),
    ("20 Participants in results", "Where the scans went; Cohort"),
    ("21 Model development in results", "Training; Choice of the calibrator"),
    ("22 Model specification", "Versions; the classifier logged with the run"),
    ("23 Model performance", "What was measured, with intervals; Reliability; Slices"),
    ("24 Model updating", "Not here: retraining makes a report of its own"),
    ("25 Interpretation", "In a sentence; How to read each figure"),
    ("26 Limitations", "What this report can't tell"),
    ("27 Usability", "Risk and coverage; each scan's report: intended use, quality control, refer"),
)
"""The 27 items of TRIPOD+AI (Collins et al., BMJ 2024), and where each is answered."""


def write_study_report(report: StudyReport, folder: Path, *, pdf: bool = True) -> dict[str, Path]:
    """Write the report as HTML, JSON and, where this machine can, PDF; and ``figures/`` as SVG, PNG and CSV.

    Parameters
    ----------
    report : StudyReport
    folder : Path
        Made where it is missing.
    pdf : bool
        A machine without pango writes no PDF; `pipeline.reporting.page.pdf.why_no_pdf` says why.

    Returns
    -------
    dict of str to Path
        ``"html"``, ``"json"``, ``"figures"`` (a folder), and ``"pdf"`` where it was written.
    """
    drawn = study_figures(report)
    for figure in drawn:
        figure.write(folder / "figures")
    return study_page(report, drawn).write(folder, "study", pdf=pdf) | {"figures": folder / "figures"}


def study_page(report: StudyReport, figures: Sequence[ReportFigure]) -> Page:
    """Return the page of a study with its figures."""
    drawn = {
        "figures": {f.name: f for f in figures},
        "pictures": {f.name: data_uri(f.svg, "image/svg+xml") for f in figures},
        "columns": {k: metric_named(k).heading for k in TABLE if any(k in r.metrics for r in report.metrics)},
        "cell": interval_text,
        "checklist": CHECKLIST,
    }
    return Page("study.html.j2", report, report.title, drawn)
