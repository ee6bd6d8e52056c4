"""Train: a cohort becomes a calibrated, tested, registered classifier."""

from __future__ import annotations

from dataclasses import replace

from prefect import flow

from flows.learning.build_classifier import (
    TrainingResult,
    build_classifier,
    fit_network,
    learn,
)
from flows.learning.cohorts import split_cohort
from flows.learning.study_files import StudyFiles
from flows.reports.study_reports import report_study
from flows.retraining.promotion import Decision, move, retraining_lock, settle
from flows.running.console import say, show_table
from flows.running.doors import name_run, opened, report_crash
from flows.running.task_runs import in_flow_run, log_shared, run_in_mlflow, show_rows, show_text
from pipeline import tracking
from pipeline.config import Study, check_purpose
from pipeline.evaluation.classifier.results import Results
from pipeline.evaluation.metrics import METRICS, TABLE
from pipeline.files import whoami
from pipeline.learning.learning_checks import check_learning


@flow(name="train", flow_run_name=name_run, validate_parameters=False, on_crashed=[report_crash])
def train(study: str) -> TrainingResult:
    """Split, train, calibrate, test, register and report the classifier of a study.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """
    with opened(study) as resolved:
        trained = train_study(resolved)
        return replace(trained, pages=report_study(resolved, trained))


def train_study(study: Study) -> TrainingResult:
    """Run split, training, calibration, test and tracking.

    Every step leaves files and is skipped where the same inputs and settings have left them already. The
    first classifier of a store becomes its champion; a later one is a challenger for the gate.

    Raises
    ------
    CohortError
        If the cohort cannot be learned from.
    TrainingError
        If the loss becomes not finite.
    """
    check_purpose(study, "train")
    check_learning(study)
    files, scans = StudyFiles(study.output), split_cohort(study)
    say(f"Split by subject: {scans.sizes()}.")
    log_shared(f"Split by subject: {scans.sizes()}.")
    trained = build_classifier(study, scans, files, lambda: fit_network(study, scans, files))
    registered = f"Registered {study.tracking.model_name} version {trained.version}; "
    registered += _champion_or_challenger(study, trained)
    say(registered)
    log_shared(registered)
    _show_in_prefect(study, trained)
    return trained


def learn_study(study: Study) -> None:
    """Train and calibrate as `train_study` does, which then skips these steps: no flow, no tracking.

    For a worker process, while its parent does other things.
    """
    files, scans = StudyFiles(study.output), split_cohort(study)
    learn(study, scans, files, lambda: fit_network(study, scans, files))


def _champion_or_challenger(study: Study, trained: TrainingResult) -> str:
    """Make the first classifier of a store its champion, a later one a challenger; return which it is."""
    store = tracking.store_of(study.tracking, study.output)
    with retraining_lock(study.output, wait=True):
        settle(store, study.output)
        champion = tracking.champion_version(store)
        if champion is None:
            why = ("This is the first classifier of the store, so it did not have to pass the gate.",)
            facts = {"run_id": trained.run_id}
            move(store, study.output, Decision(trained.version, trained.run_id, whoami(), why, facts))
            champion = trained.version
        elif champion != trained.version:
            tracking.challenge(store, trained.version)
    if champion == trained.version:
        return "it is the champion."
    return f"version {champion} is still the champion, see `taucal promote`."


def _show_in_prefect(study: Study, trained: TrainingResult) -> None:
    if not in_flow_run():
        return
    header, rows = _table(trained.results)
    where = tracking.store_of(study.tracking, study.output).experiment_id()
    show_rows("results", [dict(zip(header, row, strict=True)) for row in rows], _title(trained.results))
    show_text(
        "mlflow-run", run_in_mlflow(where, trained.run_id, trained.version), "Where the run and its files are"
    )


def show_results(results: Results) -> None:
    """Print the table of results on the test scans."""
    show_table(_title(results), *_table(results))


def _title(results: Results) -> str:
    level = f"{100 * results.level:g} %"
    return f"Test: {results.scans} scans of {results.subjects} subjects, {level} intervals over subjects"


def _table(results: Results) -> tuple[list[str], list[list[str]]]:
    shown = [METRICS[name] for name in TABLE if name in METRICS]
    rows = [
        [row.name, *(m.text(row.metrics[m.name]) if m.name in row.metrics else "-" for m in shown)]
        for row in results.rows
    ]
    return ["probabilities from", *(metric.title for metric in shown)], rows
