"""The gate on prediction sets: coverage of a class fails where chance no longer explains what it misses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gate_cases import NAMES, SETTINGS, check_of, failed, judged, softmax, world
from scipy import stats

from models.conformal import ConformalSets
from pipeline.evaluation.metrics import (
    METRICS,
    prior_corrected,
)
from pipeline.evaluation.monitoring.gate import Judged, judge
from pipeline.evaluation.monitoring.verdict import Verdict


def with_misses(missed: int, of: int, **more) -> Judged:
    """Scans of two classes, each of another subject; the first class is missed by some of its sets."""
    labels = np.repeat([0, 1], of)
    sets = np.ones((2 * of, 2), dtype=bool)
    sets[:missed, 0] = False
    subjects = tuple(str(row) for row in range(2 * of))
    p = np.full((2 * of, 2), 0.5)
    given = {"subjects": subjects, "sets": sets, "coverage": 0.9} | more
    return Judged(labels, class_names=("CN", "AD"), challenger=p, **given)


def test_coverage_fails_where_chance_no_longer_explains_it():
    """P(X <= 32 | 40, 0.9) = 0.042 and P(X <= 31 | 40, 0.9) = 0.015, against 0.05 over two classes."""
    assert judge(with_misses(8, 40), SETTINGS, 0).passed
    verdict = judge(with_misses(9, 40), SETTINGS, 0)
    assert failed(verdict) == {"conformal_coverage.CN"}
    check = check_of(verdict, "conformal_coverage.CN")
    assert (check.value, check.limit) == (31 / 40, 32 / 40)
    assert (
        check.sentence
        == "CN: 31 of 40 prediction sets contain it; at a coverage of 90 %, 80 % or more is within chance."
    )


def test_scans_of_one_subject_are_not_independent_misses():
    twice = tuple(str(row // 4) for row in range(80))
    assert failed(judge(with_misses(9, 40), SETTINGS, 0))
    assert judge(with_misses(9, 40, subjects=twice), SETTINGS, 0).passed


def test_few_calibration_scans_leave_room_and_many_leave_none():
    assert judge(with_misses(11, 40, calibration_scans=(20, 20)), SETTINGS, 0).passed
    assert not judge(with_misses(11, 40, calibration_scans=(5000, 5000)), SETTINGS, 0).passed
    # Eight calibration scans give no rank at 90 %, the threshold is the largest score: Beta(8, 1).
    least = stats.betabinom.ppf(0.025, 40, 8, 1)
    assert judge(with_misses(int(40 - least), 40, calibration_scans=(8, 8)), SETTINGS, 0).passed
    assert not judge(with_misses(int(41 - least), 40, calibration_scans=(8, 8)), SETTINGS, 0).passed
    # A class without calibration scans is judged by its test scans alone.
    for missed, passes in ((8, True), (9, False)):
        assert judge(with_misses(missed, 40, calibration_scans=(0, 40)), SETTINGS, 0).passed is passes


@pytest.mark.parametrize("given", [True, False], ids=["calibration scans known", "not known"])
def test_conformal_sets_fail_no_oftener_than_promised(given):
    """Real sets of 60 calibration scans a class on 60 others: the gate's promise is one failure in twenty."""
    failures = 0
    rng = np.random.default_rng(0)
    for _ in range(400):
        labels = np.repeat([0, 1], 60)
        calibration, test = (softmax(rng.normal(size=(120, 2)) + np.eye(2)[labels]) for _ in range(2))
        fitted = ConformalSets.fit(calibration, labels, 0.9)
        subjects = tuple(map(str, range(120)))
        scans = fitted.counts if given else None
        case = Judged(labels, subjects, ("CN", "AD"), test, fitted.sets(test), 0.9, calibration_scans=scans)
        failures += not judge(case, SETTINGS, 0).passed
    if given:
        assert failures <= 0.05 * 400 + 2 * np.sqrt(400 * 0.05 * 0.95)
    else:
        assert failures > 0.05 * 400, "the test scans' chance alone forgives too little"


def test_a_class_with_too_few_test_scans_is_said_not_failed():
    labels = np.array([0] * 20 + [1])
    sets = np.ones((21, 3), dtype=bool)
    sets[20] = False
    p = np.full((21, 3), 1 / 3)
    verdict = judge(Judged(labels, tuple(map(str, range(21))), NAMES, p, sets, 0.9), SETTINGS, 0)
    assert verdict.passed
    sentences = {c.name: c.sentence for c in verdict.checks}
    assert (
        "0 of 1 prediction sets contain it; there are too few test scans to judge"
        in sentences["conformal_coverage.MCI"]
    )
    assert (
        "0 of 0 prediction sets contain it; there are too few test scans to judge"
        in sentences["conformal_coverage.AD"]
    )
    stored = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert stored["checks"][2]["value"] is None
    assert Verdict.from_dict(stored).to_dict() == verdict.to_dict()


def test_a_class_without_a_test_scan_does_not_fail_a_better_challenger():
    """Balanced accuracy has no such class, so no scan may be said to be of it, however rare it is."""
    for seed in range(5):
        evidence, labels, subjects = world(seed=seed)
        kept = labels != 2
        z, labels = evidence[kept], labels[kept]
        noisy = 1.4 * z + np.random.default_rng(seed).normal(scale=0.9, size=z.shape)
        test = judged(
            softmax(z),
            softmax(noisy),
            labels=labels,
            subjects=tuple(np.asarray(subjects)[kept]),
            sets=np.ones((len(z), 3), dtype=bool),
        )
        check = check_of(judge(test, SETTINGS, 0), "balanced_accuracy")
        assert check.passed
        of_two = METRICS["balanced_accuracy"](
            prior_corrected(softmax(z[:, :2]), (np.bincount(labels) + 0.5) / (len(labels) + 1)), labels
        )
        assert f"Prior-corrected balanced accuracy is {of_two:.3f}" in check.sentence
