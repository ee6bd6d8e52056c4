"""The calibrator that ships, the scores beside it, and probabilities of scans that no calibrator saw."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from models.calibrators import CALIBRATORS, build_calibrator, softmax
from pipeline.config import CalibrationSettings
from pipeline.errors import InputError
from pipeline.evaluation.classifier.selection import (
    Selection,
    held_out_probabilities,
    select_calibrator,
)
from pipeline.learning.predictions import Predictions

CANDIDATES = ("identity", "temperature", "adaptive_temperature")


def predictions(n=200, k=3, scale=1.0, seed=0, scans_per_subject=1, growing=False):
    """Labels drawn from softmax; the logits are `scale` times too large, or the more so the surer."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 1.8
    probabilities = softmax(logits)
    labels = (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    factor = 0.7 + 2.0 * probabilities.max(axis=1, keepdims=True) ** 4 if growing else scale
    return Predictions(
        tuple(f"scan-{i}" for i in range(n)),
        tuple(f"sub-{i // scans_per_subject:04d}" for i in range(n)),
        logits * factor,
        labels,
        np.zeros((n, 1), np.float32),
        tuple("ABCDE"[:k]),
    )


def select(scans, candidates=CANDIDATES, seed=0, **settings):
    return select_calibrator(scans, CalibrationSettings(candidates=candidates, **settings), seed)


def nll_of(calibrator, scans):
    probabilities = calibrator.transform(scans.logits)
    return -np.log(np.maximum(probabilities[np.arange(len(scans)), scans.labels], 1e-15)).mean()


@pytest.mark.parametrize("scans", [predictions(60), predictions(300, scale=2.5)], ids=["few", "more"])
def test_adaptive_temperature_ships_whatever_the_scores_and_the_reason_states_them(scans):
    selection = select(scans)
    assert selection.chosen == selection.calibrator.name == "adaptive_temperature"
    nll = {score.name: score.nll for score in selection.scores}
    assert tuple(nll) == CANDIDATES
    assert selection.folds == 5
    assert 2 <= selection.repeats <= 5
    assert selection.reason == (
        "Adaptive temperature scaling was applied: the cross-validated NLL was "
        f"{nll['identity']:.3f} without calibration and {nll['adaptive_temperature']:.3f} with it. "
        f"The best other candidate, temperature scaling, had {nll['temperature']:.3f}. "
        "The calibration may change the predicted class."
    )


def test_it_ships_the_calibrator_fitted_on_all_scans():
    scans = predictions(150, scale=2.5)
    refitted = build_calibrator("adaptive_temperature").fit(scans.logits, scans.labels)
    selection = select(scans)
    assert selection.calibrator.to_dict() == refitted.to_dict()
    assert set(selection.others) == {score.name for score in selection.scores} - {"adaptive_temperature"}
    for name, other in selection.others.items():
        again = build_calibrator(name).fit(scans.logits, scans.labels)
        assert other.to_dict() == again.to_dict()


def test_every_candidates_calibration_error_has_its_noise_floor_beside_it():
    for score in select(predictions(100)).scores:
        assert 0 < score.noise < 0.3


@pytest.mark.parametrize("method", ["identity", "temperature", "vector"])
def test_the_method_of_the_settings_ships(method):
    selection = select(predictions(100), ("identity",), method=method)
    assert selection.chosen == method
    named = {score.name for score in selection.scores}
    assert named == {"identity", method, "adaptive_temperature"}
    opening = "No calibration was applied, as " if method == "identity" else f"{method.capitalize()} scaling "
    assert selection.reason.startswith(opening)


@pytest.mark.parametrize("seed", range(6))
def test_auto_takes_the_candidate_of_least_cross_validated_loss(seed):
    candidates = ("identity", "temperature", "vector")
    selection = select(predictions(40, scale=1.2, seed=seed), candidates, method="auto")
    nll = {score.name: score.nll for score in selection.scores if score.name in candidates}
    assert selection.chosen == min(nll, key=nll.get)
    assert next(s for s in selection.scores if s.nll == min(t.nll for t in selection.scores)).behind == 0


def test_the_reason_does_not_call_a_loss_the_least_beside_a_lower_one():
    equal = replace(predictions(60), logits=np.zeros((60, 3)), labels=np.array([0] * 40 + [1] * 15 + [2] * 5))
    selection = select(equal, ("identity", "temperature"), method="auto")
    nll = {score.name: f"{score.nll:.3f}" for score in selection.scores}
    assert nll["adaptive_temperature"] < nll["identity"] == nll["temperature"]
    reason = selection.reason
    assert "the least" not in reason
    assert "no candidate that may be applied had a lower cross-validated NLL: 1.099. The best other" in reason
    found = (
        f"adaptive temperature scaling, had {nll['adaptive_temperature']}, but is not among the candidates."
    )
    assert f"The best other calibrator, {found}" in reason


def test_the_reason_says_that_a_better_candidate_was_left_out_for_its_accuracy(monkeypatch):
    lost = "pipeline.evaluation.classifier.selection._lost_accuracy"
    monkeypatch.setattr(lost, lambda name, *_: "" if name == "identity" else "in cross-validation it lowers")
    reason = select(predictions(100, scale=2.5), method="auto").reason
    assert reason.startswith(
        "No calibration was applied, because no candidate that may be applied had a lower"
    )
    assert ", but it lowers the accuracy." in reason


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("growing", [True, False])
def test_held_out_loss_of_what_ships_is_not_above_the_identitys(n, growing):
    held_out = predictions(5000, scale=1.5, seed=999, growing=growing)
    identity = nll_of(build_calibrator("identity"), held_out)
    excess = []
    for seed in range(12):
        scans = predictions(n, scale=1.5, seed=seed, growing=growing)
        excess.append(nll_of(select(scans, ("identity",)).calibrator, held_out) - identity)
    assert np.mean(excess) <= -0.01
    assert np.max(excess) < 0.03


def test_all_scans_of_a_subject_are_left_out_together():
    # Each subject's label is a coin toss, told by a logit that is near its number: with another scan of the
    # same subject at hand a flexible calibrator would look perfect.
    rng = np.random.default_rng(3)
    n_subjects, scans_each = 40, 5
    number = np.repeat(np.linspace(-2, 2, n_subjects), scans_each)
    labels = np.repeat(rng.integers(0, 2, n_subjects), scans_each)
    scans = Predictions(
        tuple(map(str, range(200))),
        tuple(f"sub-{i // scans_each}" for i in range(200)),
        np.stack([number, np.zeros(200)], axis=1),
        labels,
        np.zeros((200, 1), np.float32),
        ("A", "B"),
    )
    alone = replace(scans, subjects=scans.scan_ids)
    apart, leaking = (select(some, ("identity", "histogram")).scores for some in (scans, alone))
    assert apart[1].name == leaking[1].name == "histogram"
    assert apart[1].nll > leaking[1].nll + 0.1
    assert apart[0].nll_se > 1.5 * leaking[0].nll_se
    rows = np.arange(200)
    held_out, seen = (
        held_out_probabilities(some, "histogram", 5, 0)[rows, labels] for some in (scans, alone)
    )
    assert np.log(np.maximum(held_out, 1e-15)).mean() < np.log(np.maximum(seen, 1e-15)).mean() - 0.1


@pytest.mark.parametrize("name", sorted(CALIBRATORS))
def test_held_out_probabilities_do_not_depend_on_the_scans_own_label(name):
    scans = predictions(30, scans_per_subject=2)
    before = held_out_probabilities(scans, name, 15, 0)
    np.testing.assert_allclose(before.sum(axis=1), 1)
    # The other scan of the subject keeps its label, so that the subject stays in its fold.
    labels = scans.labels.copy()
    labels[1] = (labels[1] + 1) % 3
    after = held_out_probabilities(replace(scans, labels=labels), name, 15, 0)
    np.testing.assert_array_equal(after[:2], before[:2])
    np.testing.assert_array_equal(before, held_out_probabilities(scans, name, 15, 0))


def test_held_out_probabilities_of_one_subject_are_uncalibrated():
    scans = predictions(6, scans_per_subject=6)
    found = held_out_probabilities(scans, "adaptive_temperature", 5, 0)
    np.testing.assert_array_equal(found, softmax(scans.logits))


def test_the_standard_error_is_that_of_a_mean_over_scans_when_each_subject_has_one():
    scans = predictions(100)
    score = select(scans, ("identity",), method="identity").scores[0]
    losses = -np.log(softmax(scans.logits)[np.arange(100), scans.labels])
    assert score.nll == pytest.approx(losses.mean())
    assert score.nll_se == pytest.approx(losses.std(ddof=1) / 10)


@pytest.mark.parametrize("scans", [predictions(60, scale=2.5), predictions(2, scans_per_subject=2)])
def test_a_stored_selection_is_read_back_whole(scans):
    selection = select(scans)
    again = Selection.from_dict(json.loads(json.dumps(selection.to_dict(), allow_nan=False)))
    assert (again.chosen, again.reason) == (selection.chosen, selection.reason)
    assert (again.folds, again.repeats) == (selection.folds, selection.repeats)
    assert again.scores == selection.scores
    assert again.calibrator.to_dict() == selection.calibrator.to_dict()
    assert {n: c.to_dict() for n, c in again.others.items()} == {
        n: c.to_dict() for n, c in selection.others.items()
    }
    np.testing.assert_array_equal(
        again.calibrator.transform(scans.logits), selection.calibrator.transform(scans.logits)
    )


def test_what_an_older_version_stored_is_read():
    score = {
        "name": "temperature",
        "nll": 0.5,
        "nll_se": 0.1,
        "classwise_ece": 0.05,
        "behind": 0.0,
        "behind_se": 0.0,
    }
    fitted = {"name": "temperature", "options": {}, "fitted": {"num_classes": 2, "temperature": 1.5}}
    stored = {"chosen": "temperature", "reason": "Why.", "folds": 5, "scores": [score], "calibrator": fitted}
    selection = Selection.from_dict(stored)
    assert (selection.chosen, selection.folds, selection.repeats) == ("temperature", 5, 1)
    assert selection.scores[0].nll == 0.5
    np.testing.assert_array_equal(
        selection.calibrator.transform([[1.0, 0.0]]), softmax(np.array([[1.0, 0.0]]) / 1.5)
    )


def test_an_incomplete_stored_selection_is_refused():
    stored = select(predictions(50)).to_dict()
    for key in ("calibrator", "scores", "folds", "reason"):
        with pytest.raises(InputError, match=rf"selection\.json: .*cannot be read.*{key}"):
            Selection.from_dict({name: value for name, value in stored.items() if name != key})


def test_same_seed_same_scores():
    scans = predictions(100, scale=2.0)
    first = select(scans, seed=4)
    assert select(scans, seed=4).to_dict() == first.to_dict()
    assert select(scans, seed=5).scores != first.scores


def test_a_rare_class_lowers_the_number_of_folds_and_the_reason_says_so():
    scans = predictions(100)
    rare = np.array([*np.flatnonzero(scans.labels == 2)[:3], *np.flatnonzero(scans.labels != 2)])
    selection = select(scans.take(rare))
    assert selection.folds == 3
    assert "3 folds instead of 5, because C has 3 subjects" in selection.reason


def test_a_class_without_a_calibration_scan_is_named():
    scans = predictions(100)
    selection = select(scans.take(np.flatnonzero(scans.labels != 1)))
    assert "There was no calibration scan of B" in selection.reason


def test_scans_of_one_class_alone_get_a_temperature_and_the_reason_names_the_others():
    scans = predictions(100)
    selection = select(scans.take(np.flatnonzero(scans.labels == 0)))
    assert selection.chosen == "adaptive_temperature"
    assert "There was no calibration scan of B, C" in selection.reason
    calibrated = selection.calibrator.transform(scans.logits)
    np.testing.assert_array_equal(calibrated.argmax(axis=1), scans.logits.argmax(axis=1))


def test_a_calibrator_that_may_change_the_class_says_so():
    scans = predictions(500)
    biased = replace(scans, logits=scans.logits + np.array([2.0, 0.0, 0.0]))
    selection = select(biased, ("temperature", "vector"), method="auto")
    assert selection.chosen == "vector"
    assert selection.reason.endswith("The calibration may change the predicted class.")
    assert "predicted class" not in select(biased, ("temperature",), method="temperature").reason


@pytest.mark.parametrize("name", ["isotonic", "histogram"])
def test_what_recalibrates_each_class_alone_is_refused_where_it_costs_accuracy(name):
    labels = np.arange(120) % 20
    logits = 4 * np.eye(20)[labels] + np.random.default_rng(5).normal(size=(120, 20))
    ids = tuple(map(str, range(120)))
    scans = Predictions(ids, ids, logits, labels, np.zeros((120, 1), np.float32), tuple(map(str, range(20))))
    refused = r"cannot be applied: in cross-validation it lowers the accuracy from 0\.\d+ to 0\.\d+\. Set cal"
    with pytest.raises(InputError, match=refused):
        select(scans, ("identity",), method=name)
    assert select(scans, (name,), method="auto").chosen == "identity"


def test_one_subject_alone_leaves_the_identity_with_the_reason():
    selection = select(predictions(6, scans_per_subject=6))
    assert (selection.chosen, selection.scores, selection.folds) == ("identity", (), 0)
    assert "cross-validation needs two subjects" in selection.reason


def test_two_subjects_are_enough_to_answer():
    selection = select(predictions(2))
    assert selection.folds == 2
    assert selection.chosen == "adaptive_temperature"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"candidates": ("identity", "temperatures")},
            "calibration.candidates: There is no calibrator named 'temperatures'. Did you mean",
        ),
        ({"method": "adaptive"}, "calibration.method: There is no calibrator named 'adaptive'. Did you mean"),
        (
            {"candidates": (), "method": "auto"},
            "calibration.candidates: The list of calibrators to select from is empty",
        ),
    ],
)
def test_names_that_are_no_calibrators_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        select_calibrator(predictions(20), CalibrationSettings.model_construct(**settings), 0)


def test_no_scan_is_refused():
    with pytest.raises(InputError, match="There are no calibration scans"):
        select(predictions(20).take(np.array([], dtype=int)))
