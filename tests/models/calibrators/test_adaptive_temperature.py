"""ATS: class order, surer stays surer, gains where there is something to gain, plain pieces, old files."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibrators import Calibrator, build_calibrator, softmax


def ats(logits, labels, **options):
    return build_calibrator("adaptive_temperature", **options).fit(logits, labels)


@pytest.fixture
def growing(rng):
    """Scans whose logits are the more exaggerated the surer they are."""

    def draw(n, k=3):
        logits = rng.normal(size=(n, k)) * 1.8
        probabilities = softmax(logits)
        labels = (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
        return logits * (0.7 + 2.0 * probabilities.max(axis=1, keepdims=True) ** 4), labels

    return draw


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 400),
    k=st.integers(2, 5),
    scale=st.floats(0.05, 20),
    plain=st.booleans(),
    interpolate=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_without_offsets_every_scans_class_order_is_unchanged(drawn, seed, n, k, scale, plain, interpolate):
    logits, labels = drawn(n, k, scale, seed)
    calibrator = ats(logits, labels, offsets=False, plain=plain, interpolate=interpolate, min_per_piece=20)
    assert not calibrator.may_change_class
    calibrated = calibrator.transform(logits)
    in_order = np.take_along_axis(calibrated, np.argsort(logits, axis=1), axis=1)
    assert np.all(np.diff(in_order, axis=1) >= 0)
    best = np.take_along_axis(calibrated, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(best, calibrated.max(axis=1))


@pytest.mark.parametrize("options", [{}, {"offsets": False}, {"plain": True}])
def test_probabilities_are_the_mean_over_the_draws_which_a_reload_repeats(growing, options):
    logits, labels = growing(150)
    calibrator = ats(logits, labels, **options)
    draws = calibrator.draws(logits)
    assert draws.shape == (1 if options.get("plain") else 100, 150, 3)
    np.testing.assert_allclose(draws.sum(axis=2), 1, atol=1e-12)
    np.testing.assert_allclose(calibrator.transform(logits), draws.mean(axis=0), rtol=1e-12)
    again = Calibrator.from_dict(json.loads(json.dumps(calibrator.to_dict(), allow_nan=False)))
    np.testing.assert_array_equal(again.draws(logits), draws)
    assert ats(logits, labels, **options).to_dict() == calibrator.to_dict()


def test_the_draws_spread_less_the_more_scans_there_are(growing):
    scans, _ = growing(50)
    spread = [
        np.mean([ats(*growing(n)).draws(scans).std(axis=0).mean() for _ in range(8)]) for n in (50, 200, 1000)
    ]
    assert spread[0] > 1.4 * spread[1] > 2 * spread[2] > 0


def test_many_scans_come_to_the_temperatures_and_offsets_that_they_were_drawn_at(drawn):
    logits, labels = drawn(20_000, 3, 1.0)
    offset = np.array([1.2, 0.0, -0.4])
    calibrator = ats((logits - offset) * 2.5, labels)
    np.testing.assert_allclose(calibrator.log_temperatures.mean(axis=0), math.log(2.5), atol=0.08)
    found = calibrator.biases.mean(axis=0)
    np.testing.assert_allclose(found - found.mean(), offset - offset.mean(), atol=0.06)
    assert np.abs(calibrator.transform((logits - offset) * 2.5) - softmax(logits)).mean() < 0.01


@pytest.mark.parametrize("shares", [(1, 1, 1), (6, 3, 1)])
def test_sound_class_shares_are_hardly_moved_by_fifty_scans(rng, shares):
    logits = rng.normal(size=(50, 3)) * 1.8 + np.log(shares)
    labels = (softmax(logits).cumsum(axis=1) > (np.arange(50)[:, None] + 0.5) / 50).argmax(axis=1)
    assert np.abs(ats(logits, labels).biases.mean(axis=0)).max() < 0.15


def test_offsets_of_one_are_found_with_120_scans(drawn):
    offset, found = np.array([1.2, 0.0, -1.2]), []
    for seed in range(8):
        logits, labels = drawn(120, 3, 1.0, seed)
        biases = ats(logits - offset, labels).biases.mean(axis=0)
        found.append(biases[0] - biases[2])
    assert np.mean(found) == pytest.approx(2.4, abs=0.35)


@pytest.mark.parametrize(("n", "knots"), [(1, 1), (3, 2), (50, 4), (200, 6), (5000, 12)])
def test_there_are_as_many_knots_as_the_scans_carry(drawn, n, knots):
    calibrator = ats(*drawn(n))
    assert calibrator.knots.shape == (knots,)
    assert np.all(np.diff(calibrator.knots) > 0)
    assert calibrator.log_temperatures.shape == (100, knots)


def test_scans_of_one_class_have_no_offsets(drawn):
    logits, _ = drawn(60)
    calibrator = ats(logits, np.zeros(60, int))
    assert calibrator.biases.shape == (100, 0)
    np.testing.assert_array_equal(calibrator.transform(logits).argmax(axis=1), logits.argmax(axis=1))


def test_three_scans_change_little():
    logits = np.array([[2.0, 0.0, 0.0], [0.0, 1.5, 0.0], [0.0, 0.0, 1.0]])
    calibrated = ats(logits, [0, 1, 0]).transform(logits)
    assert np.abs(calibrated - softmax(logits)).max() < 0.2


def test_a_hundred_classes_and_fifty_scans(drawn, nll):
    logits, labels = drawn(50, 100, 2.0)
    held_out, truth = drawn(2000, 100, 2.0, 1)
    calibrated = ats(logits, labels).transform(held_out)
    assert nll(calibrated, truth) < nll(softmax(held_out), truth) - 0.1


def test_logits_of_a_thousand_are_finite_and_as_sure_as_they_are_right():
    logits = np.array([[1000.0, -1000.0]] * 50 + [[-1000.0, 1000.0]] * 50)
    labels = np.array(([0] * 45 + [1] * 5) + ([1] * 45 + [0] * 5))
    calibrated = ats(logits, labels).transform(logits)
    np.testing.assert_allclose(calibrated.max(axis=1), 0.9, atol=0.03)


def test_adding_a_constant_to_a_scans_logits_changes_nothing(drawn, rng):
    logits, labels = drawn(100)
    shift = rng.integers(-64, 64, size=(100, 1)).astype(float)
    shifted = ats(logits + shift, labels).transform(logits + shift)
    np.testing.assert_allclose(shifted, ats(logits, labels).transform(logits), atol=1e-6)


def test_logits_on_another_scale_are_calibrated_alike(drawn):
    logits, labels = drawn(300, 2, 1.0)
    for scale, tolerance in [(0.5, 0.02), (30.0, 0.03), (400.0, 0.05)]:
        large = ats(logits * scale, labels).transform(logits * scale)
        assert np.abs(large - ats(logits, labels).transform(logits)).mean() < tolerance


@given(seed=st.integers(0, 100_000), n=st.integers(40, 600), scale=st.floats(0.2, 8))
@settings(max_examples=40, deadline=None)
def test_two_classes_a_surer_scan_never_comes_out_less_sure(drawn, seed, n, scale):
    logits, labels = drawn(n, 2, scale, seed)
    generator = np.random.default_rng(seed + 1)
    labels = np.where(generator.random(n) < 0.3, generator.integers(0, 2, n), labels)
    calibrator = ats(logits, labels, offsets=False)
    gaps = np.linspace(0, 30, 4001)
    calibrated = calibrator.draws(np.stack([gaps, np.zeros_like(gaps)], axis=1)).max(axis=2)
    assert np.diff(calibrated, axis=1).min() >= -1e-8


@pytest.mark.parametrize("k", [3, 5])
def test_more_classes_scaling_a_scan_up_never_makes_it_less_sure(drawn, rng, k):
    logits, labels = drawn(2000, k, 3.0)
    labels = np.where(rng.random(2000) < 0.3, rng.integers(0, k, 2000), labels)
    calibrator = ats(logits, labels, offsets=False)
    assert len(calibrator.knots) == 12
    for direction in [*rng.normal(size=(50, k)), np.eye(k)[0]]:
        along = np.linspace(0, 20, 2001)[:, None] * direction
        assert np.diff(calibrator.transform(along).max(axis=1)).min() >= -1e-8


def test_the_bound_on_the_rises_is_at_work():
    # Barely sure scans are always right, the surest ones half of the time.
    logits = np.repeat([[2.0, 0.0], [2.1, 0.0], [2.2, 0.0]], 2000, axis=0)
    labels = np.concatenate([np.zeros(4000, int), np.arange(2000) % 2])
    calibrator = ats(logits, labels, offsets=False)
    rises = np.diff(calibrator.log_temperatures, axis=1)
    bound = 1 - calibrator.knots[:-1] / calibrator.knots[1:]
    assert np.all(rises <= bound + 1e-12)
    assert np.any(np.isclose(rises, bound))


def test_plain_pieces_are_as_confident_as_they_are_accurate(growing):
    logits, labels = growing(1000, k=4)
    calibrator = ats(logits, labels, plain=True, interpolate=False, min_per_piece=100)
    confidence = softmax(logits).max(axis=1)
    calibrated = calibrator.transform(logits).max(axis=1)
    right = logits.argmax(axis=1) == labels
    piece = np.searchsorted(calibrator.edges, confidence, side="right")
    assert np.bincount(piece).tolist() == [100] * 10
    inside = np.abs(calibrator.log_temperatures) < math.log(20) - 1e-6
    assert inside.sum() >= 8
    for p in np.flatnonzero(inside):
        assert calibrated[piece == p].mean() == pytest.approx(right[piece == p].mean(), abs=1e-9)
        assert calibrator.confidences[p] == pytest.approx(confidence[piece == p].mean(), rel=1e-12)


def test_the_matching_temperature_of_a_piece_of_like_scans_by_hand():
    # Forty of fifty right at a gap of 3: log(40/10) = 3 / T.
    logits, labels = np.tile([3.0, 0.0], (50, 1)), np.array([0] * 40 + [1] * 10)
    assert ats(logits, labels, plain=True).log_temperatures == pytest.approx(math.log(3 / math.log(4)))


def test_plain_log_temperatures_run_linearly_between_the_pieces():
    logits = np.array([[1.0, 0.0]] * 60 + [[3.0, 0.0]] * 60)
    calibrator = ats(logits, np.array([0] * 42 + [1] * 18 + [0] * 48 + [1] * 12), plain=True)
    halfway = math.log(calibrator.confidences.mean() / (1 - calibrator.confidences.mean()))
    calibrated = calibrator.transform([[halfway, 0.0]])[0, 0]
    found = math.log(halfway / math.log(calibrated / (1 - calibrated)))
    assert found == pytest.approx(calibrator.log_temperatures.mean())


@pytest.mark.parametrize(("n", "pieces"), [(1, 1), (49, 1), (99, 1), (100, 2), (370, 7), (5000, 20)])
def test_there_are_as_many_plain_pieces_as_the_scans_carry(drawn, n, pieces):
    calibrator = ats(*drawn(n), plain=True)
    assert len(calibrator.log_temperatures) == pieces
    assert len(calibrator.edges) == pieces - 1


def test_equal_confidences_are_not_cut_apart():
    gaps = np.repeat([0.5, 1.0, 2.0, 4.0], [55, 130, 70, 20])
    logits = np.stack([gaps, np.zeros_like(gaps)], axis=1)
    calibrator = ats(logits, (np.arange(len(gaps)) % 4 == 0).astype(int), plain=True)
    # The last 20 are too few for a piece and stay with their neighbours.
    np.testing.assert_allclose(calibrator.edges, softmax([[1.0, 0.0], [2.0, 0.0]]).max(axis=1))


def test_plain_may_be_steeper_than_the_bound(drawn, rng):
    logits, labels = drawn(400, 2, 3.0)
    labels = np.where(rng.random(400) < 0.3, rng.integers(0, 2, 400), labels)
    gaps = np.linspace(0, 30, 4001)
    line = np.stack([gaps, np.zeros_like(gaps)], axis=1)
    plain = ats(logits, labels, plain=True, min_per_piece=10).transform(line).max(axis=1)
    assert np.diff(plain).min() < -0.001


def test_a_piece_that_is_all_right_or_all_wrong_stops_at_the_bounds_when_plain():
    logits = np.tile([2.0, 0.0], (60, 1))
    right = ats(logits, np.zeros(60, int), plain=True)
    wrong = ats(logits, np.ones(60, int), plain=True)
    assert right.log_temperatures == pytest.approx(-math.log(20))
    assert wrong.log_temperatures[0] >= math.log(20)


def test_gains_over_one_temperature_where_the_right_one_grows_with_confidence(growing, nll):
    held_out, truth = growing(20_000)
    gains = []
    for _ in range(10):
        logits, labels = growing(1000)
        one = build_calibrator("temperature").fit(logits, labels).transform(held_out)
        gains.append(nll(one, truth) - nll(ats(logits, labels).transform(held_out), truth))
    assert np.mean(gains) > 0.002


def test_costs_next_to_nothing_where_one_temperature_is_right(drawn, nll):
    held_out, truth = drawn(20_000)
    costs = []
    for seed in range(1, 21):
        logits, labels = drawn(200, seed=seed)
        one = build_calibrator("temperature").fit(logits, labels).transform(held_out)
        costs.append(nll(ats(logits, labels).transform(held_out), truth) - nll(one, truth))
    assert np.mean(costs) < 0.006


@pytest.mark.parametrize(
    ("offsets", "mean", "highest"),
    # Forty draws; in 400 of the benchmark those with offsets cost .009 on average and .028 at most in 95 %.
    [(False, 0.010, 0.04), (True, 0.015, 0.045)],
)
def test_does_little_harm_with_fifty_scans_where_nothing_is_wrong(drawn, nll, offsets, mean, highest):
    held_out, truth = drawn(5000, scale=1.0)
    identity = nll(softmax(held_out), truth)
    harm = []
    for seed in range(1, 41):
        fitted = build_calibrator("adaptive_temperature", offsets=offsets).fit(*drawn(50, 3, 1.0, seed))
        harm.append(nll(fitted.transform(held_out), truth) - identity)
    assert np.mean(harm) < mean
    assert np.quantile(harm, 0.95) < highest


OLDER = {
    "name": "adaptive_temperature",
    "options": {"min_per_piece": 50, "interpolate": True, "shrinkage": 50.0, "plain": False},
    "fitted": {
        "num_classes": 2, "log_temperatures": [0.2, 0.5], "confidences": [0.7, 0.9], "edges": [0.8],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, [0.2, 0.35, 0.5]), ({"interpolate": False, "plain": True}, [0.2, 0.5, 0.5])],
)
def test_what_an_older_version_stored_transforms_as_it_did(options, expected):
    calibrator = Calibrator.from_dict({**OLDER, "options": OLDER["options"] | options})
    logits = np.array([[math.log(r / (1 - r)), 0.0] for r in (0.6, 0.8 + 1e-12, 0.95)])
    by_hand = softmax(logits / np.exp(expected)[:, None])
    np.testing.assert_allclose(calibrator.transform(logits), by_hand, rtol=1e-9)
    assert calibrator.draws(logits).shape == (1, 3, 2)
    assert not calibrator.may_change_class
    stored = json.loads(json.dumps(calibrator.to_dict(), allow_nan=False))
    np.testing.assert_array_equal(
        Calibrator.from_dict(stored).transform(logits), calibrator.transform(logits)
    )
