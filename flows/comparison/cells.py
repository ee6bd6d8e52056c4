"""The cells of a comparison: one loss with one seed on one fold, trained where a runner puts it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.comparison.comparison_data import ComparisonData, load_material
from flows.running.epochs import note_epoch
from flows.running.steps import is_done, run_once
from pipeline.config import LossSettings, Study
from pipeline.errors import CohortError
from pipeline.evaluation.comparison.cell_result import PRIOR_CORRECTION, CellResult
from pipeline.evaluation.comparison.tuning import TriedValue, TunedOption, values_to_try
from pipeline.files import fingerprint, read_json, write_json
from pipeline.learning.inference import predict
from pipeline.learning.nested_subsets import share_of_subjects
from pipeline.learning.training import train
from pipeline.scan import Split

PROGRESS = "progress.json"
RECORD = "done.json"


@dataclass(frozen=True, eq=False)
class Cell:
    """One loss with one seed on one fold.

    Parameters
    ----------
    loss : LossSettings
        With the value it is trained with, where it is tuned.
    key : str
        Fingerprint of all that its result depends on.
    batch_size : int or None
        None where the comparison has one.
    tried : str
        That value, as ``"gamma=3"``; empty where it is not tuned.
    share : float
        Of the training subjects, below 1 in a learning curve.
    """

    loss: LossSettings
    seed: int
    fold: int
    folder: Path
    key: str
    batch_size: int | None = None
    tried: str = ""
    share: float = 1.0

    @property
    def row(self) -> str:
        """Its loss, with value and batch size where there are several, and its size below 100 %."""
        value = f" ({self.tried})" if self.tried else ""
        batch = f", batch {self.batch_size}" if self.batch_size else ""
        share = f", {self.size} of subjects" if self.share < 1 else ""
        return f"{self.loss.title}{value}{batch}{share}"

    @property
    def size(self) -> str:
        """The share of the training subjects that it learns from, in percent."""
        return f"{100 * self.share:g} %"

    def split(self, material: ComparisonData) -> Split:
        """Return what it learns from, is calibrated with and is tested on."""
        whole, volumes = material.splits[self.fold], material.volumes
        if self.share == 1:
            return whole
        label_of = {i: volumes.class_names[k] for i, k in zip(volumes.scan_ids, volumes.labels, strict=True)}
        return share_of_subjects(whole, label_of, self.share, seed=self.seed)

    @property
    def title(self) -> str:
        """Its name in progress and failures, with the fold where there are several."""
        fold = f", fold {self.fold}" if "-fold" in self.folder.name else ""
        return f"{self.row}, seed {self.seed}{fold}"

    @property
    def is_done(self) -> bool:
        """Whether its logits are on disk."""
        return is_done(self.folder / RECORD, self.key)

    def study(self, study: Study) -> Study:
        """Return the study of this cell alone."""
        of_cell: dict[str, Any] = {"loss": self.loss}
        if self.batch_size is not None:
            of_cell["batch_size"] = self.batch_size
        training = study.training.model_copy(update=of_cell)
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

    @property
    def tempered_nll(self) -> float | None:
        """The same after one temperature, fitted on the validation scans."""
        if not self.history:
            return None
        # Older versions did not store it.
        return self.history[self.best_epoch].get("validation_nll_at_best_temperature", self.validation_nll)


def plan(study: Study, material: ComparisonData, tuned: Sequence[TunedOption] | None = None) -> list[Cell]:
    """Return the cells of a comparison: fold by fold, seed by seed, loss by loss.

    Parameters
    ----------
    tuned : sequence of TunedOption, optional
        The choices: then the cells that are compared. Without them those that are trained first, which need
        none: all of losses that are not tuned, and of the others every value with the first seed.
    """
    asked = study.compare
    choice = {(one.loss, one.fold, one.batch_size): one.chosen for one in tuned or ()}
    found = []
    for batch_size in asked.batch_sizes or (None,):
        for fold in range(len(material.splits)):
            for seed in asked.seeds:
                for loss in asked.losses:
                    values = values_to_try(loss, tune=asked.tune)
                    if len(values) > 1 and tuned is not None:
                        chosen = choice.get((loss.title, fold, batch_size))
                        values = tuple(value for value in values if value.text == chosen)
                    elif len(values) > 1 and seed != asked.seeds[0]:
                        continue
                    found += [_cell(study, material, v, (seed, fold, batch_size)) for v in values]
    return found


def plan_sizes(study: Study, material: ComparisonData) -> list[Cell]:
    """Return the cells of a learning curve: fold by fold, seed by seed, share by share of the subjects.

    The cell with all subjects is that of a comparison with the same loss.
    """
    return [
        _cell(study, material, TriedValue(study.training.loss), (seed, fold, None), share)
        for fold in range(len(material.splits))
        for seed in study.compare.seeds
        for share in study.curve.shares
    ]


def _cell(
    study: Study,
    material: ComparisonData,
    value: TriedValue,
    place: tuple[int, int, int | None],
    share: float = 1.0,
) -> Cell:
    seed, fold, batch_size = place
    several = len(material.splits) > 1
    parts = [value.loss.title.replace(" ", "_")]
    parts += [value.text] * bool(value.text) + [f"batch{batch_size}"] * (batch_size is not None)
    parts += [f"{100 * share:g}percent"] * (share < 1) + [f"seed{seed}"] + [f"fold{fold}"] * several
    folder = study.output / "cells" / "-".join(parts)
    cell = Cell(value.loss, seed, fold, folder, "", batch_size, value.text, share)
    data = (material.volumes.digest(), cell.split(material).digest())
    key = fingerprint(*data, cell.study(study).learning_settings(), *[fold] * several)
    return replace(cell, key=key)


def tuned_options(cells: Sequence[Cell], failed: Iterable[str]) -> tuple[TunedOption, ...]:
    """Return what was tried for each tuned loss, fold and batch size, with its validation NLL.

    Parameters
    ----------
    cells : sequence of Cell
        Those trained first.
    failed : iterable of str
        Titles of the cells that failed.
    """
    without, groups = set(failed), dict[tuple[str, int, int | None], list[Cell]]()
    for cell in cells:
        if cell.tried:
            groups.setdefault((cell.loss.title, cell.fold, cell.batch_size), []).append(cell)
    return tuple(
        TunedOption(
            *place,
            tuple(cell.tried for cell in mine),
            tuple(None if c.title in without else c.learning_curve().tempered_nll for c in mine),
        )
        for place, mine in groups.items()
    )


def results_of(material: ComparisonData, cells: Sequence[Cell]) -> list[CellResult]:
    """Read what finished cells stored; those of a cross-fitted comparison with the other folds' scans.

    A cell of which no other fold is there is left out then: nothing calibrates it.
    """
    of_cell = {cell: result_of(material, cell) for cell in cells}
    if not material.cross_fitted:
        return list(of_cell.values())
    by_network: dict[tuple[str, int | None, int], list[Cell]] = {}
    for cell in cells:
        by_network.setdefault((cell.loss.title, cell.batch_size, cell.seed), []).append(cell)
    found = []
    for mine in by_network.values():
        for cell in mine if len(mine) > 1 else ():
            others = [of_cell[other] for other in mine if other is not cell]
            found.append(of_cell[cell].calibrated_on(others))
    return found


def results_by_size(
    material: ComparisonData, cells: Sequence[Cell], failed: Iterable[str]
) -> dict[str, list[CellResult]]:
    """Read what the finished cells of a learning curve stored, by size, ascending."""
    without, sizes = set(failed), dict[str, list[Cell]]()
    for cell in sorted(cells, key=lambda cell: cell.share):
        of_size = sizes.setdefault(cell.size, [])
        of_size.extend([cell] * (cell.title not in without))
    return {size: results_of(material, mine) for size, mine in sizes.items()}


def result_of(material: ComparisonData, cell: Cell) -> CellResult:
    """Read what a finished cell stored."""
    counts = material.volumes.subset(cell.split(material).train).class_counts
    place = (cell.loss.title, cell.seed, cell.fold)
    return CellResult.load(cell.folder, place, counts, material.cohort, cell.batch_size)


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
    material = load_material(order.study, order.data)
    if material.volumes.digest() != order.data:
        raise CohortError(
            "A worker read other scans than the process that planned the comparison",
            where="cohort.path",
            hint="give all workers the same files, then start the comparison again",
        )
    cell, volumes, split = order.cell, material.volumes, order.cell.split(material)
    mine = cell.study(order.study)

    def report(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
        state = {"round": order.round, "epoch": epoch, "epochs": epochs, "nll": metrics["validation_nll"]}
        write_json(cell.folder / PROGRESS, state)
        note_epoch(cell.folder, epoch, metrics)

    def work() -> Iterable[Path]:
        trained = train(volumes, split, mine, cell.folder / "training", report)
        if not split.calibration:  # the folder may hold that of a comparison that was not cross-fitted
            (cell.folder / "calibration.npz").unlink(missing_ok=True)
        for part in ("calibration", "test") if split.calibration else ("test",):
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
