"""Rows of results: every value lies in its interval, calibration errors come with their noise floors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.calibrators import softmax
from pipeline.config import CalibrationSettings, EvaluationSettings
from pipeline.evaluation.classifier.results import Results, evaluate
from pipeline.evaluation.classifier.rivals import Rivals
from pipeline.evaluation.classifier.selection import select_calibrator
from pipeline.evaluation.metrics import NOISY, noise_floors
from pipeline.learning.predictions import Predictions

CLASSES = ("CN", "MCI", "AD")
SHARES = np.array([0.55, 0.33, 0.12])


def _part(size: int, rng: np.random.Generator) -> tuple[Predictions, np.ndarray]:
    labels = rng.choice(3, size, p=SHARES)
    posterior = softmax(1.6 * (rng.normal(size=(size, 3)) + 1.6 * np.eye(3)[labels]) + np.log(SHARES))
    subjects = tuple(f"s{n // 2}" for n in range(size))
    ids = tuple(f"scan{n}" for n in range(size))
    features = np.zeros((size, 2), dtype=np.float32)
    return Predictions(ids, subjects, 2 * np.log(posterior), labels, features, CLASSES), posterior


def _results(scans: int, seed: int = 0) -> Results:
    rng = np.random.default_rng(3)
    calibration, _ = _part(40, rng)
    settings = CalibrationSettings(candidates=("identity",), method="temperature", folds=4)
    selection = select_calibrator(calibration, settings, 0)
    test, posterior = _part(scans, rng)
    rivals = Rivals(SHARES, None, posterior)
    return evaluate(test, selection, rivals, EvaluationSettings(draws=200), seed=seed)


@pytest.fixture(scope="module")
def results() -> Results:
    return _results(45)


@pytest.mark.parametrize("scans", [3, 10, 45])
def test_every_value_lies_in_its_interval(scans):
    found = _results(scans)
    for row in found.rows:
        for name, interval in {**row.metrics, **row.intercepts}.items():
            assert interval.low <= interval.value <= interval.high, (row.name, name, interval)
    for name, interval in found.gain.items():
        assert interval.low <= interval.value <= interval.high, (name, interval)


def test_every_row_has_the_noise_floors_of_its_calibration_errors(results):
    for row in results.rows:
        assert set(row.noise) == set(NOISY)
    oracle = results.row("oracle")
    rng = np.random.default_rng(3)
    _part(40, rng)
    assert oracle.noise == noise_floors(_part(45, rng)[1], seed=0)


def test_calibration_errors_are_compared_above_noise_only(results):
    assert not set(results.gain) & set(NOISY)
    assert "classwise_ece_above_noise" in results.gain
    assert "prior_corrected_balanced_accuracy" in results.gain


def test_the_difference_of_errors_above_noise_is_that_of_the_rows_whatever_the_seed():
    found = _results(10, seed=7)
    ours, other = found.row("chosen"), found.row("network")
    for name in ("classwise_ece", "expected_calibration_error"):
        above = [row.metrics[name].value - row.noise[name] for row in (ours, other)]
        difference = above[0] - above[1]
        assert found.gain[f"{name}_above_noise"].value == pytest.approx(difference, abs=1e-12)


def test_slope_intercepts_and_prior_corrected_accuracy_are_in_the_row_that_ships(results):
    row = results.row("chosen")
    assert {"calibration_slope", "prior_corrected_balanced_accuracy"} <= set(row.metrics)
    assert set(row.intercepts) <= set(CLASSES)
    assert row.intercepts
    assert results.row("network").intercepts


def test_json_keeps_every_number(results):
    assert Results.from_dict(json.loads(json.dumps(results.to_dict()))) == results


def test_results_of_an_older_version_are_read(results):
    stored = json.loads(json.dumps(results.to_dict()))
    for row in stored["rows"]:
        del row["noise"], row["intercepts"]
    read = Results.from_dict(stored)
    assert read.row("chosen").metrics == results.row("chosen").metrics
    assert read.row("chosen").noise == {}


def test_a_tracker_gets_the_floors_beside_the_errors(results):
    flat = results.flat()
    assert flat["classwise_ece.noise"] == results.row("chosen").noise["classwise_ece"]
