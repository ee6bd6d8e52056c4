"""Curves of a loss over seeds and folds, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.comparison.pooled_curves import comparable_runs, mean_risk, pooled_reliability
from pipeline.evaluation.comparison.seed_runs import Run
from pipeline.evaluation.metrics.reliability import reliability_curve
from pipeline.evaluation.metrics.selective import risk_coverage_area


def run(confidence, labels, people, loss="ce", seed=0, fold=0) -> Run:
    """A run that always says class 0, with the given confidence."""
    first = np.asarray(confidence)
    return Run(
        loss, seed, fold, 10,
        scan_ids=tuple(f"{fold}-{n}" for n in range(len(first))),
        subjects=tuple(people),
        labels=np.asarray(labels),
        probabilities=np.stack([first, 1 - first], axis=1),
    )  # fmt: skip


@pytest.fixture
def two_seeds() -> list[Run]:
    """Two seeds on three scans of two subjects; the second scan of A is of class 1."""
    return [run(c, [0, 1, 0], "AAB", seed=s) for s, c in enumerate(([0.92, 0.95, 0.62], [0.96, 0.65, 0.55]))]


def wilson(share, trials):
    z = 1.959963984540054
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return centre - half, centre + half


def test_answers_of_seeds_and_of_one_subject_are_no_trials_of_their_own(two_seeds):
    found = pooled_reliability(two_seeds)
    assert found.curve.counts[[5, 6, 9]].tolist() == [1, 2, 3]
    np.testing.assert_allclose(found.scans[[5, 6, 9]], [0.5, 1, 1.5])
    assert found.scans.sum() == 3
    # The last bin holds three answers, all of A; the one before it an answer each of A and B.
    np.testing.assert_allclose(found.trials[[5, 6, 9]], [1, 2, 1])
    np.testing.assert_allclose(found.curve.confidence[[5, 6, 9]], [0.55, 0.635, 2.83 / 3])
    np.testing.assert_allclose(found.curve.accuracy[[5, 6, 9]], [1, 1 / 2, 2 / 3])
    for b in (6, 9):
        expected = wilson(found.curve.accuracy[b], found.trials[b])
        np.testing.assert_allclose((found.curve.low[b], found.curve.high[b]), expected)
    assert found.curve.high[5] == 1
    assert (found.curve.low[0], found.curve.high[0], found.trials[0]) == (0, 1, 0)


def test_uneven_answers_count_fewer_trials_than_subjects():
    found = pooled_reliability([run([0.95, 0.95, 0.95, 0.95], [0, 0, 1, 0], "AAAB")])
    assert found.trials[9] == pytest.approx(16 / 10)


def test_one_seed_and_a_scan_each_is_the_plain_diagram():
    rng = np.random.default_rng(0)
    confidence, labels = rng.uniform(0.5, 1, 40), rng.integers(0, 2, 40)
    one = run(confidence, labels, [str(n) for n in range(40)])
    found, plain = pooled_reliability([one]), reliability_curve(one.probabilities, labels, bins=10)
    for name in ("counts", "confidence", "accuracy", "low", "high"):
        np.testing.assert_allclose(getattr(found.curve, name), getattr(plain, name))
    np.testing.assert_array_equal(found.scans, plain.counts)


def test_more_seeds_that_say_the_same_narrow_no_interval():
    rng = np.random.default_rng(1)
    confidence, labels = rng.uniform(0.5, 1, 40), rng.integers(0, 2, 40)
    people = [str(n) for n in range(40)]
    one, five = (
        pooled_reliability([run(confidence, labels, people, seed=s) for s in range(n)]) for n in (1, 5)
    )
    np.testing.assert_allclose(five.curve.low, one.curve.low)
    np.testing.assert_allclose(five.curve.high, one.curve.high)
    np.testing.assert_allclose(five.scans, one.scans)


def test_risk_is_the_mean_over_seeds_that_each_rank_their_own_answers(two_seeds):
    # Seed 0 is wrong first, seed 1 second.
    found = mean_risk(two_seeds)
    np.testing.assert_allclose(found.coverage, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(found.risk, [(1 + 0) / 2, (1 / 2 + 1 / 2) / 2, 1 / 3])
    assert found.area == pytest.approx(found.risk.mean())


def test_the_mean_of_the_risk_is_the_area_also_with_ties_and_over_folds():
    rng = np.random.default_rng(2)
    runs = [
        run(rng.choice([0.6, 0.7, 0.9], 20), rng.integers(0, 2, 20), map(str, range(20)), seed=s, fold=f)
        for s in range(3)
        for f in range(2)
    ]
    areas = [
        risk_coverage_area(
            np.concatenate([runs[2 * s].probabilities, runs[2 * s + 1].probabilities]),
            np.concatenate([runs[2 * s].labels, runs[2 * s + 1].labels]),
        )
        for s in range(3)
    ]
    found = mean_risk(runs)
    assert len(found.coverage) == 40
    assert found.risk.mean() == pytest.approx(np.mean(areas))
    assert found.area == pytest.approx(np.mean(areas))


def test_many_scans_get_few_points():
    found = mean_risk([run([0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1], "ABCD")], points=2)
    np.testing.assert_allclose(found.coverage, [0.5, 1])
    np.testing.assert_allclose(found.risk, [0.5, 0.5])


def test_runs_without_a_partner_in_the_baseline_stay_out():
    people = "AB"
    runs = [run([0.9, 0.8], [0, 1], people, loss, seed) for loss, seed in (("gce", 0), ("gce", 1), ("ce", 1))]
    runs.append(run([0.9, 0.8], [0, 1], people, "focal", 2))
    found = comparable_runs(runs, "ce")
    assert list(found) == ["ce", "gce"]
    assert [one.seed for one in found["gce"]] == [1]
