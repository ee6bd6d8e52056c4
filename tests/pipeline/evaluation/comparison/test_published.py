"""Published figures stand as printed, and ours beside them are in their unit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.calibrators import CALIBRATORS
from models.losses import LOSSES
from pipeline.config import CohortSettings
from pipeline.evaluation.comparison.published import (
    LIKE_PUBLISHED,
    PUBLISHED,
    beside_published,
    published_for,
)
from pipeline.evaluation.comparison.seed_runs import Run


def run_of(probabilities, labels, seed=0, loss="GCE") -> Run:
    ids = tuple(str(i) for i in range(len(labels)))
    return Run(loss, seed, 0, 10, ids, ids, np.array(labels), np.array(probabilities, dtype=np.float64))


def test_figures_name_what_there_is():
    for figure in PUBLISHED:
        CohortSettings(kind=figure.cohort, path="anywhere")
        assert figure.loss in LOSSES
        assert figure.calibrator in CALIBRATORS
        assert figure.metric in LIKE_PUBLISHED


def test_other_tails_and_cohorts_have_no_figures():
    assert published_for("cifar10", 50) == ()
    assert published_for("bids", 100) == ()
    assert [f.percent for f in published_for("cifar100", 1)] == [1.25]


def test_the_unit_is_percent():
    # Ten answers of 0.8, seven right: error 30 %, ECE 10 %, and each class is 10 points off.
    probabilities = [[0.8, 0.2]] * 10
    labels = [0] * 7 + [1] * 3
    values = {name: metric(probabilities, labels) for name, metric in LIKE_PUBLISHED.items()}
    assert values == pytest.approx({"error rate %": 30, "ECE %": 10, "mean classwise ECE %": 10})


def test_calibration_errors_have_twenty_bins():
    # 0.94 and 0.97 share a bin of 15, where their gaps cancel, and stand apart in 20.
    probabilities = [[0.94, 0.06]] * 100 + [[0.97, 0.03]] * 100
    labels = [0] * 100 + [0] * 91 + [1] * 9
    assert LIKE_PUBLISHED["ECE %"](probabilities, labels) == pytest.approx(6)


def test_ours_are_means_over_seeds_of_the_right_loss_and_calibrator():
    good = run_of([[0.9, 0.1], [0.1, 0.9]], [0, 1])
    bad = run_of([[0.9, 0.1], [0.9, 0.1]], [0, 1], seed=1)
    other = run_of([[0.1, 0.9], [0.1, 0.9]], [0, 0], loss="CE")
    figures = published_for("cifar10", 100)
    rows = beside_published(figures, {"identity": [good, bad, other]}, {"GCE": "gce", "CE": "ce"})
    assert [(row.loss, row.published.metric) for row in rows] == [("GCE", "error rate %")]
    assert (rows[0].percent, rows[0].seeds) == (25, 2)
    assert rows[0].sd == pytest.approx(50 / math.sqrt(2))
    assert rows[0].sentence.startswith(
        "GCE, error rate %: 25.00 (SD 35.36, 2 seeds); published 23.75 (10 seeds;"
    )
    (alone,) = beside_published(figures, {"identity": [good]}, {"GCE": "gce"})
    assert math.isnan(alone.sd)
    assert "0.00 (1 seed);" in alone.sentence
