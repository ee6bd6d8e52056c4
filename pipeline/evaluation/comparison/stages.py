"""The statistics of a comparison at every stage: losses as trained, and after each calibrator."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.names import CALIBRATOR_TITLES
from models.prevalence import adjust_prevalence
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
from pipeline.evaluation.comparison.tuning import TunedOption
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
AT_SHARES = ("negative_log_likelihood", "accuracy")
"""Metrics that are tested on a test part weighted to other class shares."""
AT_TRAINING, BALANCED = "class shares of training", "balanced"
PRIOR_CORRECTED = "{}, prior-corrected"
"""Title of the row with the probabilities of cross-entropy at equal class shares."""


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
    tests : mapping of str to Comparison
        By `AT_TRAINING` and `BALANCED`: the same predictions on the test scans weighted to such shares.
    batch_size : int or None
        None where the comparison has one.
    """

    calibrator: str
    comparison: Comparison
    reliability: Mapping[str, PooledReliability]
    risk: Mapping[str, MeanRisk]
    tests: Mapping[str, Comparison] = field(default_factory=dict)
    batch_size: int | None = None


@dataclass(frozen=True)
class Findings:
    """The findings of a comparison: by stage, and compared with published figures.

    Parameters
    ----------
    stages : mapping of str to StageFindings
        By the stage's title, the uncalibrated one first.
    published : tuple of str
        Sentences.
    tuned : tuple of TunedOption
        What was tried and chosen.
    cautions : tuple of str
        Why the run shows less than a comparison should, a sentence each.
    cross_fitted : bool
        Whether a fold was calibrated on the scans that the other folds held out.
    """

    stages: Mapping[str, StageFindings]
    published: tuple[str, ...]
    tuned: tuple[TunedOption, ...] = ()
    cautions: tuple[str, ...] = ()
    cross_fitted: bool = False

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
    return {CALIBRATOR_TITLES.get(name, name): name for name in ("identity", *study.compare.calibrators)}


def cell_metrics(study: Study, result: CellResult) -> dict[str, float]:
    """Return the tested metrics of one cell at every stage, where they are finite.

    Without calibration scans, only those of the logits as the loss trained them.
    """
    found = {
        f"{stage.replace(' ', '_')}.{name}": metric_named(name)(run.probabilities, run.labels)
        for stage, calibrator in stage_titles(study).items()
        if calibrator == "identity" or result.can_calibrate
        for run in [result.run(calibrator, correct_prior=study.compare.undo_weighting, coverage=None)]
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
        At least one of the baseline at every batch size.
    tick : callable
        Called with the number of stages that are done, all stages, and the title of the next.
    """
    titles, stages = stage_titles(study), dict[str, StageFindings]()
    runs: dict[str, list[Run]] = {}
    sizes = list(dict.fromkeys(result.batch_size for result in results))
    for size in sizes:
        mine = [result for result in results if result.batch_size == size]
        for stage, name in titles.items():
            title = f"{stage}, batch {size}" if size else stage
            tick(len(stages), len(titles) * len(sizes), title)
            runs[name] = [_run(study, result, name) for result in mine]
            stages[title] = _stage(study, name, mine, runs[name])
    tick(len(stages), len(stages), "")
    names = {loss.title: loss.name for loss in study.compare.losses}
    figures = published_for(study.cohort.kind, study.imbalance.ratio)
    return Findings(stages, tuple(row.sentence for row in beside_published(figures, runs, names)))


def _stage(study: Study, name: str, results: Sequence[CellResult], runs: Sequence[Run]) -> StageFindings:
    baseline, level = study.compare.baseline, study.evaluation.level
    tested = TESTED + (("posterior_error",) if results[0].posterior is not None else ())
    comparison = compare_runs(
        runs, baseline, tested,
        measured=MEASURED, draws=study.evaluation.draws, level=level, seed=study.seed,
    )  # fmt: skip
    of_loss = comparable_runs(runs, baseline)
    return StageFindings(
        name,
        comparison,
        {loss: pooled_reliability(its, level=level) for loss, its in of_loss.items()},
        {loss: mean_risk(its) for loss, its in of_loss.items()},
        _at_other_shares(study, name, results, runs),
        results[0].batch_size,
    )


def _at_other_shares(
    study: Study, name: str, results: Sequence[CellResult], runs: Sequence[Run]
) -> dict[str, Comparison]:
    """Compare the losses as on a balanced test, and as on one with the class shares of training.

    Both come from the same predictions. Before calibration those are as the loss trained them, and the
    cross-entropy has a second row with its prior corrected to equal shares. After calibration every loss is
    shifted to the shares of the test, where all give probabilities at known shares.
    """
    shares = np.mean([result.training_shares() for result in results], axis=0)
    equal = np.full(len(shares), 1 / len(shares))
    bare = [replace(run, per_scan={}, at_equal_shares=None) for run in runs]
    at_equal = [
        replace(own, probabilities=run.at_equal_shares)
        for own, run in zip(bare, runs, strict=True)
        if run.at_equal_shares is not None
    ]
    if len(at_equal) < len(runs):
        return {}
    baseline, found = study.compare.baseline, {}
    plain = next((loss.title for loss in study.compare.losses if loss.name == "ce"), baseline)
    for title, target in ((AT_TRAINING, shares), (BALANCED, equal)):
        if name == "identity":
            compared = bare + [
                replace(run, loss=PRIOR_CORRECTED.format(plain)) for run in at_equal if run.loss == plain
            ]
        else:
            compared = [
                replace(run, probabilities=adjust_prevalence(run.probabilities, equal, target))
                for run in at_equal
            ]
        found[title] = compare_runs(
            compared, baseline, AT_SHARES,
            draws=study.evaluation.draws, level=study.evaluation.level, seed=study.seed, shares=target,
        )  # fmt: skip
    return found


def _run(study: Study, result: CellResult, calibrator: str) -> Run:
    correct, coverage = study.compare.undo_weighting, study.decision.coverage
    return result.run(calibrator, correct_prior=correct, coverage=coverage)
