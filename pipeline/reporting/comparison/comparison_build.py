"""From the findings of a comparison to the numbers of its report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata

import numpy as np

from pipeline.config import Study
from pipeline.evaluation.comparison.loss_comparison import LossResult
from pipeline.evaluation.comparison.pooled_curves import MeanRisk, PooledReliability
from pipeline.evaluation.comparison.stages import Findings, StageFindings
from pipeline.evaluation.comparison.tuning import tuned_in_words
from pipeline.evaluation.inference.intervals import Interval
from pipeline.files import today
from pipeline.reporting.comparison.comparison_numbers import (
    ComparisonReport,
    DifferenceRow,
    LossReliability,
    LossRisk,
    LossRow,
    PooledPoint,
    Stage,
    TunedRow,
)
from pipeline.reporting.comparison.comparison_summary import summary_of
from pipeline.reporting.page.facts import Named, measured


def build_comparison_report(
    study: Study,
    found: Findings,
    class_names: tuple[str, ...],
    failed: Mapping[str, str],
    *,
    run_id: str,
    synthetic: bool,
) -> ComparisonReport:
    """Return the report of a comparison.

    Parameters
    ----------
    failed : mapping of str to str
        Title of a cell that failed -> why.
    run_id : str
        That of the comparison in MLflow.
    synthetic : bool
        Whether the scans are computed phantoms.
    """
    first = next(iter(found.stages.values())).comparison
    last = list(found.stages.values())[-1]
    # Of several batch sizes the figures show one: before and after calibration, else equal.
    drawn = {name: s for name, s in found.stages.items() if s.batch_size == last.batch_size}
    return ComparisonReport(
        title=study.name,
        report_date=today(),
        run_id=run_id,
        synthetic=synthetic,
        class_names=class_names,
        baseline=study.compare.baseline,
        test_scans=first.scans,
        test_subjects=first.subjects,
        level=first.level,
        set_coverage=study.decision.coverage,
        cross_fitted=found.cross_fitted,
        cautions=found.cautions,
        choices=tuned_in_words(found.tuned),
        tuned=tuple(TunedRow(**asdict(one), chosen=one.chosen) for one in found.tuned),
        stages=tuple(
            _stage(name, stage, _note(stage, study), class_names) for name, stage in found.stages.items()
        ),
        reliability=tuple(
            _reliability(loss, name, curve)
            for name, stage in drawn.items()
            for loss, curve in stage.reliability.items()
        ),
        risk=tuple(
            _risk(loss, name, curve) for name, stage in drawn.items() for loss, curve in stage.risk.items()
        ),
        published=found.published,
        failed=tuple(Named(label=cell, value=reason) for cell, reason in failed.items()),
        versions=(Named(label="taucal", value=metadata.version("taucal")),),
    )


def _stage(name: str, stage: StageFindings, note: str, class_names: tuple[str, ...]) -> Stage:
    return Stage(
        name=name,
        note=note,
        losses=tuple(_row(result, class_names) for result in stage.comparison.results),
        summary=summary_of(stage.comparison),
        tests={
            title: tuple(_row(result, ()) for result in test.results) for title, test in stage.tests.items()
        },
    )


def _risk(loss: str, stage: str, curve: MeanRisk) -> LossRisk:
    return LossRisk(
        name=loss,
        stage=stage,
        coverage=tuple(curve.coverage.tolist()),
        risk=tuple(curve.risk.tolist()),
        area=curve.area,
    )


def _note(stage: StageFindings, study: Study) -> str:
    if stage.calibrator == "identity":
        return "Logits are as the loss trained them."
    if study.compare.undo_weighting:
        return "Logits are first corrected for class weights and sampling, to the class shares of training."
    return "Logits are calibrated as the loss trained them, without a correction for class weights."


def _row(result: LossResult, class_names: tuple[str, ...]) -> LossRow:
    differences = {
        d.metric: DifferenceRow(
            **asdict(d.interval), p=d.p_holm, verdict=d.verdict, detectable=d.detectable or None
        )
        for d in result.differences
        if _is_finite(d.interval) and math.isfinite(d.p_holm)
    }
    return LossRow(
        name=result.loss,
        seeds=result.seeds,
        folds=result.folds,
        metrics=measured(result.metrics.items()),
        noise={name: floor for name, floor in result.noise.items() if math.isfinite(floor)},
        difference=differences,
        recall=measured(zip(class_names, result.recall, strict=False)),
        coverage=measured(zip(class_names, result.coverage, strict=False)),
        sentence=result.sentence,
    )


def _is_finite(interval: Interval) -> bool:
    return all(map(math.isfinite, (interval.value, interval.low, interval.high)))


def _reliability(loss: str, stage: str, found: PooledReliability) -> LossReliability:
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
