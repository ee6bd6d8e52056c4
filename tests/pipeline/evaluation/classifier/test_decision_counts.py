"""Decisions on test scans: counted as a reader would, ranges held against a known posterior."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from models.conformal import ConformalSets
from models.prediction import Prediction
from pipeline.evaluation.classifier.decision import set_sizes
from pipeline.evaluation.classifier.decision_counts import DecisionCounts
from pipeline.learning.predictions import Predictions
from pipeline.scan import Cohort, Scan

CLASSES = ("CN", "AD")
TEST = Prediction(
    class_names=CLASSES,
    probabilities=(0.8, 0.2),
    lower=(0.7, 0.1),
    upper=(0.9, 0.3),
    prediction_set=("CN",),
    coverage=0.8,
    mahalanobis=1.0,
    mahalanobis_limit=2.0,
    energy=-1.0,
    energy_limit=0.0,
    confidence=0.8,
    operating_point=0.5,
    prevalence=(0.5, 0.5),
    clinic_prevalence=None,
    clinic_probabilities=None,
    decision="report",
    reasons=(),
    largest_set=1,
    range_factor=1.4,
)
DECIDED = [
    TEST,
    replace(TEST, prediction_set=CLASSES, decision="refer"),
    replace(TEST, probabilities=(0.3, 0.7), lower=(0.1, 0.5), upper=(0.5, 0.9), prediction_set=("AD",)),
]
LABELS = np.array([0, 1, 0])
TRUTH = np.array([[0.75, 0.25], [0.6, 0.4], [0.45, 0.55]])


def _predictions(labels: np.ndarray, name: str) -> Predictions:
    ids = tuple(f"sub-{name}{n}_ses-1" for n in range(len(labels)))
    return Predictions(
        ids, ids, np.zeros((len(ids), 2)), labels, np.zeros((len(ids), 1), np.float32), CLASSES
    )


@pytest.fixture
def parts() -> tuple[Predictions, Predictions, Cohort]:
    rng = np.random.default_rng(0)
    known = rng.dirichlet((1, 1), 30)
    calibration = _predictions((known[:, 1] > rng.random(30)).astype(int), "c")
    test = _predictions(LABELS, "t")
    rows = zip((*calibration.scan_ids, *test.scan_ids), (*known, *TRUTH), strict=True)
    scans = tuple(
        Scan(i[4:-6], "1", Path("x"), diagnosis="CN", posterior=tuple(row.tolist())) for i, row in rows
    )
    return calibration, test, Cohort(scans, CLASSES)


def test_sets_findings_and_ranges_are_counted(parts):
    found = DecisionCounts.of(DECIDED, *parts)
    assert (found.promised, found.largest_set) == (0.8, 1)
    assert (found.sets.mean_size, found.sets.referred) == (pytest.approx(4 / 3), pytest.approx(1 / 3))
    assert (found.answered, found.right) == (2, 1)
    assert found.held == {"CN": (1, 2), "AD": (1, 1)}
    plausible = found.plausible
    # The true probabilities lie in both ranges of the first and of the third scan, in none of the second.
    assert (plausible.held, plausible.held_first) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (plausible.factor, plausible.width) == (1.4, pytest.approx((0.2 + 0.2 + 0.4) / 3))


def test_the_true_posteriors_sets_are_made_in_the_same_way(parts):
    calibration, _, cohort = parts
    known = cohort.subset(calibration.scan_ids).posterior
    sets = ConformalSets.fit(known, calibration.labels, 0.8).sets(TRUTH)
    assert DecisionCounts.of(DECIDED, *parts).true_sets == set_sizes(sets, 1)


def test_without_a_known_posterior_nothing_is_held_against_it(parts):
    calibration, test, cohort = parts
    real = Cohort(tuple(replace(s, posterior=None) for s in cohort.scans), CLASSES)
    found = DecisionCounts.of(DECIDED, calibration, test, real)
    assert found.true_sets is found.plausible is None
    older = [replace(p, range_factor=None) for p in DECIDED]
    assert DecisionCounts.of(older, calibration, test, cohort).plausible is None


def test_json_holds_every_number(parts):
    for cohort in (parts[2], Cohort(tuple(replace(s, posterior=None) for s in parts[2].scans), CLASSES)):
        found = DecisionCounts.of(DECIDED, *parts[:2], cohort)
        assert DecisionCounts.from_dict(json.loads(json.dumps(asdict(found)))) == found
