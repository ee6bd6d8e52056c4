"""Cross-fitting from a cohort to a classifier."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from clinics import Clinic, study_of

from flows.learning.build_classifier import fit_network, learn
from flows.learning.cohorts import split_cohort
from flows.learning.study_files import StudyFiles
from models.classifier import CalibratedClassifier
from models.ensemble import members_in, pooled_logits
from pipeline.config import Study
from pipeline.files import read_json
from pipeline.learning.ensemble_training import TrainedEnsemble
from pipeline.learning.inference import predict

FOLDS = {"folds": 3, "repeats": 2}


def learned(study: Study) -> StudyFiles:
    files, scans = StudyFiles(study.output), split_cohort(study)
    learn(study, scans, files, lambda: fit_network(study, scans, files))
    return files


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Study, StudyFiles]:
    clinic = Clinic(tmp_path_factory.mktemp("clinic") / "bids")
    clinic.bids.mkdir()
    clinic.add(40)
    study = study_of(clinic, epochs=2, calibration=FOLDS)
    return study, learned(study)


def test_every_development_scan_is_predicted_by_networks_that_never_saw_it(made):
    study, files = made
    scans = split_cohort(study)
    held_out, _ = files.read_predictions()
    assert held_out.scan_ids == scans.split.train
    assert set(held_out.scan_ids) | set(scans.split.test) == set(scans.volumes.scan_ids)
    trained = TrainedEnsemble.load(files.network)
    assert len(trained) == 6
    # The stored logits are those of the networks whose fold holds the scan, and of no other.
    every = np.stack([predict(m, scans.part("train")).logits for m in trained.members])
    members = [read_json(files.training / f"member-{n}" / "training.json")["made_of"] for n in range(6)]
    assert len(set(members)) == 6
    for row in range(len(held_out)):
        pairs = [(a, b) for a in range(3) for b in range(3, 6)]
        fits = [
            np.allclose(pooled_logits(every[list(pair), row][:, None])[0], held_out.logits[row], atol=1e-5)
            for pair in pairs
        ]
        assert any(fits)


def test_the_classifier_is_the_average_of_all_networks(made):
    study, files = made
    classifier = CalibratedClassifier.load(files.bundle)
    assert members_in(classifier.network) == 6
    assert classifier.card.scheme == "cross_fit"
    _, test = files.read_predictions()
    scans = split_cohort(study).part("test")
    each = np.stack([predict(m, scans).logits for m in TrainedEnsemble.load(files.network).members])
    np.testing.assert_allclose(test.logits, pooled_logits(each), atol=1e-4)
    shares = np.bincount(split_cohort(study).part("train").labels) / len(split_cohort(study).split.train)
    np.testing.assert_allclose(classifier.prevalence, shares)


def test_few_scans_like_those_of_training_are_out_of_distribution(made):
    _, files = made
    classifier = CalibratedClassifier.load(files.bundle)
    _, test = files.read_predictions()
    limit = classifier.outliers.mahalanobis_limit
    assert (classifier.outliers.mahalanobis(test.features) > limit).mean() < 0.35
    strange = test.features * -3 + 5
    assert (classifier.outliers.mahalanobis(strange) > limit).all()


def test_a_stopped_cross_fitting_ends_with_the_same_bytes(made):
    study, files = made
    before = {path.name: path.read_bytes() for path in sorted(files.bundle.iterdir())}
    stamp = (files.training / "member-0" / "network.safetensors").stat().st_mtime_ns
    shutil.rmtree(files.training / "member-4")
    (files.training / "member-5" / "done.json").unlink()
    shutil.rmtree(files.bundle)
    files.record("training").unlink()
    files.record("classifier").unlink()
    learned(study)
    assert {path.name: path.read_bytes() for path in sorted(files.bundle.iterdir())} == before
    assert (files.training / "member-0" / "network.safetensors").stat().st_mtime_ns == stamp


def test_the_network_of_every_fold_starts_from_given_weights(made, tmp_path, monkeypatch):
    study, files = made
    given = files.training / "member-0" / "network.safetensors"
    network = study.network.model_copy(update={"weights": given})
    few = study.calibration.model_copy(update={"repeats": 1, "workers": 1})
    own = study.model_copy(update={"output": tmp_path, "network": network, "calibration": few})
    started = []
    monkeypatch.setattr(
        "pipeline.learning.training_state.load_given",
        lambda _, settings: started.append(settings.weights_file()),
    )
    scans = split_cohort(own)
    fit_network(own, scans, StudyFiles(tmp_path))
    assert started == [given] * 3


def test_a_study_may_ask_for_a_calibration_part(made, tmp_path):
    study, _ = made
    own = study.model_copy(
        update={
            "output": tmp_path,
            "calibration": study.calibration.model_copy(update={"scheme": "split"}),
        }
    )
    files = learned(own)
    calibration, _ = files.read_predictions()
    assert calibration.scan_ids == files.read_split().calibration
    assert CalibratedClassifier.load(files.bundle).card.scheme == "split"
