"""Compare: every loss with every seed and fold, all else equal; a finished cell is not trained again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from prefect import flow

from flows.comparison.cells import Cell, Order, plan, results_of, train_cell, tuned_options
from flows.comparison.comparison_data import ComparisonData, load_material
from flows.comparison.pages import ComparisonLog, show, show_in_prefect, write_pages
from flows.comparison.progress import watched
from flows.running.console import progress, say
from flows.running.doors import name_run, opened, report_crash
from flows.running.epochs import following
from flows.running.job_runs import JobRuns
from flows.running.jobs import Runner
from flows.running.runners import finished
from flows.running.task_runs import step
from pipeline.config import Study, check_purpose
from pipeline.errors import TrainingError
from pipeline.evaluation.comparison.cautions import cautions_of
from pipeline.evaluation.comparison.stages import Findings, compare_at_stages
from pipeline.files import exclusive
from pipeline.learning.learning_checks import check_comparison
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

    Every loss has the same split, initial weights, augmentation and budget for a given seed, fold and batch
    size. Losses whose main option is not stated are first trained with three values of it. A cell that fails
    is reported and the others continue; the same command again runs only what is missing.

    Raises
    ------
    ConfigError
        If the baseline is not among the losses, a title or seed is given twice, or the cohort cannot be split
        into folds.
    TrainingError
        If every cell of the baseline failed.
    """
    check_purpose(study, "compare")
    check_comparison(study)
    with exclusive(study.output / ".compare.lock", "cells of a comparison", wait=False):
        material = load_material(study)
        show_splits(material)
        first = plan(study, material)
        log = ComparisonLog(study, material)
        failed = train_cells(study, material, first, log)
        tuned = tuned_options(first, failed)
        cells = plan(study, material, tuned)
        trained = {cell.folder for cell in first}
        if later := [cell for cell in cells if cell.folder not in trained]:
            failed |= train_cells(study, material, later, log)
        found = replace(find(study, material, cells, failed), tuned=tuned)
        pages = write_pages(study, material, found, failed, log.run_id)
        log.findings(found)
        show(found)
        show_in_prefect(study, found, failed, log.run_id)
        say(f"MLflow run {log.run_id}.")
        reported = [f"{title}: {reason}" for title, reason in failed.items()]
        return {**pages, "run_id": log.run_id, "published": list(found.published), "failed": reported}


def show_splits(material: ComparisonData) -> None:
    """Print how many scans each part of each fold has, and which of them calibrate."""
    for fold, split in enumerate(material.splits):
        of_fold = f", fold {fold}" if len(material.splits) > 1 else ""
        say(f"Split{of_fold}: {SplitCohort(material.cohort, material.volumes, split).sizes()}.")
    if material.cross_fitted:
        say("Cross-fitted: each fold is calibrated on the scans that the other folds held out.")


def train_cells(
    study: Study, material: ComparisonData, cells: Sequence[Cell], log: ComparisonLog
) -> dict[str, str]:
    """Train the cells that are missing where the study's runner puts them; return title -> why it failed."""
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
    orders = [Order(study.for_worker(), cell, material.volumes.digest(), of_round) for cell in todo]
    failed: dict[str, str] = {}
    shown = JobRuns([f"train {cell.title}" for cell in todo], len(todo))

    def epoch_done(index: int, epoch: int, metrics: Mapping[str, float]) -> None:
        log.epoch(todo[index], epoch, metrics)

    with (
        watched(cells, todo, of_round) as watch,
        following([cell.folder for cell in todo], epoch_done) as follower,
    ):

        def started(index: int) -> None:
            shown.started(index)
            follower.started(index)

        for outcome in finished(train_cell, orders, runner, started):
            cell = todo[outcome.index]
            follower.ended(outcome.index)
            shown.ended(outcome.index, error=outcome.error)
            if outcome.error is None:
                watch.done(cell)
                log.cell(cell)
            else:
                failed[cell.title] = str(outcome.error)
                log.failed(cell)
                watch.failed(cell, failed[cell.title])
    return failed


@step("statistics")
def find(study: Study, material: ComparisonData, cells: Sequence[Cell], failed: dict[str, str]) -> Findings:
    """Compare the losses on the cells that did not fail; add to those that did what cannot be calibrated.

    Raises
    ------
    TrainingError
        If every training of the baseline failed at one of the batch sizes.
    """
    whole = [cell for cell in cells if cell.title not in failed]
    results = results_of(material, whole)
    tested = {(result.loss, result.seed, result.fold, result.batch_size) for result in results}
    for cell in whole:
        if (cell.loss.title, cell.seed, cell.fold, cell.batch_size) not in tested:
            failed[cell.title] = "no other fold of it was finished, so no scans calibrate it"
    sizes = study.compare.batch_sizes or (None,)
    with_baseline = {result.batch_size for result in results if result.loss == study.compare.baseline}
    if not with_baseline.issuperset(sizes):
        title, reason = next(iter(failed.items()))
        raise TrainingError(
            f"Every training of the baseline failed; nothing can be compared. {title}: {reason}",
            where=study.compare.baseline,
            hint="fix the cause, then run the same command again",
        )
    with progress("statistics") as tick:
        found = compare_at_stages(study, results, tick)
    return replace(found, cautions=cautions_of(study, results), cross_fitted=material.cross_fitted)
