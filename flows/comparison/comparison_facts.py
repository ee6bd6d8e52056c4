"""From the statistics of a comparison to the numbers that its page draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np

from pipeline.config import Study
from pipeline.evaluation.comparison.loss_comparison import Comparison, LossResult
from pipeline.evaluation.comparison.pooled_curves import comparable_runs, mean_risk, pooled_reliability
from pipeline.evaluation.comparison.seed_runs import Run
from pipeline.evaluation.inference.intervals import Interval
from pipeline.reporting.comparison.comparison_numbers import (
    DifferenceRow,
    LossReliability,
    LossRisk,
    LossRow,
    PooledPoint,
    Stage,
)
from pipeline.reporting.page.facts import Measured

_TITLES = {
    "identity": "uncalibrated",
    "temperature": "one temperature",
    "adaptive_temperature": "adaptive temperature",
    "ensemble_temperature": "ensemble of temperatures",
    "vector": "vector scaling",
    "dirichlet": "Dirichlet calibration",
    "isotonic": "isotonic regression",
    "histogram": "histogram binning",
}


def stages_of(study: Study) -> dict[str, str]:
    """Return the stages at which losses are compared: what tables call a calibrator -> its name.

    Uncalibrated, which comes first, is as the loss trained it. Each other is fitted on the calibration part
    of the split, to logits with class weights undone if the study asks for that.
    """
    return {_TITLES.get(name, name): name for name in ("identity", *study.compare.calibrators)}


def stage_facts(study: Study, name: str, comparison: Comparison, class_names: tuple[str, ...]) -> Stage:
    """Return all losses at one stage; its note says what was done to their logits."""
    if stages_of(study)[name] == "identity":
        note = "Logits as the loss trained them."
    elif study.compare.undo_weighting:
        note = "Class weights and sampling are undone first: logits speak at the class shares of training."
    else:
        note = "Calibrated as the loss trained them: class weights are not prior_correction."
    return Stage(name=name, note=note, losses=tuple(_row(r, class_names) for r in comparison.results))


def _row(result: LossResult, class_names: tuple[str, ...]) -> LossRow:
    differences = {
        d.metric: DifferenceRow(
            value=d.interval.value, low=d.interval.low, high=d.interval.high, p=d.p_holm, verdict=d.verdict
        )
        for d in result.differences
        if _is_finite(d.interval) and math.isfinite(d.p_holm)
    }
    return LossRow(
        name=result.loss,
        seeds=result.seeds,
        folds=result.folds,
        metrics=_measured(result.metrics.items()),
        difference=differences,
        recall=_measured(zip(class_names, result.recall, strict=False)),
        coverage=_measured(zip(class_names, result.coverage, strict=False)),
        sentence=result.sentence,
    )


def _measured(found: Iterable[tuple[str, Interval]]) -> dict[str, Measured]:
    """Leave out what is not defined, as the recall of a class without test scans."""
    return {name: Measured(**asdict(interval)) for name, interval in found if _is_finite(interval)}


def _is_finite(interval: Interval) -> bool:
    return all(map(math.isfinite, (interval.value, interval.low, interval.high)))


def curve_facts(
    stage: str, runs: Sequence[Run], baseline: str, level: float
) -> tuple[list[LossReliability], list[LossRisk]]:
    """Return reliability and risk-coverage of each loss, all its seeds and folds together."""
    of = comparable_runs(runs, baseline)
    return (
        [_reliability(loss, stage, mine, level) for loss, mine in of.items()],
        [_risk(loss, stage, mine) for loss, mine in of.items()],
    )


def _reliability(loss: str, stage: str, runs: Sequence[Run], level: float) -> LossReliability:
    found = pooled_reliability(runs, level=level)
    curve = found.curve
    points = tuple(
        PooledPoint(
            stated=float(curve.confidence[b]),
            came_true=float(curve.accuracy[b]),
            low=float(curve.low[b]),
            high=float(curve.high[b]),
            bin=int(b),
            scans=float(found.scans[b]),
            trials=float(found.trials[b]),
        )
        for b in np.flatnonzero(curve.counts)
    )
    return LossReliability(name=loss, stage=stage, edges=tuple(curve.edges.tolist()), points=points)


def _risk(loss: str, stage: str, runs: Sequence[Run]) -> LossRisk:
    found = mean_risk(runs)
    shares = {"coverage": tuple(found.coverage.tolist()), "risk": tuple(found.risk.tolist())}
    return LossRisk(name=loss, stage=stage, area=found.area, **shares)
