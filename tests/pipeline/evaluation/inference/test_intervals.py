"""Intervals: the fast way equals the slow way, covers, pairs, and respects who is whose scan."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.evaluation.inference.intervals import (
    Interval,
    bootstrap,
    bootstrap_mean,
    paired_bootstrap,
)
from pipeline.evaluation.metrics import METRICS, Metric, classwise_ece, expected_calibration_error
from pipeline.evaluation.metrics.calibration_error import binned_gap, classwise_gap
from pipeline.evaluation.metrics.sample import Sample

MEASURED_OVER_COPIES = sorted(set(METRICS) - {"ece_kde"})


def simulated(n=120, k=3, seed=0, sharpness=1.7, decimals=None):
    rng = np.random.default_rng(seed)
    posterior = np.exp(rng.normal(scale=1.5, size=(n, k)))
    posterior /= posterior.sum(axis=1, keepdims=True)
    labels = (rng.random(n)[:, None] > posterior.cumsum(axis=1)[:, :-1]).sum(axis=1)
    sharp = posterior**sharpness
    sharp /= sharp.sum(axis=1, keepdims=True)
    if decimals is not None:  # ties
        sharp = np.maximum(sharp.round(decimals), 10.0**-decimals)
        sharp /= sharp.sum(axis=1, keepdims=True)
    return sharp, labels


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([None, 1]))
def test_weights_mean_copies_of_scans(seed, decimals):
    """Each metric under weights w equals the metric of the rows repeated w times."""
    p, y = simulated(n=25, seed=seed, decimals=decimals)
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, 25)).astype(float)
    weights[:, 0] += 1
    sample = Sample(p, y)
    for name in MEASURED_OVER_COPIES:
        slow = [METRICS[name](*(np.repeat(a, w.astype(int), axis=0) for a in (p, y))) for w in weights]
        assert METRICS[name].weighted(sample, weights) == pytest.approx(slow, abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("decimals", [None, 1])
def test_equal_masses_are_those_of_each_draw(decimals):
    p, y = simulated(n=40, decimals=decimals)
    weights = np.random.default_rng(0).integers(0, 5, size=(6, 40)).astype(float)
    for weighted, metric in (
        (partial(binned_gap, scheme="mass"), expected_calibration_error),
        (partial(classwise_gap, scheme="mass"), classwise_ece),
    ):
        slow = [
            metric(*(np.repeat(a, w.astype(int), axis=0) for a in (p, y)), scheme="mass") for w in weights
        ]
        assert weighted(Sample(p, y), weights) == pytest.approx(slow)


def test_copies_of_a_scan_do_not_vouch_for_each_other():
    """Leave-one-out by kernels would read a copy's own outcome, so copies are left out with it."""
    p, y = simulated(n=40)
    sample = Sample(p, y)
    once = METRICS["ece_kde"].weighted(sample, np.ones((1, 40)))
    assert METRICS["ece_kde"].weighted(sample, np.full((1, 40), 3.0)) == pytest.approx(once)
    assert METRICS["ece_kde"](p, y) == pytest.approx(once[0])


def test_a_metric_of_ones_own_gives_the_same_draws_as_the_table():
    p, y = simulated()
    subjects = [f"s{n // 2}" for n in range(len(y))]
    own = {
        "mine": Metric("mine", "mine", noisy=True, function=lambda p, y: expected_calibration_error(p, y)),
        "mass": lambda p, y: expected_calibration_error(p, y, scheme="mass"),
    }
    slow = bootstrap(p, y, subjects, own, draws=50)
    fast = bootstrap(p, y, subjects, ["expected_calibration_error"], draws=50)["expected_calibration_error"]
    assert (slow["mine"].low, slow["mine"].high) == pytest.approx((fast.low, fast.high))
    assert slow["mass"].low < slow["mass"].high


def test_values_are_those_of_the_metrics_and_one_seed_gives_one_answer():
    p, y = simulated()
    subjects = [f"s{n}" for n in range(len(y))]
    found = bootstrap(p, y, subjects, draws=200, seed=3)
    assert list(found) == list(METRICS)
    for name, metric in METRICS.items():
        assert found[name].value == pytest.approx(metric(p, y)), name
        assert found[name].low < found[name].high, name
    again = bootstrap(p, y, subjects, ["accuracy"], draws=200, seed=3)
    assert again["accuracy"] == found["accuracy"]
    assert bootstrap(p, y, subjects, ["accuracy"], draws=200, seed=4)["accuracy"] != found["accuracy"]


def test_draws_do_not_depend_on_how_they_are_cut(monkeypatch):
    p, y = simulated()
    subjects = [f"s{n // 3}" for n in range(len(y))]
    whole = bootstrap(p, y, subjects, draws=100)
    monkeypatch.setattr("pipeline.evaluation.inference.intervals._NUMBERS_AT_ONCE", 7 * len(y))
    cut = bootstrap(p, y, subjects, draws=100)
    for name, interval in whole.items():
        assert (cut[name].low, cut[name].high) == pytest.approx((interval.low, interval.high)), name


def test_scans_of_one_subject_are_one_piece_of_evidence():
    """Five copies of each scan: by subject the interval is that of the scans, by scan far too narrow."""
    p, y = simulated(n=60)
    many = np.tile(np.arange(60), 5)
    single = bootstrap(p, y, [f"s{n}" for n in range(60)], ["accuracy"])["accuracy"]
    by_subject = bootstrap(p[many], y[many], [f"s{n}" for n in many], ["accuracy"])["accuracy"]
    by_scan = bootstrap(p[many], y[many], [f"s{n}" for n in range(300)], ["accuracy"])["accuracy"]
    width = [i.high - i.low for i in (single, by_subject, by_scan)]
    assert width[1] == pytest.approx(width[0], abs=1e-9)
    assert width[2] < 0.6 * width[1]


def test_intervals_of_a_mean_cover_as_stated():
    """95 % intervals hold the true mean in 95 % of 300 samples, within binomial limits."""
    rng = np.random.default_rng(0)
    subjects = [f"s{n // 2}" for n in range(160)]
    held = 0
    for repeat in range(300):
        person = np.repeat(rng.random(80) < 0.6, 2)
        found = bootstrap_mean(person, subjects, draws=400, seed=repeat)
        held += found.low <= 0.6 <= found.high
    assert 0.90 <= held / 300 <= 0.985


def test_pairs_cancel_what_they_share():
    p, y = simulated(n=200)
    subjects = [f"s{n}" for n in range(200)]
    q = 0.97 * p + 0.01
    same = paired_bootstrap(p, p, y, subjects, draws=100)
    for name in MEASURED_OVER_COPIES:
        assert same[name] == Interval(0.0, 0.0, 0.0), name
    paired = paired_bootstrap(p, q, y, subjects, ["brier_score"])["brier_score"]
    a, b = (bootstrap(x, y, subjects, ["brier_score"])["brier_score"] for x in (p, q))
    assert paired.value == pytest.approx(a.value - b.value)
    assert paired.low > 0 or paired.high < 0
    assert paired.high - paired.low < 0.2 * (a.high - a.low)


def test_a_class_of_one_subject_may_be_missing_from_draws():
    p, y = simulated(n=30, k=2)
    y[:] = 0
    y[4] = 1
    found = bootstrap(p, y, [f"s{n}" for n in range(30)], ["macro_auroc"], draws=300)["macro_auroc"]
    assert 0 <= found.low <= found.value <= found.high <= 1
    one_class = bootstrap(p, 0 * y, [f"s{n}" for n in range(30)], ["macro_auroc"], draws=20)["macro_auroc"]
    assert np.isnan([one_class.value, one_class.low, one_class.high]).all()


def test_refusals():
    p, y = simulated(n=4)
    with pytest.raises(
        InputError, match=r"s1: All scans are of one subject; .* Report the value without an interval"
    ):
        bootstrap(p, y, ["s1"] * 4)
    with pytest.raises(InputError, match="3 subjects for 4 scans, expected one per scan"):
        bootstrap(p, y, ["a", "b", "c"])
    with pytest.raises(InputError, match=r"no metric named 'ece'. Name some of negative_log_likelihood"):
        bootstrap(p, y, list("abcd"), ["ece"])


def test_interval_reads_as_in_tables():
    assert str(Interval(0.8123, 0.75, 0.86)) == "0.812 [0.750, 0.860]"
