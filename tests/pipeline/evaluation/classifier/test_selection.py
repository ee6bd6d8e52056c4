"""Choosing a calibrator: by subject, the simplest that is not shown to be worse, never worse than none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from models.calibrators import softmax
from pipeline.errors import InputError
from pipeline.evaluation.classifier.selection import Selection, select_calibrator
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


def held_out_nll(calibrator, scans):
    probabilities = calibrator.transform(scans.logits)
    return -np.log(np.maximum(probabilities[np.arange(len(scans)), scans.labels], 1e-15)).mean()


@pytest.mark.parametrize(
    ("scans", "expected"),
    [
        (predictions(1000, scale=1.0), ("identity", "No calibration was applied: ")),
        (predictions(500, scale=2.5), ("temperature", "Temperature scaling was applied: ")),
        (
            predictions(3000, growing=True),
            ("adaptive_temperature", "Adaptive temperature scaling was applied: it improved "),
        ),
    ],
    ids=["nothing wrong", "one temperature", "temperature grows"],
)
def test_the_right_one_is_chosen_where_the_evidence_is_clear(scans, expected):
    selection = select_calibrator(scans, CANDIDATES, folds=5, seed=0)
    name, opening = expected
    assert selection.chosen == name == selection.calibrator.name
    assert selection.reason.startswith(opening)
    assert [score.name for score in selection.scores] == list(CANDIDATES)
    assert selection.folds == 5


def test_it_ships_the_calibrator_fitted_on_all_scans():
    scans = predictions(500, scale=2.5)
    selection = select_calibrator(scans, CANDIDATES, folds=5, seed=0)
    refitted = type(selection.calibrator)().fit(scans.logits, scans.labels)
    assert selection.calibrator.to_dict() == refitted.to_dict()


@pytest.mark.parametrize("seed", range(30))
def test_never_chosen_with_a_cross_validated_loss_above_the_identitys(seed):
    scans = predictions(40, scale=1.2, seed=seed)
    candidates = ("histogram", "isotonic", "adaptive_temperature", "temperature")
    selection = select_calibrator(scans, candidates, folds=5, seed=seed)
    nll = {score.name: score.nll for score in selection.scores}
    assert nll[selection.chosen] <= nll["identity"]
    if selection.chosen == "identity":
        assert selection.reason.startswith("No calibration was applied: ")


@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize("growing", [True, False])
def test_held_out_loss_after_selection_is_not_above_the_identitys(n, growing):
    held_out = predictions(20_000, scale=1.5, seed=999, growing=growing)
    identity = held_out_nll(select_calibrator(held_out, ("identity",), 2, 0).calibrator, held_out)
    excess = []
    for seed in range(12):
        scans = predictions(n, scale=1.5, seed=seed, growing=growing)
        selection = select_calibrator(scans, CANDIDATES, folds=5, seed=seed)
        excess.append(held_out_nll(selection.calibrator, held_out) - identity)
    assert np.mean(excess) <= 0
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
    apart = select_calibrator(scans, ("identity", "histogram"), folds=5, seed=0)
    as_if_independent = Predictions(
        scans.scan_ids, scans.scan_ids, scans.logits, scans.labels, scans.features, scans.class_names
    )
    leaking = select_calibrator(as_if_independent, ("identity", "histogram"), folds=5, seed=0)
    nll = {name: s.nll for name, s in [("apart", apart.scores[1]), ("leaking", leaking.scores[1])]}
    assert nll["apart"] > nll["leaking"] + 0.1
    assert apart.scores[0].nll_se > 1.5 * leaking.scores[0].nll_se


def test_the_standard_error_is_that_of_a_mean_over_scans_when_each_subject_has_one():
    scans = predictions(100)
    score = select_calibrator(scans, ("identity",), folds=5, seed=0).scores[0]
    losses = -np.log(softmax(scans.logits)[np.arange(100), scans.labels])
    assert score.nll == pytest.approx(losses.mean())
    assert score.nll_se == pytest.approx(losses.std(ddof=1) / 10)
    assert (score.behind, score.behind_se) == (0.0, 0.0)


def test_the_reason_for_no_calibration_states_the_improvement_with_its_standard_error():
    scans = predictions(200, scale=1.2, seed=1)
    selection = select_calibrator(scans, ("identity", "temperature"), folds=5, seed=0)
    identity = selection.scores[0]
    assert selection.chosen == "identity"
    assert selection.reason == (
        "No calibration was applied: temperature scaling improved the cross-validated NLL by only "
        f"{identity.behind:.3f} +- {identity.behind_se:.3f}."
    )


@pytest.mark.parametrize("scans", [predictions(150, scale=2.5), predictions(2, scans_per_subject=2)])
def test_a_stored_selection_is_read_back_whole(scans):
    selection = select_calibrator(scans, CANDIDATES, folds=5, seed=0)
    again = Selection.from_dict(json.loads(json.dumps(selection.to_dict(), allow_nan=False)))
    assert (again.chosen, again.reason, again.folds) == (selection.chosen, selection.reason, selection.folds)
    assert again.scores == selection.scores
    assert again.calibrator.to_dict() == selection.calibrator.to_dict()
    np.testing.assert_array_equal(
        again.calibrator.transform(scans.logits), selection.calibrator.transform(scans.logits)
    )


def test_an_incomplete_stored_selection_is_refused():
    stored = select_calibrator(predictions(50), CANDIDATES, folds=5, seed=0).to_dict()
    for key in ("calibrator", "scores", "folds", "reason"):
        with pytest.raises(InputError, match=rf"selection\.json: .*cannot be read.*{key}"):
            Selection.from_dict({name: value for name, value in stored.items() if name != key})


def test_same_seed_same_scores():
    scans = predictions(300, scale=2.0)
    first = select_calibrator(scans, CANDIDATES, folds=5, seed=4)
    assert select_calibrator(scans, CANDIDATES, folds=5, seed=4).scores == first.scores
    assert select_calibrator(scans, CANDIDATES, folds=5, seed=5).scores != first.scores


def test_a_rare_class_lowers_the_number_of_folds_and_the_reason_says_so():
    scans = predictions(100)
    rare = np.array([*np.flatnonzero(scans.labels == 2)[:3], *np.flatnonzero(scans.labels != 2)])
    selection = select_calibrator(scans.take(rare), CANDIDATES, folds=5, seed=0)
    assert selection.folds == 3
    assert "3 folds instead of 5, because C has 3 subjects" in selection.reason


def test_a_class_without_a_calibration_scan_is_named():
    scans = predictions(100)
    selection = select_calibrator(scans.take(np.flatnonzero(scans.labels != 1)), CANDIDATES, 5, 0)
    assert "There was no calibration scan of B" in selection.reason


def test_a_calibrator_that_may_change_the_class_says_so():
    scans = predictions(500)
    biased = replace(scans, logits=scans.logits + np.array([2.0, 0.0, 0.0]))
    selection = select_calibrator(biased, ("temperature", "vector"), folds=5, seed=0)
    assert selection.chosen == "vector"
    assert selection.reason.endswith("It may change the predicted class.")


def test_one_subject_alone_leaves_the_identity_with_the_reason():
    selection = select_calibrator(predictions(6, scans_per_subject=6), CANDIDATES, folds=5, seed=0)
    assert (selection.chosen, selection.scores, selection.folds) == ("identity", (), 0)
    assert "cross-validation needs two subjects" in selection.reason


def test_two_subjects_are_enough_to_answer():
    selection = select_calibrator(predictions(2), CANDIDATES, folds=5, seed=0)
    assert selection.folds == 2
    assert selection.chosen in CANDIDATES


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (
            ("identity", "temperatures"),
            "calibration.candidates: There is no calibrator named 'temperatures'. Did you mean",
        ),
        ((), "calibration.candidates: The list of calibrators to select from is empty"),
    ],
)
def test_candidates_that_are_no_calibrators_are_refused(candidates, message):
    with pytest.raises(InputError, match=message):
        select_calibrator(predictions(20), candidates, folds=5, seed=0)


def test_no_scan_is_refused():
    with pytest.raises(InputError, match="There are no calibration scans"):
        select_calibrator(predictions(20).take(np.array([], dtype=int)), CANDIDATES, folds=5, seed=0)
