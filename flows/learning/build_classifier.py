"""From a split cohort to a registered classifier: the steps that training and retraining share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flows.learning.cohorts import region_table
from flows.learning.fold_networks import fit_folds
from flows.learning.study_files import PREDICTED, StudyFiles
from flows.running.console import Tick, say
from flows.running.locks import locked
from flows.running.steps import run_once
from flows.running.task_runs import shared_progress, step
from models.classifier import CalibratedClassifier
from models.names import CALIBRATOR_TITLES
from pipeline import tracking
from pipeline.config import Study
from pipeline.evaluation.classifier.assemble import assemble, card_of
from pipeline.evaluation.classifier.choose_typical import choose_typical
from pipeline.evaluation.classifier.decision_counts import DecisionCounts
from pipeline.evaluation.classifier.results import Results, evaluate
from pipeline.evaluation.classifier.rivals import Rivals
from pipeline.evaluation.classifier.selection import Selection, held_out_probabilities, select_calibrator
from pipeline.files import exclusive, fingerprint, read_json, write_json, write_text
from pipeline.learning.cross_fitting import load_outliers
from pipeline.learning.ensemble_training import MEMBERS, TrainedEnsemble, train_ensemble
from pipeline.learning.inference import predict
from pipeline.learning.predictions import Predictions
from pipeline.learning.split_cohort import SplitCohort


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained study: its files, its results on the test scans, its MLflow run and model version.

    `pages` are the files of the study report, where one was written.
    """

    files: StudyFiles
    results: Results
    run_id: str
    version: int
    pages: Mapping[str, Path] = field(default_factory=dict)


def build_classifier(
    study: Study, scans: SplitCohort, files: StudyFiles, fit: Callable[[], Iterable[Path]]
) -> TrainingResult:
    """Take a split cohort to a registered classifier; steps that are done already are skipped.

    Parameters
    ----------
    fit : callable
        Writes networks and their predictions to `files`; returns the files written.
    """
    store = tracking.store_of(study.tracking, study.output)
    # Another process with the same study would take this run for one that was left unfinished.
    lock = locked(files.folder / ".training.lock", "training of this study", wait=True)
    with lock, tracking.open_run(store, _run(study, scans)):
        key = learn(study, scans, files, fit)
        results = Results.from_dict(read_json(files.results))
        run_id, version = track(study, results, files, key)
    return TrainingResult(files, results, run_id, version)


def _key(study: Study, scans: SplitCohort) -> str:
    return fingerprint(scans.volumes.digest(), scans.split.digest(), study.learning_settings())


def _run(study: Study, scans: SplitCohort) -> tracking.RunRecord:
    """Return what is known of a run before its training: its settings and its scans."""
    volumes, split = scans.volumes, scans.split
    counts = dict(zip(volumes.class_names, map(int, volumes.class_counts), strict=True))
    return tracking.RunRecord(
        name=study.name,
        key=_key(study, scans),
        params=study.learning_settings(),
        tags={"data.digest": volumes.digest(), "split.digest": split.digest()},
        metrics={},
        cohort={"digest": volumes.digest(), "scans": len(volumes.scan_ids), "classes": counts},
    )


def learn(study: Study, scans: SplitCohort, files: StudyFiles, fit: Callable[[], Iterable[Path]]) -> str:
    """Take a split cohort to a calibrated and tested classifier on disk; return the key of its inputs.

    Parameters
    ----------
    fit : callable
        As in `build_classifier`.
    """
    write_text(files.study, study.to_yaml())
    write_json(files.split, scans.split.to_dict())
    key = _key(study, scans)
    run_once(files.record("training"), key, fit)
    run_once(files.record("classifier"), key, lambda: calibrate_and_test(study, scans, files))
    return key


@step("train")
def fit_network(study: Study, scans: SplitCohort, files: StudyFiles) -> Iterable[Path]:
    """Train, and predict the scans for calibration and test; return the files written."""
    if scans.split.cross_fitted:
        return fit_folds(study, scans, files)
    network = study.network.name if study.ensemble == 1 else f"{study.ensemble} networks {study.network.name}"
    say(f"Training {network} with {study.training.loss.title} on {len(scans.split.train)} scans.")
    with shared_progress("train") as tick:
        trained = train_ensemble(
            scans.volumes, scans.split, study, files.training, functools.partial(_epoch_done, study, tick)
        )
    for number, member in enumerate(trained.members if study.ensemble > 1 else (), start=1):
        tracking.log_part(f"network {number} of {study.ensemble}", member.history, {"network": number})
    return save_network(trained, study, scans, files)


def save_network(trained: TrainedEnsemble, study: Study, scans: SplitCohort, files: StudyFiles) -> list[Path]:
    """Save networks and their predictions of the parts for calibration and test."""
    return [trained.save(files.network) / MEMBERS] + [
        predict(trained.network, scans.part(part), device=study.training.device).save(files.predictions(part))
        for part in PREDICTED
    ]


def _epoch_done(study: Study, tick: Tick, epoch: int, epochs: int, metrics: dict[str, float]) -> None:
    tick(epoch, epochs, _in_words(metrics))
    if study.ensemble == 1:  # else the curves are means over members
        tracking.log_epoch(epoch, metrics)


def _in_words(metrics: dict[str, float]) -> str:
    shown = {"loss": "loss", "validation_nll": "NLL", "validation_balanced_accuracy": "balanced accuracy"}
    return "  ".join(f"{word} {metrics[name]:.2f}" for name, word in shown.items() if name in metrics)


@step("calibrate and test")
def calibrate_and_test(study: Study, scans: SplitCohort, files: StudyFiles) -> Iterable[Path]:
    """Select the calibrator on the calibration scans, then use the test scans once; return the files."""
    trained = TrainedEnsemble.load(files.network)
    calibration, test = files.read_predictions()
    selection = _select(study, calibration)
    say(f"Calibrator: {CALIBRATOR_TITLES[selection.chosen]}. {selection.reason}")
    regions = region_table(study)
    rivals = Rivals.of(scans, regions, trained.prevalence, study.seed)
    results = evaluate(test, selection, rivals, study.evaluation, seed=study.seed)
    held_out = held_out_probabilities(calibration, selection.chosen, study.calibration.folds, study.seed)
    outliers = load_outliers(files.outliers) if scans.split.cross_fitted else None
    classifier = assemble(trained, calibration, (selection, held_out), study.decision, outliers)
    decided = classifier.decide(test.logits, test.features)
    results = results.with_decisions(DecisionCounts.of(decided, calibration, test, scans.cohort))
    typical = choose_typical(scans, regions, study.report.tau) if study.report.typical_scans else ()
    card = card_of(study, scans, results, regions)
    replace(classifier, card=card, typical_scans=typical).save(files.bundle)
    return [
        *sorted(files.bundle.iterdir()),
        write_json(files.selection, selection.to_dict()),
        write_json(files.results, results.to_dict()),
    ]


def read_selection(study: Study, files: StudyFiles) -> Selection:
    """Read how the calibrator was selected; an older study did not store it and selects again."""
    if files.selection.is_file():
        return Selection.from_dict(read_json(files.selection))
    return _select(study, files.read_predictions()[0])


def _select(study: Study, calibration: Predictions) -> Selection:
    return select_calibrator(calibration, study.calibration, study.seed)


@step("log the run and register the classifier", retries=2)
def track(study: Study, results: Results, files: StudyFiles, key: str) -> tuple[str, int]:
    """Log the run and register the classifier; return run id and version."""
    store = tracking.store_of(study.tracking, study.output)
    classifier = CalibratedClassifier.load(files.bundle)
    trained = TrainedEnsemble.load(files.network)
    digests = {"data.digest": classifier.card.data_digest, "split.digest": classifier.card.split_digest}
    logged, measured = files.folder / "logged", results.flat()
    write_json(logged / "metrics.json", measured)
    write_text(logged / files.study.name, study.without_places().to_yaml())
    for path in (files.split, files.results):
        write_text(logged / path.name, path.read_text(encoding="utf-8"))
    record = tracking.RunRecord(
        name=study.name,
        key=key,
        params=study.learning_settings(),
        tags=digests,
        metrics={name: measured[name] for name in tracking.HEADLINE if name in measured},
        curves=trained.history,
    )
    # Another process with the same study would take this run for one that was left unfinished.
    with exclusive(files.folder / ".track.lock", "tracked run"):
        run_id = tracking.log_run(store, record, logged)
        return run_id, tracking.register(store, run_id, files.bundle, digests, key)
