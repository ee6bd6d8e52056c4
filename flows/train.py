"""Train: a cohort becomes a calibrated, evaluated, registered classifier."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import task

from flows.console import progress, say, show_table
from flows.ingest import COHORT_TABLE, REGION_TABLE
from flows.steps import as_flow, run_once
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import CohortError
from pipeline.evaluation.bundle import assemble
from pipeline.evaluation.results import Results, evaluate
from pipeline.evaluation.selection import Selection, select_calibrator
from pipeline.files import fingerprint, read_json, sha256_of_file, write_json, write_text
from pipeline.learning.loading import LabelledVolumes, load_medmnist, load_volumes
from pipeline.learning.prediction import Predictions
from pipeline.learning.split import split_subjects
from pipeline.learning.training import TrainedNetwork, predict, train
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

    Every step leaves a file and is skipped where the same inputs and settings have left it already.

    Raises
    ------
    CohortError
        If the cohort cannot be learned from.
    TrainingError
        If the loss becomes not finite.
    """
    return as_flow("train", lambda: _train_study(study))


def _train_study(study: Study) -> Trained:
    files = Files(study.output)
    volumes, cohort, official = load_cohort(study)
    write_text(files.study, study.to_yaml())
    split = official or split_subjects(
        cohort, study.split, seed=study.seed, min_subjects=study.cohort.min_subjects_per_class
    )
    write_json(files.split, split.to_dict())
    say(f"Split by subject: {_sizes(split, volumes)}.")
    key = fingerprint(volumes.digest(), split.digest(), _decisive(study))
    run_once(files.record("training"), key, lambda: fit_network(study, volumes, split, files))
    run_once(files.record("classifier"), key, lambda: calibrate(study, cohort, volumes, split, files))
    run_once(files.record("results"), key, lambda: evaluate_study(study, cohort, split, files))
    results = Results.from_dict(read_json(files.results))
    run_id, version = track(study, volumes, split, results, files, key)
    return Trained(files, results, run_id, version)


def load_cohort(study: Study) -> tuple[LabelledVolumes, Cohort, Split | None]:
    """Return the volumes of a study, its cohort, and the published split where there is one."""
    if study.cohort.kind == "medmnist":
        volumes, split = load_medmnist(study.cohort.path, validation=study.split.validation, seed=study.seed)
        return volumes, Cohort((), volumes.class_names), split
    cohort = Cohort.read_tsv(study.cohort.path / COHORT_TABLE, study.cohort.classes)
    labelled = cohort.labelled()
    if len(labelled) < len(cohort):
        unlabelled = [s.scan_id for s in cohort.scans if s.diagnosis is None]
        say(f"{len(unlabelled)} scans have no diagnosis and are left out: {', '.join(unlabelled[:5])}.")
    if not labelled.scans:
        raise CohortError(
            "A cohort to learn from needs diagnoses, no scan has one",
            culprit=str(study.cohort.path / COHORT_TABLE),
            mend="put the diagnosis table beside the scans and ingest again",
        )
    return load_volumes(labelled, study.preprocessing, study.output / "cache"), labelled, None


def _sizes(split: Split, volumes: LabelledVolumes) -> str:
    class_of = dict(zip(volumes.scan_ids, volumes.labels.tolist(), strict=True))
    words = []
    for part in PARTS:
        counts = np.bincount([class_of[i] for i in split.part(part)], minlength=len(volumes.class_names))
        shares = "/".join(map(str, counts))
        words.append(f"{part} {len(split.part(part))} ({shares})")
    return ", ".join(words) + f" scans of {'/'.join(volumes.class_names)}"


def _decisive(study: Study) -> dict[str, Any]:
    # Where a study writes and how it is compared do not change what it learns.
    return study.model_dump(
        mode="json", exclude={"output", "tracking", "compare", "phantom", "ingest", "name"}
    )


@task(name="train network")
def fit_network(study: Study, volumes: LabelledVolumes, split: Split, files: Files) -> Iterable[Path]:
    """Train, and predict every part that is judged or calibrated on."""
    loss = study.training.loss.title
    say(f"Training {study.network.name} with {loss} on {len(split.train)} scans.")
    with progress("train") as tick:
        trained = train(
            volumes, split, study, files.training, lambda done, of, m: tick(done, of, _epoch_in_words(m))
        )
    for part in ("calibration", "test"):
        predictions = predict(trained, volumes.subset(split.part(part)))
        yield predictions.save(files.predictions(part))


def _epoch_in_words(metrics: dict[str, float]) -> str:
    shown = ("loss", "validation_nll", "validation_balanced_accuracy")
    return "  ".join(
        f"{n.removeprefix('validation_').replace('_', ' ')} {metrics[n]:.2f}" for n in shown if n in metrics
    )
