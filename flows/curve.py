"""Curve: the study's loss trained on growing shares of the subjects; a finished cell is not trained again."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.compare import show_splits, train_cells
from flows.comparison.cells import plan_sizes, results_by_size
from flows.comparison.comparison_data import load_material
from flows.comparison.pages import ComparisonLog
from flows.running.console import say, show_table, warn
from flows.running.doors import name_run, opened, report_crash
from flows.running.task_runs import in_flow_run, log_shared, run_in_mlflow, show_rows, show_text
from pipeline import tracking
from pipeline.config import Study, check_purpose
from pipeline.evaluation.comparison.sample_size import sample_size_curve
from pipeline.files import exclusive
from pipeline.learning.learning_checks import check_comparison
from pipeline.reporting.comparison.curve_page import CurveReport, curve_report, curve_rows, write_curve

FOLDER = "curve"


@flow(name="curve", flow_run_name=name_run, validate_parameters=False, on_crashed=[report_crash])
def curve(study: str) -> dict[str, Any]:
    """Train on growing shares of the subjects, and report what more scans would bring.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """
    with opened(study) as resolved:
        return learning_curve(resolved)


def learning_curve(study: Study) -> dict[str, Any]:
    """Run the learning curve of a study; return the paths of its page and table.

    The cells are those of a comparison with one loss, and the same test scans are predicted at every size. A
    cell that fails is reported and the others continue; the same command again runs only what is missing.

    Raises
    ------
    ConfigError
        If the shares do not ascend to 1, or the cohort cannot be split into folds.
    TrainingError
        If no seed and fold was finished at every size.
    """
    loss = study.training.loss
    alone = {"losses": (loss,), "baseline": loss.title, "batch_sizes": (), "tune": False}
    study = study.model_copy(update={"compare": study.compare.model_copy(update=alone)})
    check_purpose(study, "curve")
    check_comparison(study, "training.loss")
    with exclusive(study.output / ".compare.lock", "cells of a comparison", wait=False):
        material = load_material(study)
        show_splits(material)
        cells = plan_sizes(study, material)
        log = ComparisonLog(study, material, "learning curve")
        failed = train_cells(study, material, cells, log)
        found = sample_size_curve(study, results_by_size(material, cells, failed))
        report = curve_report(
            study, found, failed, run_id=log.run_id, synthetic=material.cohort.posterior is not None
        )
        pages = {n: str(path) for n, path in write_curve(report, study.output / FOLDER).items()}
        tags = {"curve.shares": ", ".join(point.title for point in found.points)}
        log.conclude(found.flat(), tags, study.output / FOLDER)
        _show(report)
        _show_in_prefect(study, report)
        say(f"MLflow run {log.run_id}.")
        sentences = [one.sentence for one in found.projections]
        reported = [f"{title}: {reason}" for title, reason in failed.items()]
        return {**pages, "run_id": log.run_id, "twice": sentences, "failed": reported}


def _show(report: CurveReport) -> None:
    show_table(report.lead, *curve_rows(report))
    for one in report.projections:
        say(f"  {one.sentence}")
    for sentence in report.cautions:
        warn(sentence)


def _show_in_prefect(study: Study, report: CurveReport) -> None:
    if not in_flow_run():
        return
    header, rows = curve_rows(report)
    shown = [dict(zip(header, (" ".join(cell.split()) for cell in row), strict=True)) for row in rows]
    show_rows("results", shown, report.lead)
    for one in report.projections:
        log_shared(one.sentence)
    where = tracking.store_of(study.tracking, study.output).experiment_id()
    page = run_in_mlflow(where, report.run_id, report="curve.html")
    show_text("mlflow-run", page, "Where the learning curve and its files are")
