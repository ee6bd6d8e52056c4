"""The statistics of a comparison at every stage: losses as trained, and after each calibrator."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import Study
from pipeline.evaluation.comparison.cell_result import CellResult
from pipeline.evaluation.comparison.loss_comparison import Comparison, compare_runs
from pipeline.evaluation.comparison.pooled_curves import (
    MeanRisk,
    PooledReliability,
    comparable_runs,
    mean_risk,
    pooled_reliability,
)
from pipeline.evaluation.comparison.published import beside_published, published_for
from pipeline.evaluation.comparison.seed_runs import Run
from pipeline.evaluation.metrics import metric_named

TESTED = ("negative_log_likelihood", "classwise_ece_above_noise", "balanced_accuracy", "macro_auroc")
"""Metrics whose differences are tested; of calibration errors what lies above noise."""
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
"""Metrics with a mean and an interval but no test. Kernel errors take seconds a run and are left out."""

_TITLES = {
    "identity": "uncalibrated",
    "temperature": "one temperature",
    "bias_corrected_temperature": "temperature and offsets",
    "adaptive_temperature": "adaptive temperature",
    "ensemble_temperature": "ensemble of temperatures",
    "vector": "vector scaling",
    "dirichlet": "Dirichlet calibration",
    "isotonic": "isotonic regression",
    "histogram": "histogram binning",
}


@dataclass(frozen=True)
class StageFindings:
    """The statistics and curves of one stage.

    Parameters
    ----------
    calibrator : str
        Its name; the identity leaves the logits as the loss trained them.
    reliability : mapping of str to PooledReliability
        By loss.
    risk : mapping of str to MeanRisk
        By loss.
    """

    calibrator: str
    comparison: Comparison
    reliability: Mapping[str, PooledReliability]
    risk: Mapping[str, MeanRisk]


@dataclass(frozen=True)
class Findings:
    """The findings of a comparison: by stage, and compared with published figures.

    Parameters
    ----------
    stages : mapping of str to StageFindings
        By the stage's title, the uncalibrated one first.
    published : tuple of str
        Sentences.
    """

    stages: Mapping[str, StageFindings]
    published: tuple[str, ...]

    def flat(self) -> dict[str, float]:
        """Return the finite metrics of every stage and loss under names that MLflow accepts."""
        return {
            re.sub(r"[^A-Za-z0-9._]+", "_", f"{stage}.{result.loss}.{name}"): interval.value
            for stage, found in self.stages.items()
            for result in found.comparison.results
            for name, interval in result.metrics.items()
            if math.isfinite(interval.value)
        }


def stage_titles(study: Study) -> dict[str, str]:
    """Return the stages at which a study compares its losses: title -> name of the calibrator."""
    return {_TITLES.get(name, name): name for name in ("identity", *study.compare.calibrators)}


def cell_metrics(study: Study, result: CellResult) -> dict[str, float]:
    """Return the tested metrics of one cell at every stage, where they are finite."""
    found = {
        f"{stage.replace(' ', '_')}.{name}": metric_named(name)(run.probabilities, run.labels)
        for stage, calibrator in stage_titles(study).items()
        for run in [_run(study, result, calibrator)]
        for name in (*TESTED, "classwise_ece")
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def compare_at_stages(
    study: Study, results: Sequence[CellResult], tick: Callable[[int, int, str], None]
) -> Findings:
    """Compare the losses at every stage, with each other and with published figures.

    Parameters
    ----------
    results : sequence of CellResult
        At least one of the baseline.
    tick : callable
        Called with the number of stages that are done, all stages, and the title of the next.
    """
    baseline, level, titles = study.compare.baseline, study.evaluation.level, stage_titles(study)
    tested = TESTED + (("posterior_error",) if results[0].posterior is not None else ())
    stages: dict[str, StageFindings] = {}
    runs: dict[str, list[Run]] = {}
    for stage, name in titles.items():
        tick(len(stages), len(titles), stage)
        runs[name] = [_run(study, result, name) for result in results]
        comparison = compare_runs(
            runs[name], baseline, tested,
            measured=MEASURED, draws=study.evaluation.draws, level=level, seed=study.seed,
        )  # fmt: skip
        of_loss = comparable_runs(runs[name], baseline)
        stages[stage] = StageFindings(
            name,
            comparison,
            {loss: pooled_reliability(its, level=level) for loss, its in of_loss.items()},
            {loss: mean_risk(its) for loss, its in of_loss.items()},
        )
    tick(len(titles), len(titles), "")
    names = {loss.title: loss.name for loss in study.compare.losses}
    figures = published_for(study.cohort.kind, study.imbalance.ratio)
    return Findings(stages, tuple(row.sentence for row in beside_published(figures, runs, names)))


def _run(study: Study, result: CellResult, calibrator: str) -> Run:
    correct, coverage = study.compare.undo_weighting, study.decision.coverage
    return result.run(calibrator, correct_prior=correct, coverage=coverage)
