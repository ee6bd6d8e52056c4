"""What a comparison ends with: statistics at every stage, tables, a page, runs in MLflow."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.comparison.cells import PRIOR_CORRECTION, Cell, ComparisonData
from flows.comparison.comparison_facts import curve_facts, stage_facts, stages_of
from flows.running.console import progress, say, show_table
from models.calibrators import build_calibrator
from models.conformal import ConformalSets
from pipeline import tracking
from pipeline.config import Study
from pipeline.evaluation.comparison.loss_comparison import Comparison, compare_runs
from pipeline.evaluation.comparison.published import beside_published, published_for
from pipeline.evaluation.comparison.seed_runs import COVERAGE, Run
from pipeline.evaluation.metrics import METRICS, TABLE, metric_named
from pipeline.evaluation.metrics.scores import PROBABILITY_FLOOR
from pipeline.files import fingerprint, read_json, today
from pipeline.learning.predictions import Predictions
from pipeline.learning.prior_correction import PriorCorrection
from pipeline.reporting.comparison.comparison_numbers import ComparisonReport, LossReliability, LossRisk
from pipeline.reporting.comparison.comparison_page import write_comparison_report
from pipeline.reporting.page.facts import Named

TESTED = ("negative_log_likelihood", "classwise_ece", "balanced_accuracy", "macro_auroc")
MEASURED = (
    "brier_score",
    "expected_calibration_error",
    "maximum_calibration_error",
    "ks_calibration_error",
    "overconfidence_error",
    "accuracy",
    "macro_f1",
    "risk_coverage_area",
)
"""What gets a mean and an interval but no test. Kernel errors take seconds a run and are left out."""
SHOWN = (*TABLE, "excess_nll", COVERAGE, "set_size")
"""The columns of the tables on the console."""


@dataclass(frozen=True, eq=False)
class CellResult:
    """What a finished cell left: its logits, and what was undone of its loss."""

    cell: Cell
    calibration: Predictions
    test: Predictions
    prior_correction: PriorCorrection
    training_scans: int
    posterior: NDArray[np.float64] | None

    @classmethod
    def of(cls, cell: Cell, material: ComparisonData) -> CellResult:
        """Read what a finished cell left."""
        calibration, test = (Predictions.load(cell.folder / f"{p}.npz") for p in ("calibration", "test"))
        prior_correction = PriorCorrection.from_dict(read_json(cell.folder / PRIOR_CORRECTION))
        trained_on = len(material.splits[cell.fold].train)
        return cls(cell, calibration, test, prior_correction, trained_on, material.posterior(test.scan_ids))

    def run(self, study: Study, calibrator_name: str) -> Run:
        """Return the cell's test scans after a calibrator; calibration scans fit it and the sets."""
        calibrator = build_calibrator(calibrator_name)
        # A loss is first judged by its own logits: what it does for rare classes is its point.
        as_trained = not calibrator.needs_fitting or not study.compare.undo_weighting
        parts = (self.calibration, self.test)
        held, tested = (self.prior_correction.reverse(p.logits) if as_trained else p.logits for p in parts)
        calibrator.fit(held, self.calibration.labels)
        probabilities = calibrator.transform(tested)
        sets = ConformalSets.fit(
            calibrator.transform(held), self.calibration.labels, study.decision.coverage
        ).sets(probabilities)
        return Run(
            loss=self.cell.loss.title,
            seed=self.cell.seed,
            fold=self.cell.fold,
            training_scans=self.training_scans,
            scan_ids=self.test.scan_ids,
            subjects=self.test.subjects,
            labels=self.test.labels,
            probabilities=probabilities,
            per_scan={**self._beside_truth(probabilities), **_of_sets(sets, self.test.labels)},
        )

    def _beside_truth(self, probabilities: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        if self.posterior is None:
            return {}
        rows = np.arange(len(self.test))
        said, true = (
            np.log(np.maximum(p[rows, self.test.labels], PROBABILITY_FLOOR))
            for p in (probabilities, self.posterior)
        )
        return {
            "posterior_error": np.abs(probabilities - self.posterior).mean(axis=1),
            "excess_nll": true - said,
        }


def _of_sets(sets: NDArray[np.bool_], labels: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    holds = sets[np.arange(len(labels)), labels]
    return {COVERAGE: holds.astype(np.float64), "set_size": sets.sum(axis=1).astype(np.float64)}


def logged_as(study: Study, cell: Cell) -> str:
    """Return the key of a cell's run: what is logged of it depends on the calibrators too."""
    return fingerprint(cell.key, study.compare.calibrators)


def log_cell(
    store: tracking.Store, study: Study, kept: CellResult, parent: str, tags: Mapping[str, str]
) -> None:
    """Log a finished cell below the run of its comparison: settings, curves, metrics at every stage."""
    cell = kept.cell
    settings = cell.study(study).learning_settings()["training"]
    settings["loss"] = cell.loss.model_dump_json()
    metrics = {
        f"{stage.replace(' ', '_')}.{name}": METRICS[name](run.probabilities, run.labels)
        for stage, calibrator in stages_of(study).items()
        for run in [kept.run(study, calibrator)]
        for name in TESTED
    }
    course = cell.learning_curve()
    if course.validation_nll is not None:
        metrics["validation_nll"] = course.validation_nll
    record = tracking.RunRecord(
        name=cell.title,
        key=logged_as(study, cell),
        params={"loss": cell.loss.title, "seed": cell.seed, "fold": cell.fold}
        | {f"training.{name}": value for name, value in settings.items()},
        tags=tags,
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        curves=course.history,
        parent=parent,
    )
    tracking.log_run(store, record)


@dataclass(frozen=True)
class Findings:
    """What the runs of a comparison show: by stage, beside what others have published, and as curves."""

    by_stage: Mapping[str, Comparison]
    published: tuple[str, ...]
    reliability: tuple[LossReliability, ...]
    risk: tuple[LossRisk, ...]


def statistics(study: Study, kept: Sequence[CellResult]) -> Findings:
    """Compare the losses at every stage; also say what others have published for such data."""
    baseline, level = study.compare.baseline, study.evaluation.level
    tested = TESTED + (("posterior_error",) if kept[0].posterior is not None else ())
    compared: dict[str, Comparison] = {}
    runs: dict[str, list[Run]] = {}
    reliability: list[LossReliability] = []
    risk: list[LossRisk] = []
    with progress("statistics") as tick:
        stages = stages_of(study)
        for done, (stage, calibrator) in enumerate(stages.items()):
            tick(done, len(stages), stage)
            runs[calibrator] = [one.run(study, calibrator) for one in kept]
            compared[stage] = compare_runs(
                runs[calibrator], baseline, tested,
                measured=MEASURED, draws=study.evaluation.draws, level=level, seed=study.seed,
            )  # fmt: skip
            of_stage = curve_facts(stage, runs[calibrator], baseline, level)
            reliability += of_stage[0]
            risk += of_stage[1]
        tick(len(stages), len(stages), "")
    names = {loss.title: loss.name for loss in study.compare.losses}
    figures = published_for(study.cohort.kind, study.imbalance.ratio)
    published = tuple(row.sentence for row in beside_published(figures, runs, names))
    return Findings(compared, published, tuple(reliability), tuple(risk))


def write_pages(
    study: Study,
    material: ComparisonData,
    found: Findings,
    failed: Sequence[str],
) -> dict[str, str]:
    """Write the page and the tables of a comparison; return their paths."""
    first = next(iter(found.by_stage.values()))
    report = ComparisonReport(
        title=study.name,
        report_date=today(),
        run_id=fingerprint(material.volumes.digest(), study.learning_settings()),
        synthetic=material.cohort.posterior is not None,
        class_names=material.volumes.class_names,
        baseline=study.compare.baseline,
        test_scans=first.scans,
        test_subjects=first.subjects,
        level=first.level,
        set_coverage=study.decision.coverage,
        stages=tuple(
            stage_facts(study, name, comparison, material.volumes.class_names)
            for name, comparison in found.by_stage.items()
        ),
        reliability=found.reliability,
        risk=found.risk,
        published=found.published,
        failed=tuple(Named(label=f.partition(": ")[0], value=f.partition(": ")[2]) for f in failed),
        versions=(Named(label="taucal", value=metadata.version("taucal")),),
    )
    pages = write_comparison_report(report, study.output / "comparison")
    return {name: str(path) for name, path in pages.items()}


def flat(by_stage: Mapping[str, Comparison]) -> dict[str, float]:
    """Return the metrics of every loss and stage under names a tracker takes."""
    return {
        re.sub(r"[^A-Za-z0-9._]+", "_", f"{stage}.{result.loss}.{name}"): interval.value
        for stage, comparison in by_stage.items()
        for result in comparison.results
        for name, interval in result.metrics.items()
        if math.isfinite(interval.value)
    }


def show(by_stage: Mapping[str, Comparison], published: Sequence[str]) -> None:
    """Print a table and the sentences of every stage, then what others have published."""
    for stage, comparison in by_stage.items():
        first = comparison.results[0]
        columns = [metric_named(name) for name in SHOWN if name in first.metrics]
        rows = [
            [result.loss, *(metric.text(result.metrics[metric.name]) for metric in columns)]
            for result in comparison.results
        ]
        folds = f", {first.folds} folds" if first.folds > 1 else ""
        title = (
            f"{stage}: {comparison.scans} test scans, {first.seeds} seeds{folds}, "
            f"{100 * comparison.level:g} % intervals over subjects and seeds"
        )
        show_table(title, ["loss", *(metric.title for metric in columns)], rows)
        for result in comparison.results[1:]:
            say(f"  {result.sentence}")
    for sentence in published:
        say(f"  {sentence}")


def facts_of(study: Study) -> dict[str, Any]:
    """Return what a tracker is told of a comparison as a whole."""
    losses = ", ".join(loss.title for loss in study.compare.losses)
    seeds = ", ".join(map(str, study.compare.seeds))
    return {"compare.losses": losses, "compare.seeds": seeds, "compare.folds": str(study.compare.folds)}
