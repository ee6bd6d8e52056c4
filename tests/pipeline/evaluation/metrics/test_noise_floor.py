"""What a perfectly calibrated classifier would show, and calibration errors above that."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.errors import InputError
from pipeline.evaluation.inference.intervals import bootstrap, paired_bootstrap
from pipeline.evaluation.metrics import ABOVE_NOISE, METRICS, NOISY, metric_named, noise_floor, noise_floors
from pipeline.evaluation.metrics.sample import redraw


def softmax(z):
    raised = np.exp(z - z.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def true_and_drawn(n, seed, sharpness=1.0):
    """A posterior of three classes as unequal as those of a cohort, and labels drawn from it."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.5, 0.35, 0.15])
    evidence = rng.normal(size=(n, 3)) + 1.2 * np.eye(3)[rng.choice(3, n, p=shares)]
    p = softmax(1.2 * evidence + np.log(shares))
    return softmax(sharpness * np.log(p)), (rng.random(n)[:, None] > p.cumsum(axis=1)[:, :-1]).sum(axis=1)


def test_one_bin_is_the_mean_deviation_of_a_binomial():
    """25 scans of 80 %: the expected gap is that of a binomial share, which is known."""
    right = np.arange(26)
    known = (stats.binom.pmf(right, 25, 0.8) * np.abs(right / 25 - 0.8)).sum()
    p = np.tile([0.8, 0.2], (25, 1))
    errors = [name for name in NOISY if name not in ("smooth_ece", "ece_kde")]
    floors = noise_floors(p, errors, draws=20_000)
    for name in set(errors) - {"overconfidence_error"}:
        assert floors[name] == pytest.approx(known, abs=0.0015), name
    over = (stats.binom.pmf(right, 25, 0.8) * 0.8 * np.maximum(0.8 - right / 25, 0)).sum()
    assert floors["overconfidence_error"] == pytest.approx(over, abs=0.0015)


@pytest.mark.parametrize("name", NOISY)
def test_the_floor_is_the_mean_error_of_drawn_labels(name):
    p, _ = true_and_drawn(60, seed=1)
    slow = np.mean([METRICS[name](p, row) for sample in redraw(p, 40, seed=0) for row in sample.labels])
    assert noise_floor(name, p, draws=40) == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize(("n", "known"), [(44, 0.100), (67, 0.080), (240, 0.046)])
def test_a_perfect_posterior_reads_as_the_methods_state(n, known):
    """Classwise ECE of true posteriors, drawn and measured, is the floor; both near the figures published."""
    measured, floors = [], []
    for seed in range(60):
        p, y = true_and_drawn(n, seed, sharpness=1.0)
        measured.append(METRICS["classwise_ece"](p, y))
        floors.append(noise_floor("classwise_ece", p, draws=100))
    spread = np.std(measured, ddof=1) / np.sqrt(60)
    assert np.mean(floors) == pytest.approx(np.mean(measured), abs=3 * spread)
    assert known / 1.8 < np.mean(floors) < known * 1.8


def test_an_error_falls_to_its_floor_when_the_labels_come_from_the_probabilities():
    above = [ABOVE_NOISE["classwise_ece_above_noise"](*true_and_drawn(67, seed)) for seed in range(100)]
    assert np.mean(above) == pytest.approx(0, abs=3 * np.std(above) / 10)
    assert np.mean(np.array(above) > 0) == pytest.approx(0.5, abs=0.15)
    sharp = [ABOVE_NOISE["classwise_ece_above_noise"](*true_and_drawn(67, seed, 2.0)) for seed in range(30)]
    assert np.mean(sharp) > 0.03


def test_one_seed_gives_one_answer_and_chunks_make_no_difference(monkeypatch):
    p, _ = true_and_drawn(50, seed=3)
    whole = noise_floors(p, draws=30)
    assert noise_floor("smooth_ece", p, draws=30) == pytest.approx(whole["smooth_ece"], abs=1e-12)
    assert noise_floors(p, draws=30, seed=1) != whole
    monkeypatch.setattr("pipeline.evaluation.metrics.sample._CELLS_AT_ONCE", 7 * p.size)
    assert noise_floors(p, draws=30) == pytest.approx(whole, abs=1e-12)


def test_certain_probabilities_have_no_noise_and_one_scan_has_much():
    certain = noise_floors(np.eye(3)[[0, 1, 2, 0]], draws=20)
    assert certain == pytest.approx(dict.fromkeys(NOISY, 0.0), abs=1e-3)
    assert noise_floor("expected_calibration_error", [[0.5, 0.5]], draws=20) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["accuracy", "posterior_error", "mine"])
def test_other_metrics_have_no_floor(name):
    with pytest.raises(InputError, match=f"The metric '{name}' has no noise floor. Name some of expected_"):
        noise_floor(name, [[0.5, 0.5]])


def test_probabilities_are_checked():
    with pytest.raises(InputError, match=r"row 0: The probabilities sum to 1.1"):
        noise_floor("classwise_ece", [[0.6, 0.5]])


def test_errors_above_noise_are_named_and_shown_as_the_errors_are():
    assert list(ABOVE_NOISE) == [f"{name}_above_noise" for name in NOISY]
    assert metric_named("classwise_ece_above_noise").heading == "Classwise ECE above noise ↓"
    assert all(
        metric.percent == METRICS[name].percent
        for name, metric in zip(NOISY, ABOVE_NOISE.values(), strict=True)
    )


def test_every_calibration_error_lies_in_its_interval():
    """The percentiles of a draw lie above the value: it has the noise of the scans, and that of the draw."""
    for seed in range(5):
        p, y = true_and_drawn(120, seed)
        found = bootstrap(p, y, [str(n) for n in range(120)], NOISY, draws=200)
        for name, interval in found.items():
            assert 0 <= interval.low <= interval.value <= interval.high, name


def test_the_interval_holds_the_mean_error_of_such_test_sets():
    """120 scans of a true posterior: the mean classwise ECE is noise, and 95 % intervals hold it."""
    truth = np.mean([METRICS["classwise_ece"](*true_and_drawn(120, seed)) for seed in range(1000, 1400)])
    people, held = [str(n) for n in range(120)], 0
    for seed in range(60):
        found = bootstrap(*true_and_drawn(120, seed), people, ["classwise_ece"], draws=200)["classwise_ece"]
        held += found.low <= truth <= found.high
    assert held >= 54


def test_above_noise_is_error_minus_floor_with_its_interval():
    p, y = true_and_drawn(80, seed=4, sharpness=1.7)
    people = [str(n) for n in range(80)]
    names = ("classwise_ece", "classwise_ece_above_noise")
    error, above = bootstrap(p, y, people, names, draws=100).values()
    floor = noise_floor("classwise_ece", p)
    assert above.value == pytest.approx(error.value - floor)
    assert (above.low, above.high) == pytest.approx((error.low - floor, error.high - floor))
    same = paired_bootstrap(p, p, y, people, names[1:], draws=50)[names[1]]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_sharper_forecast_is_not_ahead_by_its_smaller_noise():
    """Both are calibrated; the vague one reads a larger error, which is all noise."""
    raw, above = [], []
    for seed in range(40):
        p, y = true_and_drawn(67, seed)
        vague = np.tile([0.5, 0.35, 0.15], (67, 1)) * 0.5 + 0.5 * p  # not calibrated, so use its own labels
        rng = np.random.default_rng(seed)
        of_vague = (rng.random(67)[:, None] > vague.cumsum(axis=1)[:, :-1]).sum(axis=1)
        error = METRICS["classwise_ece"]
        raw.append(error(vague, of_vague) - error(p, y))
        excess = ABOVE_NOISE["classwise_ece_above_noise"]
        above.append(excess(vague, of_vague) - excess(p, y))
    assert abs(np.mean(above)) < 3 * np.std(above) / np.sqrt(40)
