"""A cell's stored logits: read back, then calibrated with or without prior correction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.calibrators import build_calibrator, softmax
from models.conformal import ConformalSets
from pipeline.errors import InputError
from pipeline.evaluation.classifier.selection import held_out_probabilities
from pipeline.evaluation.comparison.cell_result import PRIOR_CORRECTION, SET_FOLDS, CellResult
from pipeline.evaluation.metrics import prior_corrected
from pipeline.files import write_json
from pipeline.learning.predictions import Predictions
from pipeline.learning.prior_correction import PriorCorrection
from pipeline.scan import Cohort, Scan

CORRECTION = PriorCorrection(
    torch.tensor([1.0, 1.0], dtype=torch.float64), torch.tensor([0.5, -0.5], dtype=torch.float64)
)


def predictions(n: int, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 2)) * 2
    labels = (softmax(logits).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    ids = tuple(f"{seed}-{i}" for i in range(n))
    features = np.zeros((n, 1), np.float32)
    return Predictions(
        tuple(f"sub-{i}_ses-M00" for i in ids), ids, logits * 2, labels, features, ("CN", "AD")
    )


@pytest.fixture
def result() -> CellResult:
    calibration, test = predictions(60, seed=1), predictions(40, seed=2)
    posterior = softmax(test.logits / 2)
    return CellResult("gce", 3, 1, (150, 50), calibration, test, CORRECTION, posterior)


def test_a_cell_is_read_back_with_the_posterior_of_its_test_scans(result, tmp_path):
    result.calibration.save(tmp_path / "calibration.npz")
    result.test.save(tmp_path / "test.npz")
    write_json(tmp_path / PRIOR_CORRECTION, CORRECTION.to_dict())
    scans = tuple(
        Scan(subject, "M00", Path("x.nii.gz"), diagnosis="CN", posterior=tuple(row))
        for subject, row in zip(result.test.subjects, result.posterior.tolist(), strict=True)
    )
    test = Predictions(
        tuple(scan.scan_id for scan in scans), result.test.subjects, result.test.logits, result.test.labels,
        result.test.features, result.test.class_names,
    )  # fmt: skip
    test.save(tmp_path / "test.npz")
    again = CellResult.load(tmp_path, ("gce", 3, 1), (150, 50), Cohort(scans, ("CN", "AD")))
    np.testing.assert_array_equal(again.test.logits, result.test.logits)
    np.testing.assert_array_equal(again.posterior, result.posterior)
    assert CellResult.load(tmp_path, ("gce", 3, 1), (150, 50), Cohort((), ("CN", "AD"))).posterior is None


def test_the_identity_always_gets_the_logits_as_the_loss_trained_them(result):
    for correct in (True, False):
        run = result.run("identity", correct_prior=correct, coverage=0.9)
        np.testing.assert_allclose(run.probabilities, softmax(result.test.logits - [0.5, -0.5]))
        assert (run.loss, run.seed, run.fold, run.training_scans) == ("gce", 3, 1, 200)


@pytest.mark.parametrize("correct", [True, False])
def test_a_calibrator_is_fitted_on_the_calibration_scans_alone(result, correct):
    shift = np.array([0.0, 0.0]) if correct else np.array([0.5, -0.5])
    fitted = build_calibrator("temperature").fit(result.calibration.logits - shift, result.calibration.labels)
    run = result.run("temperature", correct_prior=correct, coverage=0.9)
    np.testing.assert_allclose(run.probabilities, fitted.transform(result.test.logits - shift))


def test_values_per_scan_are_coverage_size_and_the_distance_to_the_oracle(result):
    run = result.run("temperature", correct_prior=True, coverage=0.9)
    assert set(run.per_scan) == {"set_coverage", "set_size", "posterior_error", "excess_nll"}
    assert run.per_scan["set_coverage"].mean() > 0.8
    assert set(run.per_scan["set_size"].tolist()) <= {0.0, 1.0, 2.0}
    rows = np.arange(40)
    excess = np.log(result.posterior[rows, run.labels]) - np.log(run.probabilities[rows, run.labels])
    np.testing.assert_allclose(run.per_scan["excess_nll"], excess)
    unknown = CellResult("gce", 3, 1, (150, 50), result.calibration, result.test, CORRECTION, None).run(
        "temperature", correct_prior=True, coverage=0.9
    )
    assert set(unknown.per_scan) == {"set_coverage", "set_size"}


@pytest.mark.parametrize("calibrator", ["identity", "temperature"])
def test_without_class_shares_probabilities_are_those_at_equal_shares(result, calibrator):
    run = result.run(calibrator, correct_prior=True, coverage=0.9)
    at_training = softmax(result.test.logits) if calibrator == "identity" else run.probabilities
    np.testing.assert_allclose(run.at_equal_shares, prior_corrected(at_training, [0.75, 0.25]))
    absent = replace(result, class_counts=(200, 0)).run(calibrator, correct_prior=True, coverage=0.9)
    assert absent.at_equal_shares is None
    assert absent.training_scans == 200


def test_without_a_part_of_its_own_a_cell_is_calibrated_on_the_other_folds(result):
    other_correction = PriorCorrection(
        torch.tensor([1.0, 1.0], dtype=torch.float64), torch.tensor([0.3, -0.3], dtype=torch.float64)
    )
    others = [
        replace(result, fold=fold, test=predictions(50, seed=10 + fold), prior_correction=other_correction)
        for fold in (0, 2)
    ]
    crossed = result.calibrated_on(others)
    logits, labels = (
        np.concatenate([getattr(o.test, what) for o in others]) for what in ("logits", "labels")
    )
    for correct, shift, own in ((True, 0.0, 0.0), (False, [0.3, -0.3], [0.5, -0.5])):
        fitted = build_calibrator("temperature").fit(logits - shift, labels)
        run = crossed.run("temperature", correct_prior=correct, coverage=0.9)
        np.testing.assert_allclose(run.probabilities, fitted.transform(result.test.logits - own), atol=1e-9)
    assert run.per_scan["set_coverage"].shape == (40,)


def test_without_any_calibration_scan_only_the_identity_is_possible(result):
    alone = replace(result, calibration=None)
    assert not alone.can_calibrate
    assert set(alone.run("identity", correct_prior=True, coverage=0.9).per_scan) == {
        "posterior_error", "excess_nll",
    }  # fmt: skip
    with pytest.raises(InputError, match="gce, seed 3, fold 1: No scans are left to fit a calibrator on"):
        alone.run("temperature", correct_prior=True, coverage=0.9)


def test_no_calibration_scan_scores_itself_for_the_sets(result):
    run = result.run("isotonic", correct_prior=True, coverage=0.9)
    fitted = build_calibrator("isotonic").fit(result.calibration.logits, result.calibration.labels)
    held_out = held_out_probabilities(result.calibration, "isotonic", SET_FOLDS, result.seed)
    own = fitted.transform(result.calibration.logits)
    assert not np.allclose(held_out, own)
    sets = ConformalSets.fit(held_out, result.calibration.labels, 0.9).sets(run.probabilities)
    np.testing.assert_array_equal(run.per_scan["set_size"], sets.sum(axis=1))


def test_offsets_assume_the_shares_of_the_scans_they_were_fitted_on(result):
    run = result.run("bias_corrected_temperature", correct_prior=True, coverage=0.9)
    shares = np.bincount(result.calibration.labels) / len(result.calibration)
    np.testing.assert_allclose(run.at_equal_shares, prior_corrected(run.probabilities, shares))


def test_without_the_correction_the_shares_are_those_that_the_loss_assumes(result):
    run = result.run("temperature", correct_prior=False, coverage=0.9)
    shares = np.array([0.75, 0.25]) * np.exp([-0.5, 0.5])
    expected = prior_corrected(run.probabilities, shares / shares.sum())
    np.testing.assert_allclose(run.at_equal_shares, expected)
