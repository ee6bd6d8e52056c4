"""Compare: every loss with every seed and fold, all else equal; a finished cell is not trained again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from prefect import flow

from flows.comparison.cells import Cell, ComparisonData, Order, load_material, plan, train_cell
from flows.comparison.pages import ComparisonLog, show, write_pages
from flows.comparison.progress import watched
from flows.running.console import progress, say
from flows.running.doors import name_run, opened, report_crash
from flows.running.jobs import Runner
from flows.running.runners import finished
from flows.running.task_runs import JobRuns, step
from pipeline.config import Study, check_purpose
from pipeline.errors import TrainingError
from pipeline.evaluation.comparison.stages import Findings, compare_at_stages
from pipeline.files import exclusive
from pipeline.learning.split_cohort import SplitCohort


@flow(name="compare", flow_run_name=name_run, validate_parameters=False, on_crashed=[report_crash])
def compare(study: str) -> dict[str, Any]:
    """Train with every loss, seed and fold of a study, and compare the results.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """
    with opened(study) as resolved:
        return compare_losses(resolved)


def compare_losses(study: Study) -> dict[str, Any]:
    """Run the comparison of a study; return the paths of its page and table.

    Every loss has the same split, initial weights, augmentation and budget for a given seed and fold. A cell
    that fails is reported and the others continue; the same command again runs only what is missing.

    Raises
    ------
    ConfigError
        If the baseline is not among the losses, a title or seed is given twice, or the cohort cannot be split
        into folds.
    TrainingError
        If every cell of the baseline failed.
    """
    check_purpose(study, "compare")
    with exclusive(study.output / ".compare.lock", "cells of a comparison", wait=False):
        material = load_material(study)
        for fold, split in enumerate(material.splits):
            of_fold = f", fold {fold}" if len(material.splits) > 1 else ""
            say(f"Split{of_fold}: {SplitCohort(material.cohort, material.volumes, split).sizes()}.")
        cells = plan(study, material)
        log = ComparisonLog(study, material)
        failed = train_cells(study, material, cells, log)
        found = find(study, material, cells, failed)
        failures = {cell.title: reason for cell, reason in failed.items()}
        pages = write_pages(study, material, found, failures)
        log.findings(found)
        show(found)
        say(f"MLflow run {log.run_id}.")
        reported = [f"{title}: {reason}" for title, reason in failures.items()]
        return {**pages, "run_id": log.run_id, "published": list(found.published), "failed": reported}


def train_cells(
    study: Study, material: ComparisonData, cells: Sequence[Cell], log: ComparisonLog
) -> dict[Cell, str]:
    """Train the cells that are missing where the study's runner puts them; return why some failed."""
    todo = [cell for cell in cells if not cell.is_done]
    missing = set(todo)
    if len(todo) < len(cells):
        say(f"{len(cells) - len(todo)} of {len(cells)} cells (loss x seed x fold) are done already.")
    for cell in cells:
        if cell not in missing:
            log.cell(cell)
    asked = study.compare
    runner = Runner(asked.runner, asked.workers, asked.retries, study.dask)
    of_round = uuid.uuid4().hex
    # A worker needs neither the addresses for notices nor the place of the runs.
    orders = [Order(study.without_places(), cell, material.volumes.digest(), of_round) for cell in todo]
    failed: dict[Cell, str] = {}
    with watched(cells, todo, of_round) as watch:
        shown = JobRuns([f"train {cell.title}" for cell in todo], len(todo))
        for outcome in finished(train_cell, orders, runner, shown.started):
            cell = todo[outcome.index]
            shown.ended(outcome.index, error=outcome.error)
            if outcome.error is None:
                watch.done(cell)
                log.cell(cell)
            else:
                failed[cell] = str(outcome.error)
                watch.failed(cell, failed[cell])
    return failed


@step("statistics")
def find(study: Study, material: ComparisonData, cells: Sequence[Cell], failed: dict[Cell, str]) -> Findings:
    """Compare the losses on the cells that did not fail."""
    whole = [cell for cell in cells if cell not in failed]
    if not any(cell.loss.title == study.compare.baseline for cell in whole):
        cell, reason = next(iter(failed.items()))
        raise TrainingError(
            f"Every training of the baseline failed; nothing can be compared. {cell.title}: {reason}",
            where=study.compare.baseline,
            hint="fix the cause, then run the same command again",
        )
    with progress("statistics") as tick:
        return compare_at_stages(study, [material.result(cell) for cell in whole], tick)
