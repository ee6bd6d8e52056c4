"""The report of a study: where the scans went, what was measured, and how to read each figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.evaluation.metrics import TABLE
from pipeline.reporting.page.charts import ReportFigure
from pipeline.reporting.page.html import Page
from pipeline.reporting.page.words import change_text, interval_text, metric_heading, noise_text
from pipeline.reporting.study.study_figures import study_figures, study_pictures
from pipeline.reporting.study.study_numbers import SMALL_SLICE, StudyReport

CHECKLIST = (
    ("1 Title", "Title"),
    ("2 Abstract", "Summary"),
    ("3 Background", "Not in this report: README"),
    ("4 Objectives", "Summary; README"),
    ("5 Data", "Flow of scans; Cohort"),
    ("6 Participants", "Flow of scans, with every rule of refusal; Cohort"),
    ("7 Data preparation", "Flow of scans; README, how a scan is processed"),
    ("8 Outcome", "Cohort: diagnosis of the visit nearest the scan"),
    ("9 Predictors", "SUVR volume only; no clinical score, no age, no sex"),
    ("10 Sample size", "Cohort; intervals; subgroups with too few scans"),
    ("11 Missing data", "Flow of scans: without diagnosis; refused"),
    ("12 Analytical methods", "Training; Choice of the calibrator; Metrics on the test scans"),
    ("13 Class imbalance", "Cohort; Confusion; Prediction sets: by class"),
    ("14 Fairness", "Subgroups of the test scans"),
    ("15 Model output", "Calibrated probabilities; Risk and coverage; Prediction sets"),
    ("16 Training versus evaluation", "Cohort: parts that share no subject"),
    ("17 Ethical approval", "Not in this report: with the source of the data"),
    ("18 Open science", "Versions; configuration logged with the run; code in the repository"),
    ("19 Patient and public involvement", "None"),
    ("20 Participants in results", "Flow of scans; Cohort"),
    ("21 Model development in results", "Training; Choice of the calibrator"),
    ("22 Model specification", "Versions; the classifier logged with the run"),
    ("23 Model performance", "Metrics on the test scans, with intervals; Reliability; Subgroups"),
    ("24 Model updating", "Not in this report: each retraining writes its own"),
    ("25 Interpretation", "Summary; How to read each figure"),
    ("26 Limitations", "What this report does not show"),
    ("27 Usability", "Risk and coverage; each scan's report: intended use, quality control, refer"),
)
"""The 27 items of TRIPOD+AI (Collins et al., BMJ 2024), and where each is answered."""


def write_study_report(report: StudyReport, folder: Path, *, pdf: bool = True) -> dict[str, Path]:
    """Write the report as HTML, JSON and, where this machine can, PDF; and ``figures/`` as SVG, PNG and CSV.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    pdf : bool
        Without pango no PDF is written; see `pipeline.reporting.page.pdf.why_no_pdf`.

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
        "calibrated": bool(report.gain) and report.chosen != "identity",
        "figures": {f.name: f for f in figures},
        "pictures": study_pictures(report, [f.name for f in figures]),
        "columns": {k: metric_heading(k) for k in TABLE if any(k in r.metrics for r in report.metrics)},
        "cell": interval_text,
        "floor": noise_text,
        "change": change_text,
        "level": f"{100 * report.level:g} %",
        "small_slice": SMALL_SLICE,
        "column_title": metric_heading,
        "checklist": CHECKLIST,
        "shade": lambda count, row: f"s{round(4 * count / sum(row))}" if sum(row) else "s0",
    }
    return Page("study.html.j2", report, report.title, drawn)
