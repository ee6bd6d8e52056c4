"""Compare: every loss with every seed, all else equal; a cell that is done is not done again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from flows.cohorts import cohort_and_split, sizes_in_words
from flows.console import progress, say, show_table
from flows.names import check_names
from flows.scan_reports import today
from flows.steps import as_flow, as_task, run_once
from flows.train import SHOWN, cell_of, decisive
from models.calibrators import build_calibrator
from pipeline import tracking
from pipeline.config import LossSettings, Study
from pipeline.errors import ConfigError, TrainingError
from pipeline.evaluation.comparison import Comparison, Run, compare_runs
from pipeline.files import fingerprint, read_json, write_json
from pipeline.learning.inference import predict
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.posterior import Undone
from pipeline.learning.prediction import Predictions
from pipeline.learning.training import train
from pipeline.reporting.comparison_report import ComparisonReport, LossRow, write_comparison_report
from pipeline.reporting.page import Named
from pipeline.scan import Split

STAGES = {
    "uncalibrated": "identity",
    "one temperature": "temperature",
    "adaptive temperature": "adaptive_temperature",
}
"""What tables call a calibrator -> its name; each is fitted on the calibration part of the split.

Uncalibrated is as the loss trained it. A calibrator gets logits with class weights undone, if asked for."""

UNDONE = "undone.json"

METRICS_COMPARED = ("negative_log_likelihood", "classwise_ece", "balanced_accuracy", "macro_auroc")


@dataclass(frozen=True)
class Cell:
    """One loss with one seed."""

    loss: LossSettings
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        """What progress and failures call it."""
        return f"{self.loss.title}, seed {self.seed}"


def compare_losses(study: Study) -> dict[str, Any]:
    """Run the comparison of a study as a Prefect flow; return the paths of its page and table.

    Every loss has the same split, initial weights, augmentation and budget for a given seed. A cell that
    fails is told and the others go on; the same command again runs only what is missing.

    Raises
    ------
    ConfigError
        If the baseline is not among the losses or a title stands twice.
    """
    check_names(study)
    titles = [loss.title for loss in study.compare.losses]
    if study.compare.baseline not in titles or len(set(titles)) != len(titles):
        raise ConfigError(
            f"compare.baseline must be one of the distinct losses {', '.join(titles)}, "
            f"got {study.compare.baseline}",
            culprit=study.name,
            mend="mend compare.baseline or give each loss its own label",
        )
    return as_flow("compare", lambda: _compare(study))


def _compare(study: Study) -> dict[str, Any]:
    _, volumes, split = cohort_and_split(study)
    say(f"Split: {sizes_in_words(split, volumes)}.")
    cells = [
        Cell(loss, seed, study.output / "cells" / f"{loss.title.replace(' ', '_')}-seed{seed}")
        for seed in study.compare.seeds
        for loss in study.compare.losses
    ]
    failed = []
    with progress("compare") as tick:
        for done, cell in enumerate(cells):
            tick(done, len(cells), cell.title)
            try:
                run_cell(study, cell, volumes, split)
            except TrainingError as error:
                failed.append(f"{cell.title}: {error}")
                say(f"Failed, the others go on: {cell.title}: {error}")
        tick(len(cells), len(cells), "")
    whole = [cell for cell in cells if not any(f.startswith(cell.title + ":") for f in failed)]
    return as_task("statistics", lambda: _conclude(study, whole, failed, volumes, split))


def run_cell(study: Study, cell: Cell, volumes: LabelledVolumes, split: Split) -> None:
    """Train one loss with one seed and keep its logits, unless that is done already."""
    training = study.training.model_copy(update={"loss": cell.loss})
    mine = study.model_copy(update={"seed": cell.seed, "training": training})
    key = fingerprint(volumes.digest(), split.digest(), decisive(mine))

    def work() -> Iterable[Path]:
        trained = train(volumes, split, mine, cell.folder / "training")
        for part in ("calibration", "test"):
            predictions = predict(trained.network, volumes.subset(split.part(part)), device=training.device)
            yield predictions.save(cell.folder / f"{part}.npz")
        yield write_json(cell.folder / UNDONE, trained.undone.to_dict())

    as_task("train a cell", lambda: run_once(cell.folder / "done.json", key, work))


def _conclude(
    study: Study, cells: list[Cell], failed: list[str], volumes: LabelledVolumes, split: Split
) -> dict[str, Any]:
    by_stage = {stage: compare_runs(
        [_run(study, cell, stage, len(split.train)) for cell in cells],
        study.compare.baseline, METRICS_COMPARED,
        draws=study.evaluation.draws, level=study.evaluation.level, seed=study.seed,
    ) for stage in STAGES}  # fmt: skip
    folder = study.output / "comparison"
    report = _report(study, by_stage, failed, volumes)
    pages = write_comparison_report(report, folder)
    run_id = _log(study, by_stage, folder, volumes, split)
    say(f"MLflow run {run_id}.")
    for stage, comparison in by_stage.items():
        _show(stage, comparison)
    return {**{name: str(path) for name, path in pages.items()}, "failed": failed}


def _run(study: Study, cell: Cell, stage: str, training_scans: int) -> Run:
    calibration, test = (Predictions.load(cell.folder / f"{part}.npz") for part in ("calibration", "test"))
    undone = Undone.from_dict(read_json(cell.folder / UNDONE))
    calibrator = build_calibrator(STAGES[stage])
    # A loss is first judged by its own logits: what it does for rare classes is its point.
    as_trained = not calibrator.needs_fitting or not study.compare.undo_weighting
    shown = [undone.reverse(p.logits) if as_trained else p.logits for p in (calibration, test)]
    calibrator.fit(shown[0], calibration.labels)
    return Run(
        loss=cell.loss.title,
        seed=cell.seed,
        fold=0,
        training_scans=training_scans,
        scan_ids=test.scan_ids,
        subjects=test.subjects,
        labels=test.labels,
        probabilities=calibrator.transform(shown[1]),
    )


def _report(
    study: Study, by_stage: dict[str, Comparison], failed: list[str], volumes: LabelledVolumes
) -> ComparisonReport:
    before, after = by_stage["uncalibrated"], by_stage["adaptive temperature"]
    raw = {result.loss: result for result in before.results}
    rows = []
    for result in after.results:
        recall = {name: i.value for name, i in zip(volumes.class_names, result.recall, strict=True)}
        differences = {
            d.metric: {
                "value": d.interval.value,
                "low": d.interval.low,
                "high": d.interval.high,
                "p": d.p_holm,
            }
            for d in result.differences
        }
        rows.append(
            LossRow(
                name=result.loss,
                seeds=result.seeds,
                calibrator="adaptive temperature",
                before={name: asdict(i) for name, i in raw[result.loss].metrics.items()},
                after={name: asdict(i) for name, i in result.metrics.items()},
                difference=differences,
                recall=recall,
            )
        )
    return ComparisonReport(
        title=study.name,
        report_date=today(),
        run_id=fingerprint(volumes.digest(), decisive(study)),
        class_names=volumes.class_names,
        baseline=study.compare.baseline,
        test_scans=after.scans,
        test_subjects=after.subjects,
        losses=tuple(rows),
        failed=tuple(Named(label=f.partition(": ")[0], value=f.partition(": ")[2]) for f in failed),
        versions=(Named(label="taucal", value=metadata.version("taucal")),),
    )


def _log(
    study: Study, by_stage: dict[str, Comparison], folder: Path, volumes: LabelledVolumes, split: Split
) -> str:
    store = tracking.store_of(study.tracking, study.output)
    metrics = {
        re.sub(r"[^A-Za-z0-9.]+", "_", f"{stage}.{result.loss}.{name}"): interval.value
        for stage, comparison in by_stage.items()
        for result in comparison.results
        for name, interval in result.metrics.items()
    }
    losses = ", ".join(loss.title for loss in study.compare.losses)
    record = tracking.RunRecord(
        name=f"{study.name}: comparison",
        key=fingerprint("comparison", volumes.digest(), split.digest(), metrics),
        params={"losses": losses, "seeds": study.compare.seeds, "baseline": study.compare.baseline},
        tags={"data.digest": volumes.digest(), "split.digest": split.digest()},
        metrics=metrics,
    )
    return tracking.log_run(store, record, folder)


def _show(stage: str, comparison: Comparison) -> None:
    rows = [
        [result.loss, *(cell_of(result.metrics[name], name) for name in METRICS_COMPARED)]
        for result in comparison.results
    ]
    seeds = comparison.results[0].seeds
    title = f"{stage}: {comparison.scans} test scans, {seeds} seeds, 95 % intervals over subjects and seeds"
    show_table(title, ["loss", *(SHOWN[name] for name in METRICS_COMPARED)], rows)
    for result in comparison.results[1:]:
        say(f"  {result.sentence}")
