"""From findings to the report of a comparison: every number once, undefined ones left out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import Study
from pipeline.evaluation.comparison.loss_comparison import Comparison, Difference, LossResult
from pipeline.evaluation.comparison.pooled_curves import mean_risk, pooled_reliability
from pipeline.evaluation.comparison.seed_runs import Run
from pipeline.evaluation.comparison.stages import Findings, StageFindings
from pipeline.evaluation.inference.intervals import Interval
from pipeline.reporting.comparison.comparison_build import build_comparison_report

UNDEFINED = Interval(math.nan, math.nan, math.nan)


@pytest.fixture
def found() -> Findings:
    p = np.array([[0.95, 0.05], [0.65, 0.35], [0.62, 0.38]])
    run = Run("ce", 0, 0, 10, ("a", "b", "c"), ("A", "B", "C"), np.array([0, 1, 0]), p)
    metrics = {"accuracy": Interval(0.6, 0.4, 0.8), "macro_auroc": UNDEFINED}
    noise = {"classwise_ece": 0.07, "ks_calibration_error": math.nan}
    recall = (Interval(0.5, 0.3, 0.7), UNDEFINED)
    ce = LossResult("ce", 2, 3, metrics, recall, (), "ce is the baseline.", noise=noise)
    differences = (
        Difference("accuracy", Interval(0.1, 0.0, 0.2), 0.01, 0.02, "better"),
        Difference("macro_auroc", UNDEFINED, math.nan, math.nan, "not significant"),
    )
    gce = LossResult("gce", 2, 3, metrics, recall, differences, "gce is better than ce in accuracy.")
    comparison = Comparison("ce", (ce, gce), 0.9, 3, 3, ())
    curves = {"ce": pooled_reliability([run])}, {"ce": mean_risk([run])}
    stages = {
        "uncalibrated": StageFindings("identity", comparison, *curves),
        "temperature scaling": StageFindings("temperature", comparison, *curves),
    }
    return Findings(stages, ("Published: 1.07.",))


def study(*, undo_weighting: bool = True) -> Study:
    return Study(
        name="built",
        output=Path("out"),
        cohort={"kind": "medmnist", "path": Path("x.npz"), "classes": ["CN", "AD"]},
        compare={
            "losses": [{"name": "ce"}, {"name": "gce"}],
            "baseline": "ce",
            "undo_weighting": undo_weighting,
        },
    )


def build(found: Findings, **settings: bool):
    failed = {"gce, seed 1": "the loss is not finite: NaN"}
    return build_comparison_report(
        study(**settings), found, ("CN", "AD"), failed, run_id="k", synthetic=False
    )


def test_numbers_of_every_stage_and_loss_reach_the_report(found):
    report = build(found)
    assert [stage.name for stage in report.stages] == ["uncalibrated", "temperature scaling"]
    row = report.stages[1].losses[1]
    assert (row.name, row.seeds, row.folds) == ("gce", 2, 3)
    assert row.metrics["accuracy"].value == 0.6
    assert row.difference["accuracy"].model_dump() == {
        "value": 0.1, "low": 0.0, "high": 0.2, "p": 0.02, "verdict": "better", "detectable": None,
    }  # fmt: skip
    assert (report.level, report.test_scans, report.test_subjects) == (0.9, 3, 3)
    assert [(failed.label, failed.value) for failed in report.failed] == [
        ("gce, seed 1", "the loss is not finite: NaN")
    ]
    assert report.published == ("Published: 1.07.",)


def test_what_is_not_defined_is_left_out(found):
    row = build(found).stages[0].losses[1]
    assert list(row.metrics) == ["accuracy"]
    assert list(row.difference) == ["accuracy"]
    assert list(row.recall) == ["CN"]
    assert row.coverage == {}
    assert build(found).stages[0].losses[0].noise == {"classwise_ece": 0.07}


def test_curves_hold_the_bins_that_have_scans(found):
    report = build(found)
    assert [(panel.name, panel.stage) for panel in report.reliability] == [
        ("ce", "uncalibrated"), ("ce", "temperature scaling"),
    ]  # fmt: skip
    assert [(point.bin, point.scans) for point in report.reliability[0].points] == [(6, 2.0), (9, 1.0)]
    assert report.risk[0].coverage[-1] == 1
    assert report.risk[0].risk[-1] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("undo", "words"), [(True, "corrected for class weights"), (False, "without a")])
def test_notes_state_what_was_done_to_the_logits(found, undo, words):
    report = build(found, undo_weighting=undo)
    assert report.stages[0].note == "Logits are as the loss trained them."
    assert words in report.stages[1].note
