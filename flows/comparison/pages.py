"""What a comparison writes: runs in MLflow, a page with its tables, and tables on the console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from flows.comparison.cells import Cell, result_of
from flows.comparison.comparison_data import ComparisonData
from flows.running.console import say, show_table, warn
from flows.running.task_runs import in_flow_run, log_shared, run_in_mlflow, show_rows, show_text
from pipeline import tracking
from pipeline.config import Study
from pipeline.evaluation.comparison.loss_comparison import LossResult
from pipeline.evaluation.comparison.stages import BALANCED, Findings, cell_metrics
from pipeline.evaluation.comparison.tuning import tuned_in_words
from pipeline.evaluation.metrics import METRICS, Metric, metric_named
from pipeline.files import fingerprint
from pipeline.reporting.comparison.comparison_build import build_comparison_report
from pipeline.reporting.comparison.comparison_page import write_comparison_report
from pipeline.reporting.comparison.comparison_summary import summary_of
from pipeline.wording import counted

FOLDER = "comparison"
SHOWN = (
    "negative_log_likelihood",
    "classwise_ece",
    "balanced_accuracy",
    "prior_corrected_balanced_accuracy",
    "macro_auroc",
    "posterior_error",
    "excess_nll",
)
"""The columns of the tables on the console: they fit 120 characters."""


class ComparisonLog:
    """The comparison in MLflow: its run is finished from the start, so that a kill leaves none running.

    Parameters
    ----------
    kind : str
        In the name of the run.
    """

    def __init__(self, study: Study, material: ComparisonData, kind: str = "comparison") -> None:
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
            name=f"{study.name}: {kind}",
            key=fingerprint(kind, study.name, data, splits, study.learning_settings(), compared_with),
            params={"baseline": study.compare.baseline}
            | {f"training.{name}": value for name, value in settings.items()},
            tags=self._tags,
            metrics={},
        )
        self.run_id = tracking.log_run(self._store, record)
        self._logged = tracking.logged_cells(self._store, self.run_id)

    def cell(self, cell: Cell) -> None:
        """Log a finished cell below the run of its comparison, once: settings, curves, metrics by stage."""
        record = self._record(cell)
        if record.key in self._logged:
            return
        curve = cell.learning_curve()
        metrics = cell_metrics(self._study, result_of(self._material, cell))
        if curve.validation_nll is not None:
            metrics["validation_nll"] = curve.validation_nll
        tracking.log_run(self._store, replace(record, metrics=metrics, curves=curve.history))

    def epoch(self, cell: Cell, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch of a cell while it is trained."""
        tracking.log_live(self._store, self._record(cell), epoch, metrics)

    def failed(self, cell: Cell) -> None:
        """Mark the run of a cell as failed, where it was begun."""
        tracking.end_live(self._record(cell).key)

    def _record(self, cell: Cell) -> tracking.RunRecord:
        settings = cell.study(self._study).learning_settings()["training"]
        settings["loss"] = cell.loss.model_dump_json()
        return tracking.RunRecord(
            name=cell.title,
            key=fingerprint(cell.key, self._study.compare.calibrators),
            params={"loss": cell.loss.title, "seed": cell.seed, "fold": cell.fold}
            | ({"subjects": cell.size} if cell.share < 1 else {})
            | {f"training.{name}": value for name, value in settings.items()},
            tags=self._tags,
            metrics={},
            parent=self.run_id,
        )

    def findings(self, found: Findings) -> None:
        """Add the metrics of the losses, the page and the tables to the run."""
        asked = self._study.compare
        tags = {
            "compare.losses": ", ".join(loss.title for loss in asked.losses),
            "compare.seeds": ", ".join(map(str, asked.seeds)),
            "compare.folds": str(len(self._material.splits)),
            "compare.batch_sizes": ", ".join(map(str, asked.batch_sizes)),
            "compare.tuned": "; ".join(tuned_in_words(found.tuned)),
        }
        self.conclude(found.flat(), tags, self._study.output / FOLDER)

    def conclude(self, metrics: Mapping[str, float], tags: Mapping[str, str], folder: Path) -> None:
        """Add metrics, tags and the files of a folder to the run, once."""
        key = fingerprint(metrics, tags)
        tracking.conclude(self._store, self.run_id, metrics, tags, key, folder)


def write_pages(
    study: Study, material: ComparisonData, found: Findings, failed: Mapping[str, str], run_id: str
) -> dict[str, str]:
    """Write the page and the tables of a comparison, with the id of its MLflow run; return their paths."""
    report = build_comparison_report(
        study,
        found,
        material.volumes.class_names,
        failed,
        run_id=run_id,
        synthetic=material.cohort.posterior is not None,
    )
    written = write_comparison_report(report, study.output / FOLDER)
    return {name: str(path) for name, path in written.items()}


def show(found: Findings) -> None:
    """Print a table and the sentences of every stage, then what limits the comparison.

    The tables fit a terminal of 120 columns: intervals have a line of their own, and what has no place is on
    the page.
    """
    for stage, of_stage in found.stages.items():
        comparison = of_stage.comparison
        first = comparison.results[0]
        columns = [metric_named(name) for name in SHOWN if name in first.metrics]
        rows = [
            [result.loss, *(_cell(result, metric) for metric in columns)] for result in comparison.results
        ]
        folds = f", {first.folds} folds" if first.folds > 1 else ""
        title = (
            f"{stage}: {comparison.scans} test scans, {counted(first.seeds, 'seed')}{folds}, "
            f"{100 * comparison.level:g} % intervals over subjects and seeds"
        )
        show_table(title, ["loss", *(metric.title for metric in columns)], rows)
        for sentence in summary_of(comparison)[1:]:
            say(f"  {sentence}")
    last, of_stage = list(found.stages.items())[-1]
    for shares, test in of_stage.tests.items():
        columns = [metric_named(name) for name in test.results[0].metrics if name in METRICS]
        rows = [[r.loss, *(_cell(r, metric) for metric in columns)] for r in test.results]
        title = f"{last}, test weighted to be {shares}" if shares == BALANCED else f"{last}, test at {shares}"
        show_table(title, ["loss", *(metric.title for metric in columns)], rows)
    for sentence in (*tuned_in_words(found.tuned), *found.published):
        say(f"  {sentence}")
    for sentence in found.cautions:
        warn(sentence)


def show_in_prefect(study: Study, found: Findings, failed: Mapping[str, str], run_id: str) -> None:
    """Add the results after the last stage, what failed, and where the page is to the flow run in Prefect."""
    if not in_flow_run():
        return
    last, of_stage = list(found.stages.items())[-1]
    comparison = of_stage.comparison
    columns = [metric_named(name) for name in SHOWN if name in comparison.results[0].metrics]
    rows = [
        {
            "loss": result.loss,
            **{m.title: " ".join(_cell(result, m).split()) for m in columns},
            "compared": result.sentence,
        }
        for result in comparison.results
    ]
    show_rows("results", rows, f"{last}: {comparison.scans} test scans")
    # Why a cell failed can name a folder: its task run has the kind of the error.
    show_rows("failed-cells", [{"cell": title} for title in failed], f"{len(failed)} cells failed")
    log_shared(f"{len(comparison.results)} losses compared, {len(failed)} cells failed.")
    where = tracking.store_of(study.tracking, study.output).experiment_id()
    page = run_in_mlflow(where, run_id, report="comparison.html")
    show_text("mlflow-run", page, "Where the comparison and its files are")


def _cell(result: LossResult, metric: Metric) -> str:
    value, interval = metric.parts(result.metrics[metric.name])
    floor = result.noise.get(metric.name)
    noise = "" if floor is None else f"\nnoise {metric.number(floor)}"
    return f"{value}\n{interval}{noise}"
