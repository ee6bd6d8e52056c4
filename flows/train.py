"""Train: a cohort becomes a calibrated, tested, registered classifier."""

from __future__ import annotations

from flows.learning.build_classifier import (
    TrainingResult,
    build_classifier,
    fit_network,
    learn,
)
from flows.learning.cohorts import split_cohort
from flows.learning.study_files import StudyFiles
from flows.retraining.promotion import Decision, move, retraining_lock, settle
from flows.running.console import say, show_table
from flows.running.steps import as_flow
from pipeline import tracking
from pipeline.config import Study, check_purpose
from pipeline.evaluation.classifier.results import Results
from pipeline.evaluation.metrics import METRICS, TABLE
from pipeline.files import whoami


def train_study(study: Study) -> TrainingResult:
    """Run split, training, calibration, test and tracking as a Prefect flow.

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
    return as_flow("train", lambda: _train(study))


def learn_study(study: Study) -> None:
    """Train and calibrate as `train_study` does, which then skips these steps: no flow, no tracking.

    For a worker process, while its parent does other things.
    """
    files, scans = StudyFiles(study.output), split_cohort(study)
    learn(study, scans, files, lambda: fit_network(study, scans, files))


def _train(study: Study) -> TrainingResult:
    files, scans = StudyFiles(study.output), split_cohort(study)
    say(f"Split by subject: {scans.sizes()}.")
    trained = build_classifier(study, scans, files, lambda: fit_network(study, scans, files))
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
    what = "it is the champion"
    if champion != trained.version:
        what = f"version {champion} is still the champion, see `taucal promote`"
    say(f"Registered {store.model_name} version {trained.version}; {what}.")
    return trained


def show_results(results: Results) -> None:
    """Print the table of results on the test scans."""
    shown = [METRICS[name] for name in TABLE if name in METRICS]
    rows = [
        [row.name, *(m.text(row.metrics[m.name]) if m.name in row.metrics else "-" for m in shown)]
        for row in results.rows
    ]
    title = f"Test: {results.scans} scans of {results.subjects} subjects, 95 % intervals over subjects"
    show_table(title, ["probabilities from", *(metric.title for metric in shown)], rows)
