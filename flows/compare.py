"""Compare: every loss with every seed and fold, all else equal; a cell that is done is not done again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from flows.comparison.cells import Cell, ComparisonData, Order, load_material, plan, train_cell
from flows.comparison.pages import (
    CellResult,
    facts_of,
    flat,
    log_cell,
    logged_as,
    show,
    statistics,
    write_pages,
)
from flows.comparison.progress import watched
from flows.running.console import say
from flows.running.jobs import Runner
from flows.running.runners import finished
from flows.running.steps import as_flow, as_task
from pipeline import tracking
from pipeline.config import Study, check_purpose
from pipeline.errors import TrainingError
from pipeline.files import exclusive, fingerprint
from pipeline.learning.split_cohort import SplitCohort


def compare_losses(study: Study) -> dict[str, Any]:
    """Run the comparison of a study as a Prefect flow; return the paths of its page and table.

    Every loss has the same split, initial weights, augmentation and budget for a given seed and fold. A cell
    that fails is told and the others go on; the same command again runs only what is missing.

    Raises
    ------
    ConfigError
        If the baseline is not among the losses, a title or seed stands twice, or the cohort cannot be split
        into folds.
    TrainingError
        If every cell of the baseline failed.
    """
    check_purpose(study, "compare")
    return as_flow("compare", lambda: _compare(study))


def _compare(study: Study) -> dict[str, Any]:
    with exclusive(study.output / ".compare.lock", "cells of a comparison", wait=False):
        material = load_material(study)
        for fold, split in enumerate(material.splits):
            of_fold = f", fold {fold}" if len(material.splits) > 1 else ""
            say(f"Split{of_fold}: {SplitCohort(material.cohort, material.volumes, split).sizes()}.")
        cells = plan(study, material)
        log = Log(study, material)
        failed = as_task("train cells", lambda: run_cells(study, material, cells, log))
        return as_task("statistics", lambda: _conclude(study, material, cells, failed, log))


class Log:
    """The comparison in MLflow: its run is finished from the start, so that a kill leaves none running."""

    def __init__(self, study: Study, material: ComparisonData) -> None:
        self._study = study
        self._store = tracking.store_of(study.tracking, study.output)
        splits = [split.digest() for split in material.splits]
        data = material.volumes.digest()
        split_digest = splits[0] if len(splits) == 1 else fingerprint(splits)
        self._tags = {"data.digest": data, "split.digest": split_digest}
        settings = {**study.learning_settings()["training"]}
        settings.pop("loss")
        held_against = (study.compare.baseline, study.compare.calibrators)
        record = tracking.RunRecord(
            name=f"{study.name}: comparison",
            key=fingerprint("comparison", study.name, data, splits, study.learning_settings(), held_against),
            params={"baseline": study.compare.baseline}
            | {f"training.{name}": value for name, value in settings.items()},
            tags=self._tags,
            metrics={},
        )
        self.run_id = tracking.log_run(self._store, record)
        self._logged = tracking.logged_cells(self._store, self.run_id)

    def cell(self, cell: Cell, material: ComparisonData) -> None:
        """Log a finished cell, once."""
        if logged_as(self._study, cell) not in self._logged:
            log_cell(self._store, self._study, CellResult.of(cell, material), self.run_id, self._tags)

    def concluded(self, metrics: dict[str, float]) -> None:
        """Add what was found."""
        facts = facts_of(self._study)
        key = fingerprint(metrics, facts)
        folder = self._study.output / "comparison"
        tracking.conclude(self._store, self.run_id, metrics, facts, key, folder)


def run_cells(study: Study, material: ComparisonData, cells: Sequence[Cell], log: Log) -> dict[Cell, str]:
    """Train the cells that are missing where the study's runner puts them; return why some failed."""
    todo = [cell for cell in cells if not cell.is_done]
    missing = set(todo)
    if len(todo) < len(cells):
        say(f"{len(cells) - len(todo)} of {len(cells)} cells are done already.")
    for cell in cells:
        if cell not in missing:
            log.cell(cell, material)
    asked = study.compare
    runner = Runner(asked.runner, asked.workers, asked.retries, study.dask)
    of_round = uuid.uuid4().hex
    # A worker needs to know neither who is told of failures nor where runs are kept.
    orders = [Order(study.without_places(), cell, material.volumes.digest(), of_round) for cell in todo]
    failed: dict[Cell, str] = {}
    with watched(cells, todo, of_round) as watch:
        for outcome in finished(train_cell, orders, runner):
            cell = todo[outcome.index]
            if outcome.error is None:
                watch.done(cell)
                log.cell(cell, material)
            else:
                failed[cell] = str(outcome.error)
                watch.failed(cell, failed[cell])
    return failed


def _conclude(
    study: Study, material: ComparisonData, cells: Sequence[Cell], failed: dict[Cell, str], log: Log
) -> dict[str, Any]:
    told = [f"{cell.title}: {reason}" for cell, reason in failed.items()]
    whole = [cell for cell in cells if cell not in failed]
    if not any(cell.loss.title == study.compare.baseline for cell in whole):
        raise TrainingError(
            "A comparison needs a finished cell of its baseline, all failed",
            where=study.compare.baseline,
            hint=told[0],
        )
    found = statistics(study, [CellResult.of(cell, material) for cell in whole])
    pages = write_pages(study, material, found, told)
    log.concluded(flat(found.by_stage))
    show(found.by_stage, found.published)
    say(f"MLflow run {log.run_id}.")
    return {**pages, "run_id": log.run_id, "published": list(found.published), "failed": told}
