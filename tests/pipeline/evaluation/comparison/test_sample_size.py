"""A learning curve: exact on curves of known shape, silent where the scans do not decide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.calibrators import softmax
from pipeline.config import Study
from pipeline.errors import TrainingError
from pipeline.evaluation.comparison.cell_result import CellResult
from pipeline.evaluation.comparison.sample_size import RATES, Projection, fit_weights, sample_size_curve
from pipeline.evaluation.inference.intervals import Interval
from pipeline.evaluation.metrics import negative_log_likelihood
from pipeline.learning.predictions import Predictions
from pipeline.learning.prior_correction import PriorCorrection

NOTHING = PriorCorrection(torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
SIZES = {"25 %": 50, "50 %": 100, "75 %": 150, "100 %": 200}


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(
        name="curve",
        output=Path("out"),
        cohort={"kind": "medmnist", "path": Path("x.npz"), "classes": ["CN", "AD"]},
        evaluation={"draws": 300},
        compare={"calibrators": ["temperature"]},
    )


def cells(noise: dict[str, float], subjects: int = 400, seeds=(0, 1, 2)) -> dict[str, list[CellResult]]:
    """Cells whose logits are the true ones plus noise of a standard deviation for each size."""
    rng = np.random.default_rng(7)
    parts = []
    for _ in ("calibration", "test"):
        truth = rng.normal(size=(subjects, 2)) * 1.5
        labels = (softmax(truth).cumsum(axis=1) > rng.random((subjects, 1))).argmax(axis=1)
        parts.append((truth, labels))
    found: dict[str, list[CellResult]] = {}
    for title, sd in noise.items():
        for seed in seeds:
            predictions = []
            for place, (truth, labels) in enumerate(parts):
                # The same directions at every size, so that only the size matters.
                moved = truth + sd * np.random.default_rng([seed, place]).normal(size=truth.shape)
                ids = tuple(f"{place}-{i}" for i in range(subjects))
                features = np.zeros((subjects, 1), np.float32)
                predictions.append(Predictions(ids, ids, moved, labels, features, ("CN", "AD")))
            n = SIZES[title]
            found.setdefault(title, []).append(
                CellResult("gce", seed, 0, (n // 2, n - n // 2), *predictions, NOTHING, None)
            )
    return found


FALLING = {"25 %": 2.4, "50 %": 1.6, "75 %": 1.3, "100 %": 1.1}


@pytest.mark.parametrize("rate", RATES)
def test_the_fit_continues_a_curve_of_its_own_shape_exactly(rate):
    n = np.array([40.0, 90.0, 130.0, 200.0])
    a, b = fit_weights(n, rate) @ (0.6 + 3 * n**-rate)
    assert (a, b) == (pytest.approx(0.6), pytest.approx(3))


def test_a_falling_curve_states_what_twice_the_scans_would_bring(study):
    found = sample_size_curve(study, cells(FALLING))
    assert [point.title for point in found.points] == list(SIZES)
    assert [point.scans for point in found.points] == list(SIZES.values())
    assert (found.scans, found.subjects, found.seeds, found.folds) == (400, 400, (0, 1, 2), 1)
    nll, ece, auroc = found.projections
    assert (nll.metric, ece.metric, auroc.metric) == (
        "negative_log_likelihood", "classwise_ece_above_noise", "macro_auroc",
    )  # fmt: skip
    assert nll.decided
    assert nll.change.low < nll.change.value < nll.change.high < 0
    assert nll.sentence.startswith("Twice the training scans (about 400) would probably lower the NLL by 0.0")
    assert auroc.change.value > 0
    assert "raise the macro AUROC" in auroc.sentence
    # The limits are those of the slowest and the fastest fit, the value is that of the middle one.
    values = np.array([point.metrics["negative_log_likelihood"].value for point in found.points])
    n = np.array([point.scans for point in found.points])
    a, b = fit_weights(n, 0.5) @ values
    assert nll.change.value == pytest.approx(b * (400**-0.5 - 200**-0.5))
    assert nll.fitted(np.array(400.0)) == pytest.approx(a + b * 400**-0.5)


def test_values_are_those_of_the_calibrated_test_scans(study):
    results = cells(FALLING)
    found = sample_size_curve(study, results)
    runs = [cell.run("temperature", correct_prior=True, coverage=None) for cell in results["50 %"]]
    mine = found.points[1].metrics["negative_log_likelihood"].value
    assert mine == pytest.approx(np.mean([negative_log_likelihood(r.probabilities, r.labels) for r in runs]))
    assert set(found.points[1].noise) == {"classwise_ece"}
    assert found.flat()["50_percent.negative_log_likelihood"] == mine


def test_a_flat_curve_of_few_scans_cannot_be_projected(study):
    found = sample_size_curve(study, cells(dict.fromkeys(SIZES, 1.0), subjects=40))
    for one in found.projections:
        assert not one.decided
        assert ": the interval of the change is " in one.sentence


def test_a_curve_that_turns_up_is_not_continued(study):
    found = sample_size_curve(study, cells(FALLING | {"100 %": 3.0}, subjects=800))
    nll = found.projections[0]
    assert nll.check is not None
    assert nll.check.high < 0
    assert not nll.decided
    assert "do not predict what was measured" in nll.sentence


def test_only_seeds_that_every_size_has_count_and_that_is_stated(study):
    results = cells(FALLING)
    results["75 %"] = results["75 %"][:2]
    found = sample_size_curve(study, results)
    assert found.seeds == (0, 1)
    assert found.cautions == (
        "Each size was trained 2 times (seeds x folds), so the curve may be chance in training. Use 3 seeds "
        "or folds at least.",
        "Some trainings failed: only seeds and folds that were finished at every size count.",
    )
    with pytest.raises(TrainingError, match="No seed and fold was finished at every size"):
        sample_size_curve(study, results | {"50 %": []})


def test_one_seed_on_several_folds_is_a_caution_and_two_sizes_have_no_check(study):
    parts = {t: cells({t: FALLING[t]}, seeds=(0,))[t] * 3 for t in ("50 %", "100 %")}
    folds = {t: [replace(cell, fold=n) for n, cell in enumerate(mine)] for t, mine in parts.items()}
    found = sample_size_curve(study, folds)
    assert found.folds == 3
    assert "with one seed" in found.cautions[0]
    assert [one.check for one in found.projections] == [None, None, None]


@pytest.mark.parametrize(
    ("metric", "intercept", "slope"), [("macro_auroc", 1.1, -1.0), ("negative_log_likelihood", -0.1, 1.0)]
)
def test_no_number_of_scans_leads_beyond_the_best_value(metric, intercept, slope):
    change = Interval(-slope / 100, *sorted((-slope / 50, -slope / 200)))
    projected = Projection(metric, 200, intercept, slope, change, None)
    assert not projected.possible
    assert not projected.decided
    assert "the best value there is" in projected.sentence
    within = replace(projected, intercept=0.9 if slope < 0 else 0.1)
    assert within.decided
    assert "would probably" in within.sentence
