"""A run that is no comparison is named as one, and a fair one is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import Study
from pipeline.evaluation.comparison.cautions import cautions_of
from pipeline.evaluation.comparison.cell_result import CellResult
from pipeline.learning.predictions import Predictions
from pipeline.learning.prior_correction import PriorCorrection

NOTHING = PriorCorrection(torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))


def study(**compare) -> Study:
    losses = [{"name": "ce"}, {"name": "focal"}]
    return Study(name="x", output=Path("out"), cohort={"path": "b"}, compare={"losses": losses, **compare})


def cell(loss: str, seed: int, fold: int, *, constant: bool = False, calibrated: bool = False) -> CellResult:
    logits = np.array([[2.0, 0.0], [0.0, 1.0 - 3 * constant], [1.0, 0.0]])
    ids = tuple(f"f{fold}-{n}" for n in range(3))
    test = Predictions(ids, ids, logits, np.array([0, 1, 0]), np.zeros((3, 0), np.float32), ("CN", "AD"))
    return CellResult(loss, seed, fold, (10, 10), test if calibrated else None, test, NOTHING, None)


def cells(losses, seeds, folds, **kind) -> list[CellResult]:
    return [cell(loss, seed, fold, **kind) for loss in losses for seed in seeds for fold in folds]


def test_several_losses_seeds_and_folds_need_no_caution():
    assert cautions_of(study(), cells(("ce", "focal"), (0, 1), (0, 1, 2))) == ()


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (cells(("ce",), (0, 1, 2), (0, 1)), "results of one loss only"),
        (cells(("ce", "focal"), (0,), (0,)), "trained with one run"),
        (cells(("ce", "focal"), (0,), (0, 1)), "trained with 2 runs"),
        (cells(("ce", "focal"), (0, 1), (0, 1)), "trained with 4 runs"),
        (cells(("ce", "focal"), (0,), (0, 1, 2)), "one seed: chance in training"),
        (cells(("ce", "focal"), (0, 1), (0, 1, 2))[:-1], "focal: fewer runs than the other losses"),
        (cells(("ce", "focal"), (0, 1, 2), (0,), calibrated=True), "the 3 calibration scans are one draw"),
        (
            [*cells(("ce",), (0, 1, 2), (0, 1)), *cells(("focal",), (0, 1, 2), (0, 1), constant=True)],
            "focal: 6 networks give every test scan the same class",
        ),
    ],
)
def test_what_a_run_lacks_is_stated(results, words):
    (sentence,) = cautions_of(study(), results)
    assert words in sentence


def test_default_options_without_tuning_are_named():
    (sentence,) = cautions_of(study(tune=False), cells(("ce", "focal"), (0, 1), (0, 1, 2)))
    assert sentence == "The default option was used untuned (compare.tune is false) of focal."
