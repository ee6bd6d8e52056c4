"""The cells of a comparison: one loss with one seed on one fold, trained where a runner puts it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.learning.cohorts import load_cohort, made_rarer, split_of
from flows.running.steps import is_done, run_once
from pipeline.config import LossSettings, Study
from pipeline.errors import CohortError, ConfigError
from pipeline.evaluation.comparison.cell_result import PRIOR_CORRECTION, CellResult
from pipeline.files import fingerprint, read_json, write_json
from pipeline.learning.folds import split_folds
from pipeline.learning.inference import predict
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.training import train
from pipeline.scan import Cohort, Split

PROGRESS = "progress.json"
RECORD = "done.json"


@dataclass(frozen=True, eq=False)
class Cell:
    """One loss with one seed on one fold; `key` is the fingerprint of all that its result depends on."""

    loss: LossSettings
    seed: int
    fold: int
    folder: Path
    key: str

    @property
    def title(self) -> str:
        """Its name in progress and failures, with the fold where there are several."""
        fold = f", fold {self.fold}" if "-fold" in self.folder.name else ""
        return f"{self.loss.title}, seed {self.seed}{fold}"

    @property
    def is_done(self) -> bool:
        """Whether its logits are on disk."""
        return is_done(self.folder / RECORD, self.key)

    def study(self, study: Study) -> Study:
        """Return the study of this cell alone."""
        training = study.training.model_copy(update={"loss": self.loss})
        return study.model_copy(update={"seed": self.seed, "training": training})

    def learning_curve(self) -> LearningCurve:
        """Return the epochs of its training; none where it has not written them yet."""
        try:
            stored = read_json(self.folder / "training" / "training.json")
        except (OSError, ValueError):
            return LearningCurve()
        return LearningCurve(tuple(stored["history"]), stored["best_epoch"])


@dataclass(frozen=True)
class LearningCurve:
    """The epochs of a training, and the one whose weights are used."""

    history: tuple[dict[str, float], ...] = ()
    best_epoch: int = 0

    @property
    def validation_nll(self) -> float | None:
        """Of the weights that are used; the test part is not looked at while losses are trained."""
        return self.history[self.best_epoch]["validation_nll"] if self.history else None


@dataclass(frozen=True, eq=False)
class ComparisonData:
    """What all cells learn from: the cohort, its volumes, and one split for each fold."""

    cohort: Cohort
    volumes: LabelledVolumes
    splits: tuple[Split, ...]

    def result(self, cell: Cell) -> CellResult:
        """Read what a finished cell stored."""
        counts = self.volumes.subset(self.splits[cell.fold].train).class_counts
        return CellResult.load(cell.folder, (cell.loss.title, cell.seed, cell.fold), counts, self.cohort)


def load_material(study: Study) -> ComparisonData:
    """Load the cohort of a study and split it into its folds; cells of this process use it from then on.

    Raises
    ------
    ConfigError
        If there are several folds and the cohort has a published split.
    CohortError
        If the cohort cannot be learned from.
    """
    # One network a cell: each fold leaves out a calibration part, which all losses share.
    part = study.calibration.model_copy(update={"scheme": "split"})
    study = study.model_copy(update={"calibration": part})
    cohort, volumes, official = load_cohort(study)
    folds = study.compare.folds
    if folds == 1:
        splits: tuple[Split, ...] = (official or split_of(study, cohort),)
    elif official is not None:
        raise ConfigError(
            f"compare.folds is {folds}, but a cohort of kind {study.cohort.kind} has a published split",
            where="compare.folds",
            hint="set compare.folds=1",
        )
    else:
        least = study.cohort.min_subjects_per_class
        whole = split_folds(cohort, study.split, folds, seed=study.seed, min_subjects=least)
        splits = tuple(made_rarer(study, split, cohort) for split in whole)
    material = ComparisonData(cohort, volumes, splits)
    _loaded.clear()
    _loaded[_data_key(study)] = material
    return material


_loaded: dict[str, ComparisonData] = {}
"""At most one cohort for a process, however many cells it trains."""


def _data_key(study: Study) -> str:
    sections = {"seed", "cohort", "split", "imbalance", "preprocessing"}
    return fingerprint(study.model_dump(mode="json", include=sections), study.compare.folds)


def plan(study: Study, material: ComparisonData) -> list[Cell]:
    """Return every cell of a comparison: fold by fold, seed by seed, loss by loss."""
    folds = len(material.splits)
    data = material.volumes.digest()
    found = []
    for fold, split in enumerate(material.splits):
        of_split = split.digest()
        for seed in study.compare.seeds:
            for loss in study.compare.losses:
                name = f"{loss.title.replace(' ', '_')}-seed{seed}" + (f"-fold{fold}" if folds > 1 else "")
                cell = Cell(loss, seed, fold, study.output / "cells" / name, "")
                facts = [data, of_split, cell.study(study).learning_settings()] + [fold] * (folds > 1)
                found.append(Cell(loss, seed, fold, cell.folder, fingerprint(*facts)))
    return found


@dataclass(frozen=True)
class Order:
    """What a worker needs to train a cell: `data` is the digest of the volumes it must find."""

    study: Study
    cell: Cell
    data: str
    round: str


def train_cell(order: Order) -> None:
    """Train one loss with one seed and store its logits, unless that is done already.

    After each epoch the cell writes its progress to ``progress.json`` in its folder.

    Raises
    ------
    CohortError
        If this worker finds another cohort than the one the comparison was planned with.
    TrainingError
        If the loss is not finite.
    """
    material = _loaded.get(_data_key(order.study))
    if material is None or material.volumes.digest() != order.data:
        material = load_material(order.study)
    if material.volumes.digest() != order.data:
        raise CohortError(
            "A worker read other scans than the process that planned the comparison",
            where="cohort.path",
            hint="give all workers the same files, then start the comparison again",
        )
    cell, volumes, split = order.cell, material.volumes, material.splits[order.cell.fold]
    mine = cell.study(order.study)

    def report(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
        state = {"round": order.round, "epoch": epoch, "epochs": epochs, "nll": metrics["validation_nll"]}
        write_json(cell.folder / PROGRESS, state)

    def work() -> Iterable[Path]:
        trained = train(volumes, split, mine, cell.folder / "training", report)
        for part in ("calibration", "test"):
            of_part = volumes.subset(split.part(part))
            predictions = predict(trained.network, of_part, device=mine.training.device)
            yield predictions.save(cell.folder / f"{part}.npz")
        yield write_json(cell.folder / PRIOR_CORRECTION, trained.prior_correction.to_dict())

    run_once(cell.folder / RECORD, cell.key, work)
    (cell.folder / PROGRESS).unlink(missing_ok=True)


def progress_of(cell: Cell, of_round: str) -> dict[str, Any] | None:
    """Return how far a cell is in this round of the comparison, None where it has not begun."""
    try:
        state: dict[str, Any] = read_json(cell.folder / PROGRESS)
    except (OSError, ValueError):
        return None
    return state if state.get("round") == of_round else None
