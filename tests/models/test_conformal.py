"""Sets hold the true class as often as promised, class by class."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from models.conformal import ConformalSets


def simulated(rng, n, priors=(0.6, 0.3, 0.1), told=1.5):
    """Overconfident probabilities: coverage must not need calibration."""
    labels = rng.choice(3, size=n, p=priors)
    z = 2.0 * told * (rng.normal(size=(n, 3)) + told * np.eye(3)[labels])
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_every_class_is_covered_as_promised(coverage):
    """Over 400 calibration sets of 150 scans; the rare class has about 15.

    Given n scans of a class, that of new ones has the mean ceil((n + 1) c) / (n + 1): c or a little more.
    """
    rng = np.random.default_rng(0)
    held, expected = np.zeros((400, 3)), np.zeros((400, 3))
    for draw in range(400):
        found = ConformalSets.fit(*simulated(rng, 150), coverage)
        p, y = simulated(rng, 600, priors=(1 / 3, 1 / 3, 1 / 3))
        inside = 1 - p <= found.thresholds  # `sets` also holds the most likely class
        assert (found.sets(p) >= inside).all()
        held[draw] = [inside[y == k, k].mean() for k in range(3)]
        expected[draw] = [min(math.ceil((n + 1) * coverage) / (n + 1), 1) for n in found.counts]
    error = held.std(axis=0) / 20
    assert np.all(np.abs(held.mean(axis=0) - expected.mean(axis=0)) < 4 * error)
    assert np.all(held.mean(axis=0) > coverage - 2 * error)


def test_one_threshold_for_all_would_fail_the_rare_class():
    """Why class-conditional: the pooled quantile covers on average and misses the class that matters."""
    rng = np.random.default_rng(1)
    p, y = simulated(rng, 5000, priors=(0.9, 0.08, 0.02), told=0.8)
    p *= [1, 0.15, 0.05]  # a classifier that knows the prevalence
    p /= p.sum(axis=1, keepdims=True)
    pooled = np.quantile(1 - p[np.arange(5000), y], 0.9)
    sets = ConformalSets.fit(p, y, 0.9).sets(p)
    rare = y == 2
    assert (1 - p[rare, 2] <= pooled).mean() < 0.6
    assert sets[rare, 2].mean() >= 0.9


@settings(deadline=None)
@given(st.integers(0, 60), st.sampled_from([0.5, 0.7, 0.8, 0.9, 0.95]))
def test_threshold_is_the_score_of_the_stated_rank(n, coverage):
    p = np.stack([np.linspace(0.1, 0.9, n + 1), 1 - np.linspace(0.1, 0.9, n + 1)], axis=1)
    y = np.array([0] * n + [1])
    found = ConformalSets.fit(p, y, coverage)
    covered = found.sets(p)[:n, 0].sum()
    exact = -(-(n + 1) * round(coverage * 100) // 100)  # in whole numbers
    assert covered == min(exact, n)
    assert math.isinf(found.thresholds[0]) == (exact > n)


def test_rank_is_not_rounded_up_by_floating_point():
    """100 * .55 is 55.00000000000001 in floating point; the rank is 55."""
    p = np.stack([np.linspace(0.1, 0.9, 99), 1 - np.linspace(0.1, 0.9, 99)], axis=1)
    assert ConformalSets.fit(p, np.zeros(99, dtype=int), 0.55).sets(p)[:, 0].sum() == 55


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19)])
def test_fewer_scans_than_the_coverage_needs_give_no_finite_threshold(coverage, needed):
    for scans, finite in ((needed - 1, False), (needed, True)):
        found = ConformalSets.fit(np.full((scans, 2), 0.5), np.zeros(scans, dtype=int), coverage)
        assert math.isfinite(found.thresholds[0]) == finite


def test_a_class_with_too_few_scans_is_in_every_set():
    rng = np.random.default_rng(0)
    p, y = simulated(rng, 100)
    some = np.flatnonzero(y == 2)[:8]
    keep = np.concatenate([np.flatnonzero(y != 2), some])
    found = ConformalSets.fit(p[keep], y[keep], 0.9)
    assert found.counts[2] == 8
    assert np.flatnonzero(np.isinf(found.thresholds)).tolist() == [2]
    assert found.sets(p)[:, 2].all()
    assert not found.sets(p)[:, 0].all()
    absent = ConformalSets.fit(p[y < 2], y[y < 2], 0.9)
    assert absent.counts[2] == 0
    assert np.flatnonzero(np.isinf(absent.thresholds)).tolist() == [2]
    assert np.isinf(ConformalSets.fit(np.empty((0, 3)), np.empty(0, dtype=int), 0.9).thresholds).all()


def test_a_calibration_scan_at_the_threshold_is_inside():
    """The score of calibration and that of prediction are one expression: equality holds in float."""
    rng = np.random.default_rng(0)
    p, y = simulated(rng, 400)
    found = ConformalSets.fit(p, y, 0.9)
    covered = [found.sets(p)[y == k, k].sum() for k in range(3)]
    assert covered == [math.ceil((n + 1) * 0.9 - 1e-9) for n in found.counts]


def test_more_coverage_never_takes_a_class_away():
    rng = np.random.default_rng(0)
    p, y = simulated(rng, 300)
    narrow, wide = (ConformalSets.fit(p, y, c).sets(p) for c in (0.8, 0.95))
    assert np.all(wide | ~narrow)
    assert wide.sum() > narrow.sum()


probabilities = arrays(np.float64, (6, 3), elements=st.floats(0, 1))


@given(probabilities, probabilities, st.lists(st.floats(-1, 1) | st.just(math.inf), min_size=3, max_size=3))
def test_the_most_likely_class_is_in_the_set_whatever_the_thresholds(p, here, thresholds):
    found = ConformalSets(tuple(thresholds), (9, 9, 9), 0.9)
    assert found.sets(p)[np.arange(6), p.argmax(axis=1)].all()
    assert found.sets(p, here)[np.arange(6), here.argmax(axis=1)].all()


def test_stored_and_read_again():
    p, y = simulated(np.random.default_rng(0), 60)
    found = ConformalSets.fit(p[y < 2], y[y < 2], 0.9)
    assert ConformalSets.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_refusals():
    p, y = simulated(np.random.default_rng(0), 30)
    with pytest.raises(ValueError, match=r"coverage is 90\. Expected a number between 0 and 1"):
        ConformalSets.fit(p, y, 90)
    with pytest.raises(ValueError, match=r"shape \(30, 3\) and labels \(29,\)"):
        ConformalSets.fit(p, y[1:], 0.9)
    with pytest.raises(ValueError, match=r"Labels range from .*Expected 0 to 2"):
        ConformalSets.fit(p, y + 1, 0.9)
    with pytest.raises(ValueError, match=r"shape \(30, 2\)\. Expected \(scans, 3\) as in `fit`"):
        ConformalSets.fit(p, y, 0.9).sets(p[:, :2])
    with pytest.raises(ValueError, match="There are 1 thresholds and 2 counts"):
        ConformalSets((0.1,), (1, 2), 0.9)


def test_binomial_limits_on_one_held_out_set():
    """What a study prints: coverage per class within binomial limits of 90 % on its test scans."""
    rng = np.random.default_rng(2)
    found = ConformalSets.fit(*simulated(rng, 2000), 0.9)
    p, y = simulated(rng, 2000)
    sets = found.sets(p)
    for k in range(3):
        n, covered = int((y == k).sum()), int(sets[y == k, k].sum())
        assert stats.binomtest(covered, n, 0.9).pvalue > 0.001
