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
@pytest.mark.parametrize(
    "counts", [(5, 5, 5), (10, 10, 10), (40, 40, 40), (40, 10, 5)], ids=lambda c: "-".join(map(str, c))
)
def test_every_class_is_covered_as_stated_or_more(counts, coverage):
    """Mean over 300 calibration sets, of each class and of all scans, one-sided within two standard errors.

    The class's own threshold alone holds with the mean ceil((n + 1) c) / (n + 1), c or a little more.
    """
    rng = np.random.default_rng(0)
    held = np.zeros((300, 4))
    for draw in range(300):
        p, y = simulated(rng, 1500, priors=(1 / 3, 1 / 3, 1 / 3))
        rows = np.concatenate([np.flatnonzero(y == k)[:n] for k, n in enumerate(counts)])
        found = ConformalSets.fit(p[rows], y[rows], coverage)
        assert found.counts == counts
        sets = found.sets(p[900:])
        of_scan = sets[np.arange(600), y[900:]]
        held[draw] = [*(of_scan[y[900:] == k].mean() for k in range(3)), of_scan.mean()]
    error = held.std(axis=0) / math.sqrt(300)
    assert (held.mean(axis=0) > coverage - 2 * error).all()


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


def naive(p, y, coverage):
    """The thresholds once more, class by class, in plain words."""

    def quantile(scores):
        rank = -(-(len(scores) + 1) * round(coverage * 100) // 100)  # in whole numbers
        return sorted(scores)[rank - 1] if rank <= len(scores) else math.inf

    share = [((y == k).sum() + 0.5) / (len(y) + p.shape[1] / 2) for k in range(p.shape[1])]
    odds = [a / (1 - a) for a in share]
    # How far below the odds of its class's share the odds of a scan's true class are.
    common = quantile([odds[k] * (1 - p[i, k]) / p[i, k] for i, k in enumerate(y)])
    for k in range(p.shape[1]):
        scores = [1 - p[i, k] for i in np.flatnonzero(y == k)]
        own = quantile(scores)
        own = max(scores, default=0) if math.isinf(own) else own
        weight = len(scores) / (len(scores) + 20)
        shared = math.inf if math.isinf(common) else common / (common + odds[k])
        yield max(own, weight * own + (1 - weight) * shared)


@settings(deadline=None)
@given(
    st.integers(0, 40), st.integers(0, 40), st.sampled_from([0.5, 0.7, 0.8, 0.9, 0.95]), st.integers(0, 99)
)
def test_thresholds_are_those_of_a_naive_count(first, second, coverage, seed):
    p, y = simulated(np.random.default_rng(seed), first + second)
    y = np.repeat([0, 1], [first, second])
    found = ConformalSets.fit(p, y, coverage)
    np.testing.assert_allclose(found.thresholds, list(naive(p, y, coverage)), rtol=1e-9)
    for k, n in enumerate((first, second)):
        exact = -(-(n + 1) * round(coverage * 100) // 100)
        assert (1 - p[y == k, k] <= found.thresholds[k]).sum() >= min(exact, n)


def test_rank_is_not_rounded_up_by_floating_point():
    """100 * .55 is 55.00000000000001 in floating point; the rank is 55."""
    p = np.stack([np.linspace(0.1, 0.9, 99), 1 - np.linspace(0.1, 0.9, 99)], axis=1)
    found = ConformalSets.fit(p, np.zeros(99, dtype=int), 0.55)
    assert (1 - p[:, 0] <= found.thresholds[0]).sum() == 55


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19)])
def test_fewer_scans_than_the_coverage_needs_put_every_class_in_every_set(coverage, needed):
    for scans, finite in ((needed - 1, False), (needed, True)):
        found = ConformalSets.fit(np.full((scans, 2), 0.5), np.arange(scans) % 2, coverage)
        assert [math.isfinite(t) for t in found.thresholds] == [finite, finite]
        assert finite or found.sets([[1.0, 0.0]]).all()


def test_a_class_with_too_few_scans_takes_its_largest_score_or_more():
    rng = np.random.default_rng(0)
    p, y = simulated(rng, 100)
    some = np.flatnonzero(y == 2)[:8]
    keep = np.concatenate([np.flatnonzero(y != 2), some])
    found = ConformalSets.fit(p[keep], y[keep], 0.9)
    assert found.counts[2] == 8
    assert found.thresholds[2] >= (1 - p[some, 2]).max()
    assert found.sets(p[some])[:, 2].all()
    assert not found.sets(p)[:, 2].all(), "a set that holds a class whatever the scan says nothing about it"
    absent = ConformalSets.fit(p[y < 2], y[y < 2], 0.9)
    assert absent.counts[2] == 0
    assert np.isfinite(absent.thresholds).all()
    assert np.isinf(ConformalSets.fit(np.empty((0, 3)), np.empty(0, dtype=int), 0.9).thresholds).all()


def test_a_calibration_scan_at_the_threshold_is_inside():
    """The score of calibration and that of prediction are one expression: equality holds in float."""
    rng = np.random.default_rng(0)
    p, y = simulated(rng, 400)
    found = ConformalSets.fit(p, y, 0.9)
    ranks = [math.ceil((n + 1) * 0.9 - 1e-9) for n in found.counts]
    own = [np.sort(1 - p[y == k, k])[rank - 1] for k, rank in enumerate(ranks)]
    assert (np.array(found.thresholds) >= own).all()
    assert found.thresholds[0] == own[0], "a class of many scans above the common threshold has its own"
    assert (1 - p[y == 0, 0] <= found.thresholds[0]).sum() == ranks[0]


@given(st.integers(0, 60), st.integers(0, 999), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_more_coverage_never_takes_a_class_away(n, seed, one, other):
    p, y = simulated(np.random.default_rng(seed), n)
    narrow, wide = (ConformalSets.fit(p, y, c) for c in sorted((one, other)))
    assert (np.array(wide.thresholds) >= narrow.thresholds).all()
    new, _ = simulated(np.random.default_rng(seed + 1), 50)
    assert (wide.sets(new) >= narrow.sets(new)).all()


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
    every = ConformalSets.fit(p[:3], y[:3], 0.9)
    assert ConformalSets.from_dict(json.loads(json.dumps(every.to_dict(), allow_nan=False))) == every


def test_sets_of_an_older_bundle_are_as_they_were_but_for_the_most_likely_class():
    """Thresholds as an older version stored them: without a pull, infinite for a class of few scans."""
    old = ConformalSets.from_dict({"thresholds": [0.1, 0.6, None], "counts": [60, 30, 5], "coverage": 0.9})
    p = np.array([[0.95, 0.03, 0.02], [0.3, 0.45, 0.25], [0.8, 0.15, 0.05]])
    before = [[True, False, True], [False, True, True], [False, False, True]]
    assert ((1 - p) <= old.thresholds).tolist() == before
    assert old.sets(p).tolist() == [*before[:2], [True, False, True]]


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
    with pytest.raises(ValueError, match=r"coverage is nan\. Expected a number between 0 and 1"):
        ConformalSets.fit(p, y, np.nan)
    with pytest.raises(ValueError, match=r"Labels are <U2\. Expected integers"):
        ConformalSets.fit(p, ["CN"] * 30, 0.9)
    with pytest.raises(ValueError, match=r"Labels are float64\. Expected integers"):
        ConformalSets.fit(p, y.astype(float), 0.9)
    found = ConformalSets.fit(p, y, 0.9)
    for wrong in (np.log(p), np.where(p == p.max(), np.nan, p), 100 * p):
        with pytest.raises(ValueError, match=r"Probabilities range from .*Expected 0 to 1"):
            ConformalSets.fit(wrong, y, 0.9)
        with pytest.raises(ValueError, match=r"Probabilities range from .*Expected 0 to 1"):
            found.sets(wrong)
    with pytest.raises(ValueError, match=r"shown probabilities have shape \(2, 3\)\. Expected \(30, 3\)"):
        found.sets(p, p[:2])
    with pytest.raises(ValueError, match="There are 1 thresholds and 2 counts"):
        ConformalSets((0.1,), (1, 2), 0.9)


def test_without_a_calibration_scan_every_class_is_in_every_set():
    found = ConformalSets.fit(np.zeros((0, 3)), [], 0.9)
    assert found.counts == (0, 0, 0)
    assert found.sets([[0.98, 0.01, 0.01]]).tolist() == [[True, True, True]]
    assert found.sets(np.zeros((0, 3))).shape == (0, 3)


def test_binomial_limits_on_one_held_out_set():
    """What a study prints: coverage per class within binomial limits of 90 % on its test scans."""
    rng = np.random.default_rng(2)
    found = ConformalSets.fit(*simulated(rng, 2000), 0.9)
    p, y = simulated(rng, 2000)
    sets = found.sets(p)
    for k in range(3):
        n, covered = int((y == k).sum()), int(sets[y == k, k].sum())
        assert stats.binomtest(covered, n, 0.9).pvalue > 0.001
