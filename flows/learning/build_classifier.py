"""From a split cohort to a registered classifier: the steps that training and retraining share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.learning.cohorts import region_table, regional_features, regional_norms_of
from flows.running.console import progress, say
from flows.running.steps import run_once
from models.card import Card, ChosenCalibrator, ConfidenceBin, MetricInterval, NamedLoss, PartSizes
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study
from pipeline.evaluation.classifier.assemble import assemble
from pipeline.evaluation.classifier.baseline import fit_baseline
from pipeline.evaluation.classifier.results import Results, Rivals, evaluate
from pipeline.evaluation.classifier.selection import select_calibrator
from pipeline.files import exclusive, fingerprint, read_json, write_json, write_text
from pipeline.learning.ensemble_training import MEMBERS, TrainedEnsemble, train_ensemble
from pipeline.learning.inference import predict
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.predictions import Predictions
from pipeline.scan import PARTS, Cohort, Split


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


@dataclass(frozen=True, eq=False)
class SplitCohort:
    """A labelled cohort, its volumes, and who is in which part."""

    cohort: Cohort
    volumes: LabelledVolumes
    split: Split

    def part(self, name: str) -> LabelledVolumes:
        """Return the volumes of a part."""
        return self.volumes.subset(self.split.part(name))


def build_classifier(
    study: Study, scans: SplitCohort, files: Files, fit: Callable[[], Iterable[Path]]
) -> Trained:
    """Take a split cohort to a registered classifier; what is done already is not done again.

    Parameters
    ----------
    fit : callable
        Leaves a network and its predictions in `files`; returns the files written.
    """
    key = learn(study, scans, files, fit)
    results = Results.from_dict(read_json(files.results))
    run_id, version = track(study, results, files, key)
    return Trained(files, results, run_id, version)


def learn(study: Study, scans: SplitCohort, files: Files, fit: Callable[[], Iterable[Path]]) -> str:
    """Take a split cohort to a calibrated and judged classifier on disk; return the key of all it depends on.

    Parameters
    ----------
    fit : callable
        As in `build_classifier`.
    """
    write_text(files.study, study.to_yaml())
    write_json(files.split, scans.split.to_dict())
    key = fingerprint(scans.volumes.digest(), scans.split.digest(), decisive(study))
    run_once(files.record("training"), key, fit)
    run_once(files.record("classifier"), key, lambda: calibrate_and_judge(study, scans, files))
    return key


def decisive(study: Study) -> dict[str, Any]:
    """Return the settings that decide what is learned: not where it is written or how it is compared."""
    places = {"name", "output", "cohort", "tracking", "phantom", "ingest"}
    left_out = places | {"compare", "dask", "retrain", "serve", "notify"}
    return study.model_dump(mode="json", exclude=left_out)


def fit_network(study: Study, scans: SplitCohort, files: Files) -> Iterable[Path]:
    """Train, and predict the parts that are calibrated and judged on; return the files written."""
    network = study.network.name if study.ensemble == 1 else f"{study.ensemble} networks {study.network.name}"
    say(f"Training {network} with {study.training.loss.title} on {len(scans.split.train)} scans.")
    with progress("train") as tick:
        trained = train_ensemble(
            scans.volumes, scans.split, study, files.training, lambda n, of, m: tick(n, of, _in_words(m))
        )
    return keep_network(trained, study, scans, files)


def keep_network(trained: TrainedEnsemble, study: Study, scans: SplitCohort, files: Files) -> list[Path]:
    """Keep networks and what they say of the parts that are calibrated and judged on."""
    return [trained.save(files.network) / MEMBERS] + [
        predict(trained.network, scans.part(part), device=study.training.device).save(files.predictions(part))
        for part in ("calibration", "test")
    ]


def _in_words(metrics: dict[str, float]) -> str:
    shown = {"loss": "loss", "validation_nll": "NLL", "validation_balanced_accuracy": "balanced accuracy"}
    return "  ".join(f"{word} {metrics[name]:.2f}" for name, word in shown.items() if name in metrics)


def calibrate_and_judge(study: Study, scans: SplitCohort, files: Files) -> Iterable[Path]:
    """Choose the calibrator on the calibration scans, then open the test scans once; return the files."""
    trained = TrainedEnsemble.load(files.network)
    calibration, test = (Predictions.load(files.predictions(part)) for part in ("calibration", "test"))
    candidates, folds = study.calibration.candidates, study.calibration.folds
    selection = select_calibrator(calibration, candidates, folds, study.seed)
    say(f"Calibrator: {selection.chosen}. {selection.reason}")
    rivals = rivals_of(study, scans, trained)
    results = evaluate(test, calibration, selection, rivals, study.evaluation, seed=study.seed)
    classifier = assemble(trained, calibration, selection, study.decision, seed=study.seed)
    results = results.with_coverage(
        classifier.conformal.sets(selection.calibrator.transform(test.logits)), test
    )
    replace(classifier, card=_card(study, scans, results)).save(files.bundle)
    return [*sorted(files.bundle.iterdir()), write_json(files.results, results.to_dict())]


def rivals_of(study: Study, scans: SplitCohort, trained: TrainedEnsemble) -> Rivals:
    """Return what a classifier is held against on the test scans: class shares, regions alone, the truth."""
    regions = region_table(study)
    if regions is None:
        return Rivals(trained.prevalence)
    training, split = scans.part("train"), scans.split
    features = regional_features(regions, split.train)
    baseline = fit_baseline(features, training.labels, training.subjects, study.seed)
    return Rivals(
        class_shares=trained.prevalence,
        baseline=baseline.probabilities(regional_features(regions, split.test)),
        posterior=scans.cohort.subset(split.test).posterior,
    )


def _card(study: Study, scans: SplitCohort, results: Results) -> Card:
    cohort, volumes, split = scans.cohort, scans.volumes, scans.split
    regions = region_table(study)
    normal = study.cohort.classes[0]
    training = set(split.train)
    # One scan a subject: a subject with three visits is not three norms.
    first = {
        s.subject: s.scan_id
        for s in reversed(cohort.scans)
        if s.diagnosis == normal and s.scan_id in training
    }
    metrics = results.row("chosen").metrics
    return Card(
        study=study.name,
        synthetic=cohort.posterior is not None,
        tracer=study.ingest.tracer,
        imaging=study.imaging.model_dump(mode="json"),
        loss=NamedLoss(**study.training.loss.model_dump(mode="json")),
        calibrator=ChosenCalibrator(name=results.chosen, reason=results.reason),
        split=PartSizes(**{part: len(split.part(part)) for part in PARTS}),
        subjects=PartSizes(**{part: len({split.subject_of[i] for i in split.part(part)}) for part in PARTS}),
        class_counts=dict(zip(volumes.class_names, scans.part("train").class_counts, strict=True)),
        metrics={name: MetricInterval(**vars(interval)) for name, interval in metrics.items()},
        coverage=dict(results.coverage),
        likeness=tuple(ConfidenceBin(*counts) for counts in results.likeness),
        norms=() if regions is None else regional_norms_of(regions, sorted(first.values())),
        data_digest=volumes.digest(),
        split_digest=split.digest(),
    )


def track(study: Study, results: Results, files: Files, key: str) -> tuple[str, int]:
    """Log the run and register the classifier; return run id and version."""
    store = tracking.store_of(study.tracking, study.output)
    classifier = CalibratedClassifier.load(files.bundle)
    trained = TrainedEnsemble.load(files.network)
    digests = {"data.digest": classifier.card.data_digest, "split.digest": classifier.card.split_digest}
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
    # Another process with the same study would take this run for one that was left unfinished.
    with exclusive(files.folder / ".track.lock", "tracked run"):
        run_id = tracking.log_run(store, record, logged)
        return run_id, tracking.register(store, run_id, files.bundle, digests, key)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
