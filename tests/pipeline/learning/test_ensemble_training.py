"""Members are trained apart, repeat themselves, survive being stopped between and within, and come back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.calibrators import softmax
from models.classifier import CalibratedClassifier
from pipeline.config import CalibrationSettings, DecisionSettings
from pipeline.evaluation.classifier.assemble import assemble
from pipeline.evaluation.classifier.decision import choose_operating_point
from pipeline.evaluation.classifier.selection import held_out_probabilities, select_calibrator
from pipeline.learning.ensemble_training import (
    TrainedEnsemble,
    member_folder,
    member_seed,
    train_ensemble,
)
from pipeline.learning.inference import predict
from pipeline.learning.trained import RECORD, WEIGHTS
from pipeline.learning.training import train


class Stop(Exception):  # noqa: N818 - stands for a kill
    pass


def of_three(study):
    return study(epochs=3).model_copy(update={"ensemble": 3})


def bytes_of(folder):
    return [(member_folder(folder, n) / WEIGHTS).read_bytes() for n in range(3)]


@pytest.fixture
def whole(volumes, split, study, tmp_path) -> TrainedEnsemble:
    """Three networks, trained in one go in ``whole``."""
    return train_ensemble(volumes, split, of_three(study), tmp_path / "whole")


@pytest.mark.parametrize("epochs_done", [3, 4, 6], ids=["between", "within", "before the last"])
def test_stopped_anywhere_it_ends_with_the_same_bytes(volumes, split, study, tmp_path, whole, epochs_done):
    def stop(done, total, metrics):
        assert total == 9
        if done == epochs_done:
            raise Stop

    with pytest.raises(Stop):
        train_ensemble(volumes, split, of_three(study), tmp_path / "stopped", stop)
    assert not (member_folder(tmp_path / "stopped", epochs_done // 3) / RECORD).exists()
    seen = []
    train_ensemble(volumes, split, of_three(study), tmp_path / "stopped", lambda *told: seen.append(told[0]))
    assert bytes_of(tmp_path / "stopped") == bytes_of(tmp_path / "whole")
    assert seen == list(range(epochs_done + 1, 10)), "what was done is not done again"


def test_members_differ_and_the_first_is_the_network_trained_alone(volumes, split, study, tmp_path, whole):
    train(volumes, split, study(epochs=3), tmp_path / "alone")
    members = bytes_of(tmp_path / "whole")
    assert members[0] == (tmp_path / "alone" / WEIGHTS).read_bytes()
    assert len(set(members)) == 3
    assert [member_seed(5, n) for n in range(3)] != [member_seed(6, n) for n in range(3)]


def test_a_larger_ensemble_goes_on_from_a_smaller_one(volumes, split, study, tmp_path, whole):
    smaller = of_three(study).model_copy(update={"ensemble": 2})
    seen = []
    train_ensemble(volumes, split, smaller, tmp_path / "grown")
    train_ensemble(volumes, split, of_three(study), tmp_path / "grown", lambda *told: seen.append(told[0]))
    assert seen == [7, 8, 9]
    assert bytes_of(tmp_path / "grown") == bytes_of(tmp_path / "whole")


def test_it_comes_back_from_its_files_and_averages(volumes, tmp_path, whole):
    loaded = TrainedEnsemble.load(whole.save(tmp_path / "kept"))
    assert len(loaded) == 3
    assert loaded.history == whole.history
    found = predict(loaded.network, volumes)
    apart = [predict(member.network, volumes) for member in whole.members]
    averaged = np.mean([softmax(p.logits) for p in apart], axis=0)
    np.testing.assert_allclose(softmax(found.logits), averaged, rtol=1e-12)
    assert found.features.shape == (len(volumes), 3 * apart[0].features.shape[1])


def test_fewer_members_saved_over_more_are_fewer(tmp_path, whole):
    whole.save(tmp_path / "kept")
    TrainedEnsemble(whole.members[:2]).save(tmp_path / "kept")
    assert len(TrainedEnsemble.load(tmp_path / "kept")) == 2


def test_one_network_is_an_ensemble_of_one(volumes, split, study, tmp_path):
    alone = train_ensemble(volumes, split, study(), tmp_path)
    assert alone.network is alone.members[0].network
    assert list(alone.history) == list(alone.members[0].history)
    np.testing.assert_array_equal(alone.prevalence, alone.members[0].prevalence)


def test_the_history_is_the_mean_over_members_still_trained(whole):
    short, *others = whole.members
    short = dataclasses.replace(short, history=short.history[:2])
    history = TrainedEnsemble((short, *others)).history
    assert len(history) == 3
    assert history[1]["loss"] == pytest.approx(np.mean([m.history[1]["loss"] for m in whole.members]))
    assert history[2]["loss"] == pytest.approx(np.mean([m.history[2]["loss"] for m in others]))


def test_the_assembled_classifier_tells_the_doubt_of_its_members(volumes, split, study, tmp_path, whole):
    calibration = predict(whole.network, volumes.subset(split.calibration))
    selection = select_calibrator(calibration, CalibrationSettings(method="temperature", folds=3), 5)
    settings = DecisionSettings()
    held_out = held_out_probabilities(calibration, "temperature", 3, 5)
    made = assemble(whole, calibration, (selection, held_out), settings)
    classifier = CalibratedClassifier.load(made.save(tmp_path / "bundle"))
    rng = np.random.default_rng(1)
    p = classifier.predict(1 + 0.2 * rng.standard_normal((48, 56, 48), dtype=np.float32))
    assert p.networks == 3
    assert 0 < p.mutual_information < p.entropy
    assert (classifier.largest_set, classifier.range_factor) == (1, settings.range_factor)  # of two classes
    assert classifier.operating_point == choose_operating_point(
        selection.calibrator.transform(calibration.logits), calibration.labels, 0.2, certainty=0.95
    )
    # Pooled first, calibrated afterwards: the stored calibrator is the one fitted on averaged logits.
    assert classifier.calibrator.to_dict() == selection.calibrator.to_dict()
    assert classifier.outliers.mahalanobis(calibration.features).shape == (len(calibration),)
