"""ATS: matches accuracy per piece, keeps the class order, falls back to one temperature, stays monotone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibrators import build_calibrator, softmax


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
def test_every_scans_class_order_is_unchanged(drawn, seed, n, k, scale, plain, interpolate):
    logits, labels = drawn(n, k, scale, seed)
    calibrator = ats(logits, labels, plain=plain, interpolate=interpolate, min_per_piece=20)
    calibrated = calibrator.transform(logits)
    in_order = np.take_along_axis(calibrated, np.argsort(logits, axis=1), axis=1)
    assert np.all(np.diff(in_order, axis=1) >= 0)
    best = np.take_along_axis(calibrated, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(best, calibrated.max(axis=1))


@pytest.mark.parametrize("interpolate", [True, False])
def test_unbounded_shrinkage_is_one_temperature(growing, interpolate):
    logits, labels = growing(700)
    one = build_calibrator("temperature").fit(logits, labels)
    shrunk = ats(logits, labels, shrinkage=math.inf, interpolate=interpolate)
    np.testing.assert_allclose(shrunk.transform(logits), one.transform(logits), rtol=1e-12)


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


def test_pseudo_scans_and_shrinkage_by_hand():
    # Two kinds of scans; T of each piece is known in closed form once the global one is.
    logits = np.array([[1.0, 0.0]] * 60 + [[3.0, 0.0]] * 60)
    labels = np.array([0] * 42 + [1] * 18 + [0] * 48 + [1] * 12)
    overall = build_calibrator("temperature").fit(logits, labels).temperature
    expected = []
    for gap, hits in [(1.0, 42), (3.0, 48)]:
        expected_hits = hits + 2 / (1 + math.exp(-gap / overall))
        own = math.log(gap / math.log(expected_hits / (62 - expected_hits)))
        expected.append(60 / 110 * own + 50 / 110 * math.log(overall))
    calibrator = ats(logits, labels)
    np.testing.assert_allclose(calibrator.log_temperatures, expected, rtol=1e-8)
    halfway = calibrator.temperatures(np.array([calibrator.confidences.mean()]))
    assert halfway == pytest.approx(math.exp(np.mean(expected)))


@pytest.mark.parametrize(("n", "pieces"), [(1, 1), (49, 1), (99, 1), (100, 2), (370, 7), (5000, 20)])
def test_there_are_as_many_pieces_as_the_scans_carry(drawn, n, pieces):
    calibrator = ats(*drawn(n))
    assert len(calibrator.log_temperatures) == pieces
    assert len(calibrator.edges) == pieces - 1


def test_equal_confidences_are_not_cut_apart():
    gaps = np.repeat([0.5, 1.0, 2.0, 4.0], [55, 130, 70, 20])
    logits = np.stack([gaps, np.zeros_like(gaps)], axis=1)
    calibrator = ats(logits, (np.arange(len(gaps)) % 4 == 0).astype(int))
    # The last 20 are too few for a piece and stay with their neighbours.
    np.testing.assert_allclose(calibrator.edges, softmax([[1.0, 0.0], [2.0, 0.0]]).max(axis=1))


@pytest.mark.parametrize("interpolate", [True, False])
@given(seed=st.integers(0, 100_000), n=st.integers(40, 600), scale=st.floats(0.2, 8))
@settings(max_examples=60, deadline=None)
def test_two_classes_a_surer_scan_never_comes_out_less_sure(drawn, interpolate, seed, n, scale):
    logits, labels = drawn(n, 2, scale, seed)
    generator = np.random.default_rng(seed + 1)
    labels = np.where(generator.random(n) < 0.3, generator.integers(0, 2, n), labels)
    calibrator = ats(logits, labels, interpolate=interpolate, min_per_piece=10, shrinkage=0)
    gaps = np.linspace(0, 30, 4001)
    calibrated = calibrator.transform(np.stack([gaps, np.zeros_like(gaps)], axis=1)).max(axis=1)
    assert np.diff(calibrated).min() >= -1e-8


@pytest.mark.parametrize("k", [3, 5])
def test_more_classes_scaling_a_scan_up_never_makes_it_less_sure(drawn, rng, k):
    logits, labels = drawn(400, k, 3.0)
    labels = np.where(rng.random(400) < 0.3, rng.integers(0, k, 400), labels)
    calibrator = ats(logits, labels, min_per_piece=20, shrinkage=0)
    assert len(calibrator.log_temperatures) == 20
    for direction in [*rng.normal(size=(50, k)), np.eye(k)[0]]:
        along = np.linspace(0, 20, 2001)[:, None] * direction
        assert np.diff(calibrator.transform(along).max(axis=1)).min() >= -1e-8


def test_plain_may_be_steeper_so_the_monotonicity_is_at_work(drawn, rng):
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


def test_logits_on_another_scale_are_calibrated_alike(drawn):
    logits, labels = drawn(300, 2, 1.0)
    plain = ats(logits, labels, min_per_piece=300)
    large = ats(logits * 400, labels, min_per_piece=300)
    np.testing.assert_allclose(large.log_temperatures - math.log(400), plain.log_temperatures, atol=0.02)


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
