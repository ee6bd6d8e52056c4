"""What a comparison writes: runs in MLflow, a page with its tables, and tables on the console."""

from __future__ import annotations

from collections.abc import Mapping

from flows.comparison.cells import Cell, ComparisonData
from flows.running.console import say, show_table
from pipeline import tracking
from pipeline.config import Study
from pipeline.evaluation.comparison.loss_comparison import LossResult
from pipeline.evaluation.comparison.seed_runs import COVERAGE
from pipeline.evaluation.comparison.stages import Findings, cell_metrics
from pipeline.evaluation.metrics import TABLE, Metric, metric_named
from pipeline.files import fingerprint
from pipeline.reporting.comparison.comparison_build import build_comparison_report
from pipeline.reporting.comparison.comparison_page import write_comparison_report

FOLDER = "comparison"
SHOWN = (*TABLE, "excess_nll", COVERAGE, "set_size")
"""The columns of the tables on the console."""


class ComparisonLog:
    """The comparison in MLflow: its run is finished from the start, so that a kill leaves none running."""

    def __init__(self, study: Study, material: ComparisonData) -> None:
        self._study, self._material = study, material
        self._store = tracking.store_of(study.tracking, study.output)
        splits = [split.digest() for split in material.splits]
        data = material.volumes.digest()
        split_digest = splits[0] if len(splits) == 1 else fingerprint(splits)
        self._tags = {"data.digest": data, "split.digest": split_digest}
        settings = {**study.learning_settings()["training"]}
        settings.pop("loss")
        compared_with = (study.compare.baseline, study.compare.calibrators)
        record = tracking.RunRecord(
            name=f"{study.name}: comparison",
            key=fingerprint("comparison", study.name, data, splits, study.learning_settings(), compared_with),
            params={"baseline": study.compare.baseline}
            | {f"training.{name}": value for name, value in settings.items()},
            tags=self._tags,
            metrics={},
        )
        self.run_id = tracking.log_run(self._store, record)
        self._logged = tracking.logged_cells(self._store, self.run_id)

    def cell(self, cell: Cell) -> None:
        """Log a finished cell below the run of its comparison, once: settings, curves, metrics by stage."""
        key = fingerprint(cell.key, self._study.compare.calibrators)
        if key in self._logged:
            return
        settings = cell.study(self._study).learning_settings()["training"]
        settings["loss"] = cell.loss.model_dump_json()
        curve = cell.learning_curve()
        metrics = cell_metrics(self._study, self._material.result(cell))
        if curve.validation_nll is not None:
            metrics["validation_nll"] = curve.validation_nll
        record = tracking.RunRecord(
            name=cell.title,
            key=key,
            params={"loss": cell.loss.title, "seed": cell.seed, "fold": cell.fold}
            | {f"training.{name}": value for name, value in settings.items()},
            tags=self._tags,
            metrics=metrics,
            curves=curve.history,
            parent=self.run_id,
        )
        tracking.log_run(self._store, record)

    def findings(self, found: Findings) -> None:
        """Add the metrics of the losses, the page and the tables to the run."""
        asked, metrics = self._study.compare, found.flat()
        tags = {
            "compare.losses": ", ".join(loss.title for loss in asked.losses),
            "compare.seeds": ", ".join(map(str, asked.seeds)),
            "compare.folds": str(asked.folds),
        }
        key, folder = fingerprint(metrics, tags), self._study.output / FOLDER
        tracking.conclude(self._store, self.run_id, metrics, tags, key, folder)


def write_pages(
    study: Study, material: ComparisonData, found: Findings, failed: Mapping[str, str]
) -> dict[str, str]:
    """Write the page and the tables of a comparison; return their paths."""
    report = build_comparison_report(
        study,
        found,
        material.volumes.class_names,
        failed,
        run_id=fingerprint(material.volumes.digest(), study.learning_settings()),
        synthetic=material.cohort.posterior is not None,
    )
    written = write_comparison_report(report, study.output / FOLDER)
    return {name: str(path) for name, path in written.items()}


def show(found: Findings) -> None:
    """Print a table and the sentences of every stage, then published figures."""
    for stage, of_stage in found.stages.items():
        comparison = of_stage.comparison
        first = comparison.results[0]
        columns = [metric_named(name) for name in SHOWN if name in first.metrics]
        rows = [
            [result.loss, *(_cell(result, metric) for metric in columns)] for result in comparison.results
        ]
        folds = f", {first.folds} folds" if first.folds > 1 else ""
        title = (
            f"{stage}: {comparison.scans} test scans, {first.seeds} seeds{folds}, "
            f"{100 * comparison.level:g} % intervals over subjects and seeds"
        )
        show_table(title, ["loss", *(metric.title for metric in columns)], rows)
        for result in comparison.results[1:]:
            say(f"  {result.sentence}")
    for sentence in found.published:
        say(f"  {sentence}")


def _cell(result: LossResult, metric: Metric) -> str:
    text, floor = metric.text(result.metrics[metric.name]), result.noise.get(metric.name)
    return text if floor is None else f"{text}, noise {metric.number(floor)}"
