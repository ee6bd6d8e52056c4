"""Train: a cohort becomes a calibrated, evaluated, registered classifier."""

from __future__ import annotations

from flows.learning.build_classifier import Files, SplitCohort, Trained, build_classifier, fit_network, learn
from flows.learning.cohorts import cohort_and_split, sizes_in_words
from flows.retraining.promotion import Decision, move, retraining_lock, settle
from flows.running.console import say, show_table
from flows.running.steps import as_flow
from flows.running.study_names import check_names
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import ConfigError
from pipeline.evaluation.classifier.results import Results
from pipeline.evaluation.metrics import METRICS, TABLE
from pipeline.tracking.audit import whoami


def train_study(study: Study) -> Trained:
    """Run split, training, calibration, evaluation and tracking as a Prefect flow.

    Every step leaves files and is skipped where the same inputs and settings have left them already.

    Raises
    ------
    CohortError
        If the cohort cannot be learned from.
    TrainingError
        If the loss becomes not finite.
    """
    check_names(study)
    return as_flow("train", lambda: _train_study(study))


def learn_study(study: Study) -> None:
    """Train and calibrate as `train_study` does, which then finds that done: no flow, nothing tracked.

    For a worker process, while its parent does other things.
    """
    files, scans = Files(study.output), SplitCohort(*cohort_and_split(study))
    learn(study, scans, files, lambda: fit_network(study, scans, files))


def _train_study(study: Study) -> Trained:
    if study.cohort.kind != "bids":
        raise ConfigError(
            f"A classifier of scans is trained on a cohort of kind bids, got {study.cohort.kind}",
            where=study.name,
            hint="run `taucal compare` for this cohort",
        )
    files = Files(study.output)
    scans = SplitCohort(*cohort_and_split(study))
    say(f"Split by subject: {sizes_in_words(scans.split, scans.volumes)}.")
    trained = build_classifier(study, scans, files, lambda: fit_network(study, scans, files))
    _install(study, trained)
    return trained


def _install(study: Study, trained: Trained) -> None:
    """Make the first classifier of a store its champion; a later one is a challenger for the gate."""
    store = tracking.store_of(study.tracking, study.output)
    name = f"{store.model_name} version {trained.version}"
    with retraining_lock(study.output, wait=True):
        settle(store, study.output)
        champion = tracking.champion_version(store)
        if champion is None:
            why = ("The first classifier of this store; no gate was asked.",)
            facts = {"run_id": trained.run_id}
            move(store, study.output, Decision(trained.version, trained.run_id, whoami(), why, facts))
            champion = trained.version
        elif champion != trained.version:
            tracking.challenge(store, trained.version)
    if champion == trained.version:
        say(f"Registered {name}; it is the champion.")
    else:
        say(f"Registered {name}; version {champion} stays champion until `taucal promote` or the gate.")


def show_results(results: Results) -> None:
    """Print the table of results on the test scans."""
    shown = [METRICS[name] for name in TABLE if name in METRICS]
    rows = [[row.name, *(metric.text(row.metrics[metric.name]) for metric in shown)] for row in results.rows]
    title = f"Test: {results.scans} scans of {results.subjects} subjects, 95 % intervals over subjects"
    show_table(title, ["probabilities from", *(metric.title for metric in shown)], rows)
