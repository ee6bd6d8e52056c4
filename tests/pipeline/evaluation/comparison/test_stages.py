"""A comparison at every stage: one set of findings from the stored logits of all cells."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.calibrators import build_calibrator, softmax
from pipeline.config import Study
from pipeline.evaluation.comparison.cell_result import CellResult
from pipeline.evaluation.comparison.stages import (
    AT_TRAINING,
    BALANCED,
    MEASURED,
    TESTED,
    cell_metrics,
    compare_at_stages,
    stage_titles,
)
from pipeline.evaluation.metrics import (
    ABOVE_NOISE,
    METRICS,
    NOISY,
    negative_log_likelihood,
    noise_floors,
    per_class_recall,
    prior_corrected,
)
from pipeline.learning.predictions import Predictions
from pipeline.learning.prior_correction import PriorCorrection

STAGES = ("uncalibrated", "temperature scaling")
NOTHING = PriorCorrection(torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(
        name="stages",
        output=Path("out"),
        cohort={"kind": "medmnist", "path": Path("x.npz"), "classes": ["CN", "AD"]},
        evaluation={"draws": 50},
        compare={
            "losses": [{"name": "ce"}, {"name": "gce", "label": "GCE w=1"}],
            "baseline": "ce",
            "seeds": [0, 1],
            "calibrators": ["temperature"],
        },
    )


def part(n: int, scale: float, seed: int, name: str) -> Predictions:
    rng = np.random.default_rng([seed, len(name)])
    truth = np.random.default_rng(n).normal(size=(n, 2)) * 2
    labels = (softmax(truth).cumsum(axis=1) > np.random.default_rng(n + 1).random((n, 1))).argmax(axis=1)
    logits = (truth + 0.3 * rng.normal(size=(n, 2))) * scale
    ids = tuple(f"{name}-{i}" for i in range(n))
    return Predictions(ids, ids, logits, labels, np.zeros((n, 1), np.float32), ("CN", "AD"))


@pytest.fixture(scope="module")
def results() -> list[CellResult]:
    """Two losses with two seeds; the second is four times too sure."""
    return [
        CellResult(
            loss,
            seed,
            0,
            (100, 100),
            part(80, scale, seed, "cal"),
            part(240, scale, seed, "test"),
            NOTHING,
            None,
        )
        for loss, scale in (("ce", 1.0), ("GCE w=1", 4.0))
        for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def found(study, results):
    ticks = []
    findings = compare_at_stages(study, results, lambda *tick: ticks.append(tick))
    assert ticks == [(0, 2, STAGES[0]), (1, 2, STAGES[1]), (2, 2, "")]
    return findings


def test_every_stage_has_statistics_and_curves_of_every_loss(found, study):
    assert stage_titles(study) == {"uncalibrated": "identity", "temperature scaling": "temperature"}
    assert tuple(found.stages) == STAGES
    for stage in found.stages.values():
        assert [result.loss for result in stage.comparison.results] == ["ce", "GCE w=1"]
        assert [d.metric for d in stage.comparison.results[1].differences] == list(TESTED)
        assert set(MEASURED) <= set(stage.comparison.results[0].metrics)
        assert list(stage.reliability) == list(stage.risk) == ["ce", "GCE w=1"]
        assert stage.reliability["ce"].scans.sum() == pytest.approx(240)


def test_one_temperature_takes_back_that_a_loss_was_too_sure(found):
    before, after = (found.stages[stage].comparison.results[1].differences[0] for stage in STAGES)
    assert before.verdict == "worse"
    assert after.interval.value < before.interval.value / 4


def test_calibration_errors_come_with_their_noise_and_are_tested_above_it(found, results):
    for result in found.stages["uncalibrated"].comparison.results:
        assert set(result.noise) == {name for name in NOISY if name in result.metrics}
        for name, floor in result.noise.items():
            above = result.metrics[name].value - floor
            assert result.metrics[f"{name}_above_noise"].value == pytest.approx(above)
    own = [r for r in results if r.loss == "ce"]
    floors = [noise_floors(softmax(r.test.logits), ["classwise_ece"])["classwise_ece"] for r in own]
    ce = found.stages["uncalibrated"].comparison.results[0]
    assert ce.noise["classwise_ece"] == pytest.approx(np.mean(floors))
    assert "prior_corrected_balanced_accuracy" in ce.metrics


def test_flat_names_are_those_that_mlflow_accepts(found):
    flat = found.flat()
    assert "temperature_scaling.GCE_w_1.negative_log_likelihood" in flat
    assert all(math.isfinite(value) for value in flat.values())
    value = found.stages["uncalibrated"].comparison.results[0].metrics["classwise_ece"].value
    assert flat["uncalibrated.ce.classwise_ece"] == value


def test_metrics_of_a_cell_are_those_of_its_own_test_scans(study, results):
    metrics = cell_metrics(study, results[0])
    assert set(metrics) == {
        f"{s.replace(' ', '_')}.{name}" for s in STAGES for name in (*TESTED, "classwise_ece")
    }
    test = results[0].test
    expected = negative_log_likelihood(softmax(test.logits), test.labels)
    assert metrics["uncalibrated.negative_log_likelihood"] == pytest.approx(expected)
    assert all(name.split(".")[1] in {**METRICS, **ABOVE_NOISE} for name in metrics)


def test_figures_from_the_literature_are_put_beside_ours_where_there_are_any(found):
    assert found.published == ()


def test_a_balanced_test_weights_the_classes_alike(found, results):
    balanced = found.stages["uncalibrated"].tests[BALANCED].results[0]
    own = [r.test for r in results if r.loss == "ce"]
    recall = np.mean([per_class_recall(softmax(test.logits), test.labels) for test in own])
    accuracy = balanced.metrics["accuracy"]
    assert accuracy.value == pytest.approx(recall)
    assert accuracy.low < recall < accuracy.high


def test_prior_corrected_ce_has_a_row_before_calibration_and_is_ce_after_it(study):
    def cell(loss: str, seed: int) -> CellResult:
        parts = (part(80, 1.0, seed, "cal"), part(240, 1.0, seed, "test"))
        return CellResult(loss, seed, 0, (160, 40), *parts, NOTHING, None)

    rare = [cell(loss, seed) for loss in ("ce", "GCE w=1") for seed in (0, 1)]
    stages = compare_at_stages(study, rare, lambda *_: None).stages
    before, after = (stages[stage].tests for stage in STAGES)
    for shares in (AT_TRAINING, BALANCED):
        assert [r.loss for r in before[shares].results] == ["ce", "GCE w=1", "ce, prior-corrected"]
        assert [r.loss for r in after[shares].results] == ["ce", "GCE w=1"]
    own = [r.test for r in rare[:2]]
    shifted = [softmax(test.logits - np.log([0.8, 0.2])) for test in own]
    recall = np.mean([per_class_recall(p, test.labels) for p, test in zip(shifted, own, strict=True)])
    assert before[BALANCED].results[2].metrics["accuracy"].value == pytest.approx(recall)
    cooled = [
        build_calibrator("temperature").fit(r.calibration.logits, r.calibration.labels) for r in rare[:2]
    ]
    shifted = [prior_corrected(c.transform(t.logits), [0.8, 0.2]) for c, t in zip(cooled, own, strict=True)]
    recall = np.mean([per_class_recall(p, test.labels) for p, test in zip(shifted, own, strict=True)])
    assert after[BALANCED].results[0].metrics["accuracy"].value == pytest.approx(recall)
    labels = own[0].labels
    weights = np.array([0.8, 0.2])[labels] / np.bincount(labels)[labels]
    losses = [-np.log(softmax(test.logits)[np.arange(240), labels]) for test in own]
    nll = before[AT_TRAINING].results[0].metrics["negative_log_likelihood"].value
    assert nll == pytest.approx(np.mean([weights @ loss for loss in losses]))
    assert nll != pytest.approx(np.mean(losses))


def test_every_batch_size_has_its_own_stages(study, results):
    sized = [replace(r, batch_size=size) for size in (8, 32) for r in results]
    stages = compare_at_stages(study, sized, lambda *_: None).stages
    assert list(stages) == [f"{stage}, batch {size}" for size in (8, 32) for stage in STAGES]
    assert [stage.batch_size for stage in stages.values()] == [8, 8, 32, 32]
