"""Train: a cohort becomes a calibrated, evaluated, registered classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.cohorts import (
    cohort_and_split,
    region_table,
    regional_features,
    regional_norms_of,
    sizes_in_words,
)
from flows.console import progress, say, show_table
from flows.names import check_names
from flows.promotion import move, retraining_lock, settle
from flows.steps import as_flow, run_once
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import ConfigError
from pipeline.evaluation.assemble import assemble
from pipeline.evaluation.baseline import fit_baseline
from pipeline.evaluation.intervals import Interval
from pipeline.evaluation.results import Results, Rivals, evaluate
from pipeline.evaluation.selection import select_calibrator
from pipeline.files import fingerprint, read_json, write_json, write_text
from pipeline.learning.ensemble import MEMBERS, TrainedEnsemble, train_ensemble
from pipeline.learning.inference import predict
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.prediction import Predictions
from pipeline.scan import Cohort, Split
from pipeline.tracking.audit import whoami


@dataclass(frozen=True)
class Files:
    """Where a study leaves what it makes."""

    folder: Path

    @property
    def study(self) -> Path:
        """The resolved study."""
        return self.folder / "study.yaml"

    @property
    def split(self) -> Path:
        """Scan ids of each part."""
        return self.folder / "split.json"

    @property
    def training(self) -> Path:
        """Checkpoints and history."""
        return self.folder / "training"

    @property
    def bundle(self) -> Path:
        """The saved `CalibratedClassifier`."""
        return self.folder / "classifier"

    @property
    def results(self) -> Path:
        """Metrics with intervals."""
        return self.folder / "results.json"

    @property
    def network(self) -> Path:
        """The trained networks, uncalibrated, each in a folder of its own."""
        return self.folder / "network"

    def predictions(self, part: str) -> Path:
        """Logits of one part."""
        return self.folder / f"predictions_{part}.npz"

    def record(self, step: str) -> Path:
        """Return the file that remembers that a step is done."""
        return self.folder / ".records" / f"{step}.json"


@dataclass(frozen=True, eq=False)
class Trained:
    """What training a study led to."""

    files: Files
    results: Results
    run_id: str
    version: int


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


def _train_study(study: Study) -> Trained:
    if study.cohort.kind != "bids":
        raise ConfigError(
            f"A classifier of scans is trained on a cohort of kind bids, got {study.cohort.kind}",
            culprit=study.name,
            mend="run `taucal compare` for this cohort",
        )
    files = Files(study.output)
    cohort, volumes, split = cohort_and_split(study)
    say(f"Split by subject: {sizes_in_words(split, volumes)}.")
    trained = make_classifier(
        study, cohort, volumes, split, files, lambda: fit_network(study, volumes, split, files)
    )
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
            move(
                store, study.output, trained.version,
                key=trained.run_id, who=whoami(), reasons=why, facts=facts,
            )  # fmt: skip
            champion = trained.version
        elif champion != trained.version:
            tracking.challenge(store, trained.version)
    if champion == trained.version:
        say(f"Registered {name}; it is the champion.")
    else:
        say(f"Registered {name}; version {champion} stays champion until `taucal promote` or the gate.")


def make_classifier(
    study: Study,
    cohort: Cohort,
    volumes: LabelledVolumes,
    split: Split,
    files: Files,
    fit: Callable[[], Iterable[Path]],
) -> Trained:
    """Take a split cohort to a registered classifier; what is done already is not done again.

    Parameters
    ----------
    fit : callable
        Leaves a network and its predictions in `files`; returns the files written.
    """
    write_text(files.study, study.to_yaml())
    write_json(files.split, split.to_dict())
    key = fingerprint(volumes.digest(), split.digest(), decisive(study))
    run_once(files.record("training"), key, fit)
    run_once(
        files.record("classifier"), key, lambda: calibrate_and_judge(study, cohort, volumes, split, files)
    )
    results = Results.from_dict(read_json(files.results))
    run_id, version = track(study, results, files, key)
    return Trained(files, results, run_id, version)


def decisive(study: Study) -> dict[str, Any]:
    """Return the settings that decide what is learned: not where it is written or how it is compared."""
    places = {"name", "output", "cohort", "tracking", "phantom", "ingest"}
    left_out = places | {"compare", "dask", "retrain", "serve", "notify"}
    return study.model_dump(mode="json", exclude=left_out)


def fit_network(study: Study, volumes: LabelledVolumes, split: Split, files: Files) -> Iterable[Path]:
    """Train, and predict the parts that are calibrated and judged on; return the files written."""
    network = study.network.name if study.ensemble == 1 else f"{study.ensemble} networks {study.network.name}"
    say(f"Training {network} with {study.training.loss.title} on {len(split.train)} scans.")
    with progress("train") as tick:
        trained = train_ensemble(
            volumes, split, study, files.training, lambda n, of, m: tick(n, of, _in_words(m))
        )
    return keep_network(trained, study, volumes, split, files)


def keep_network(
    trained: TrainedEnsemble, study: Study, volumes: LabelledVolumes, split: Split, files: Files
) -> list[Path]:
    """Keep networks and what they say of the parts that are calibrated and judged on."""
    return [trained.save(files.network) / MEMBERS] + [
        predict(trained.network, volumes.subset(split.part(part)), device=study.training.device).save(
            files.predictions(part)
        )
        for part in ("calibration", "test")
    ]


def _in_words(metrics: dict[str, float]) -> str:
    shown = {"loss": "loss", "validation_nll": "NLL", "validation_balanced_accuracy": "balanced accuracy"}
    return "  ".join(f"{word} {metrics[name]:.2f}" for name, word in shown.items() if name in metrics)


def calibrate_and_judge(
    study: Study, cohort: Cohort, volumes: LabelledVolumes, split: Split, files: Files
) -> Iterable[Path]:
    """Choose the calibrator on the calibration scans, then open the test scans once; return the files."""
    trained = TrainedEnsemble.load(files.network)
    calibration, test = (Predictions.load(files.predictions(part)) for part in ("calibration", "test"))
    candidates, folds = study.calibration.candidates, study.calibration.folds
    selection = select_calibrator(calibration, candidates, folds, study.seed)
    say(f"Calibrator: {selection.chosen}. {selection.reason}")
    rivals = rivals_of(study, cohort, volumes, split, trained)
    results = evaluate(test, calibration, selection, rivals, study.evaluation, seed=study.seed)
    card = _card(study, cohort, volumes, split, results)
    classifier = assemble(trained, calibration, selection, study.decision, card, seed=study.seed)
    results = results.with_coverage(
        classifier.conformal.sets(selection.calibrator.transform(test.logits)), test
    )
    classifier.save(files.bundle)
    return [*sorted(files.bundle.iterdir()), write_json(files.results, results.to_dict())]


def rivals_of(
    study: Study, cohort: Cohort, volumes: LabelledVolumes, split: Split, trained: TrainedEnsemble
) -> Rivals:
    """Return what a classifier is held against on the test scans: class shares, regions alone, the truth."""
    regions = region_table(study)
    if regions is None:
        return Rivals(trained.prevalence)
    training = volumes.subset(split.train)
    features = regional_features(regions, split.train)
    baseline = fit_baseline(features, training.labels, training.subjects, study.seed)
    return Rivals(
        class_shares=trained.prevalence,
        baseline=baseline.probabilities(regional_features(regions, split.test)),
        posterior=cohort.subset(split.test).posterior,
    )


def _card(
    study: Study, cohort: Cohort, volumes: LabelledVolumes, split: Split, results: Results
) -> dict[str, Any]:
    regions = region_table(study)
    normal = study.cohort.classes[0]
    training = set(split.train)
    # One scan a subject: a subject with three visits is not three norms.
    first = {
        s.subject: s.scan_id
        for s in reversed(cohort.scans)
        if s.diagnosis == normal and s.scan_id in training
    }
    synthetic = cohort.posterior is not None
    return {
        "study": study.name,
        "synthetic": synthetic,
        "tracer": study.ingest.tracer,
        "imaging": study.imaging.model_dump(mode="json"),
        "loss": study.training.loss.model_dump(mode="json"),
        "calibrator": {"name": results.chosen, "reason": results.reason},
        "split": {part: len(split.part(part)) for part in ("train", "validation", "calibration", "test")},
        "class_counts": dict(zip(volumes.class_names, volumes.subset(split.train).class_counts, strict=True)),
        "subjects": {"test": results.subjects, "train": len({split.subject_of[i] for i in split.train})},
        "metrics": {name: vars(interval) for name, interval in results.row("chosen").metrics.items()},
        "likeness": [list(b) for b in results.likeness],
        "norms": regional_norms_of(regions, sorted(first.values())) if regions is not None else [],
        "data_digest": volumes.digest(),
        "split_digest": split.digest(),
    }


def track(study: Study, results: Results, files: Files, key: str) -> tuple[str, int]:
    """Log the run and register the classifier; return run id and version."""
    store = tracking.store_of(study.tracking, study.output)
    classifier = CalibratedClassifier.load(files.bundle)
    trained = TrainedEnsemble.load(files.network)
    digests = {"data.digest": classifier.card["data_digest"], "split.digest": classifier.card["split_digest"]}
    logged = files.folder / "logged"
    write_text(logged / files.study.name, study.without_places().to_yaml())
    for path in (files.split, files.results):
        write_text(logged / path.name, path.read_text(encoding="utf-8"))
    record = tracking.RunRecord(
        name=study.name,
        key=key,
        params=_flat(decisive(study)),
        tags=digests,
        metrics=results.flat(),
        curves=trained.history,
    )
    run_id = tracking.log_run(store, record, logged)
    version = tracking.register(store, run_id, files.bundle, digests, key)
    return run_id, version


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


SHOWN = {
    "negative_log_likelihood": "NLL",
    "brier_score": "Brier",
    "expected_calibration_error": "ECE %",
    "classwise_ece": "classwise ECE %",
    "balanced_accuracy": "balanced accuracy",
    "macro_auroc": "macro AUROC",
}


def show_results(results: Results) -> None:
    """Print the table of results on the test scans."""
    rows = [[row.name, *(cell_of(row.metrics[name], name) for name in SHOWN)] for row in results.rows]
    title = f"Test: {results.scans} scans of {results.subjects} subjects, 95 % intervals over subjects"
    show_table(title, ["probabilities from", *SHOWN.values()], rows)


def cell_of(interval: Interval, metric: str) -> str:
    """Return what a table shows of a metric; calibration errors in percent."""
    scale, digits = (100, 1) if metric.endswith(("ece", "calibration_error")) else (1, 2)
    value, low, high = (f"{x * scale:.{digits}f}" for x in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"
