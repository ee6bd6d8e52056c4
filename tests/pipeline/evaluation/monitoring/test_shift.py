"""Shift: quiet where nothing changed, and the right answer where something did."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from models.calibrators import softmax
from pipeline.errors import InputError
from pipeline.evaluation.inference.two_samples import (
    class_conditional_p_value,
    means_p_value,
    rate_p_value,
    shares_p_value,
)
from pipeline.evaluation.monitoring.shift import PeriodScans, check_shift

CLASSES = ("CN", "MCI", "AD")
UPTAKE = np.linspace(0, 0.5, 6)
"""By how much each region's SUVR rises per unit of severity."""


def clinic(n, rng, mix=(0.5, 0.3, 0.2), bias=0.0, scanners=("A", "B"), ood=0.01):
    """Scans and classes; a network that reads severity off the SUVR, calibrated at the usual mix."""
    labels = rng.choice(3, size=n, p=mix)
    severity = labels + rng.normal(size=n) * 0.6
    suvr = 1.2 + severity[:, None] * UPTAKE + rng.normal(size=(n, 6)) * 0.08 + bias
    read = (suvr - 1.2) @ UPTAKE / (UPTAKE @ UPTAKE)
    variance = 0.36 + 0.08**2 / (UPTAKE @ UPTAKE)
    logits = np.log([0.5, 0.3, 0.2]) - (read[:, None] - np.arange(3.0)) ** 2 / 2 / variance
    scans = PeriodScans(
        subjects=tuple(f"sub-{i}" for i in range(n)),
        region_names=tuple(f"region {r}" for r in range(6)),
        suvr=suvr,
        class_names=CLASSES,
        probabilities=softmax(logits),
        out_of_distribution=rng.random(n) < ood,
        scanners=tuple(rng.choice(scanners, size=n).tolist()),
    )
    return scans, labels


@pytest.fixture
def reference(rng):
    return clinic(300, rng)


def answer_for(reference, current, **options):
    return check_shift(*reference, current, draws=599, **options)


def test_a_period_like_the_reference_asks_for_nothing(reference, rng):
    shift = answer_for(reference, clinic(80, rng)[0])
    assert shift.answer == "nothing"
    assert shift.reasons == ("None of the 5 tests finds a change at the level 0.01.",)
    assert [test.kind for test in shift.tests] == [
        "regions", "out of distribution", "class mix", "confidence", "scanner",
    ]  # fmt: skip


def test_a_doubled_share_of_ad_asks_for_recalibration_not_retraining(reference, rng):
    shift = answer_for(reference, clinic(150, rng, mix=(0.3, 0.2, 0.5))[0])
    assert shift.answer == "recalibrate"
    mix = next(test for test in shift.tests if test.kind == "class mix")
    assert mix.changed
    assert mix.effect == pytest.approx(0.3, abs=0.12)
    assert any(reason.startswith(("AD is estimated at", "CN is estimated at")) for reason in shift.reasons)
    assert not shift.tests[0].changed


def test_a_scanner_that_biases_asks_for_retraining(reference, rng):
    shift = answer_for(reference, clinic(80, rng, bias=0.12, scanners=("C",))[0])
    assert shift.answer == "retrain"
    assert shift.reasons[0].startswith("SUVR of region ")
    assert "from what the mix of classes explains" in shift.reasons[0]
    assert any(
        reason.startswith("Scanner C made 80 of 80 scans, before 0 of 300") for reason in shift.reasons
    )


def test_more_out_of_distribution_scans_ask_for_retraining(reference, rng):
    shift = answer_for(reference, clinic(80, rng, ood=0.25)[0])
    assert shift.answer == "retrain"
    assert any("scans are out of distribution" in reason for reason in shift.reasons)


def test_fewer_out_of_distribution_scans_are_no_alarm(rng):
    shift = answer_for(clinic(300, rng, ood=0.3), clinic(80, rng, ood=0.0)[0])
    assert shift.answer == "nothing"


def test_a_new_scanner_whose_scans_look_alike_asks_for_nothing_and_is_named(reference, rng):
    shift = answer_for(reference, clinic(80, rng, scanners=("A", "B", "C"))[0])
    assert shift.answer == "nothing"
    assert shift.reasons[0].startswith("Scanner C made ")
    assert shift.reasons[1] == "The scans of the new scanner look like the others, so no action is needed."


def test_a_sure_but_tiny_change_asks_for_nothing(rng):
    shift = check_shift(*clinic(6000, rng), clinic(6000, rng, bias=0.008)[0], draws=99, level=0.05)
    regions = shift.tests[0]
    assert regions.p_holm <= 0.05
    assert not regions.changed
    assert regions.effect < 0.2


@pytest.mark.parametrize(
    ("mix", "wrong"),
    [((0.5, 0.3, 0.2), ("recalibrate", "retrain")), ((0.25, 0.25, 0.5), ("retrain",))],
    ids=["nothing changed", "only the mix changed"],
)
def test_false_alarms_stay_at_the_level(mix, wrong):
    rng = np.random.default_rng(5)
    trials, level = 60, 0.1
    alarms = 0
    for seed in range(trials):
        reference, labels = clinic(80, rng)
        current, _ = clinic(30, rng, mix=mix)
        alarms += check_shift(reference, labels, current, level=level, draws=59, seed=seed).answer in wrong
    assert stats.binomtest(alarms, trials, level, alternative="greater").pvalue > 0.01


def test_each_p_value_is_uniform_or_above_where_nothing_changed():
    rng = np.random.default_rng(6)
    found = []
    for _ in range(150):
        before, after = rng.normal(size=(40, 3)), rng.normal(size=(15, 3))
        counts = [np.bincount(rng.integers(0, 4, n), minlength=4) for n in (40, 15)]
        flags = [rng.random(n) < 0.3 for n in (40, 15)]
        found.append(
            (means_p_value(before, after, 99, rng), shares_p_value(*counts, 99, rng), rate_p_value(*flags))
        )
    for column in np.array(found).T:
        for level in (0.05, 0.2, 0.5):
            hits = int((column <= level).sum())
            assert stats.binomtest(hits, 150, level, alternative="greater").pvalue > 0.005


def test_means_p_value_agrees_with_the_t_test_in_one_column(rng):
    before, after = rng.normal(size=(60, 1)), rng.normal(size=(40, 1)) + 0.4
    exact = stats.ttest_ind(before[:, 0], after[:, 0]).pvalue
    assert means_p_value(before, after, 4999, rng) == pytest.approx(exact, abs=0.015)


def test_rate_p_value_is_fishers():
    before, after = np.arange(50) < 3, np.arange(20) < 5
    table = [[5, 15], [3, 47]]
    assert rate_p_value(before, after) == pytest.approx(
        stats.fisher_exact(table, alternative="greater").pvalue
    )


def test_shares_p_value_by_enumeration(rng):
    # Of six scans two are current, both from one of two scanners that made three each: 6 of 15 ways.
    p_value = shares_p_value(np.array([1, 3]), np.array([2, 0]), 20_000, rng)
    assert p_value == pytest.approx(6 / 15, abs=0.015)


def test_class_conditional_differences_leave_out_the_mix(rng):
    (before, labels), (after, _) = clinic(4000, rng), clinic(4000, rng, mix=(0.2, 0.2, 0.6), bias=0.05)
    raw = after.suvr.mean(axis=0) - before.suvr.mean(axis=0)
    p_value, differences = class_conditional_p_value(
        before.suvr, labels, before.probabilities, after.suvr, after.probabilities, 49, rng
    )
    assert raw[-1] > 0.3
    assert np.abs(differences[0] - 0.05) < 0.02
    assert p_value == pytest.approx(1 / 50)


def test_a_class_that_the_reference_lacks_is_left_out_not_an_error(rng):
    scans, labels = clinic(200, rng)
    seen = np.flatnonzero(labels != 1)
    current = clinic(60, rng)[0]
    current.probabilities[0] = [0.0, 1.0, 0.0]
    shift = check_shift(scans.take(seen), labels[seen], current, draws=599)
    assert len(shift.tests) == 5
    assert np.isfinite([test.p_value for test in shift.tests]).all()


def test_only_the_last_scan_of_a_subject_counts(reference, rng):
    current, _ = clinic(60, rng)
    followed = current.take(np.repeat(np.arange(60), 5))
    assert answer_for(reference, followed) == answer_for(reference, current)
    followed.suvr[0::5] += 100.0
    assert answer_for(reference, followed) == answer_for(reference, current)


def test_too_few_subjects_are_not_tested_and_said_so(reference, rng):
    shift = answer_for(reference, clinic(9, rng)[0])
    assert (shift.answer, shift.tests) == ("nothing", ())
    assert shift.reasons == ("Not tested: the period has 9 subjects, and the test needs 10.",)


def test_the_answer_repeats_with_the_seed_and_is_json(reference, rng):
    current = clinic(40, rng)[0]
    first = answer_for(reference, current, seed=1)
    assert answer_for(reference, current, seed=1) == first
    assert json.loads(json.dumps(first.to_dict()))["answer"] == first.answer


def test_what_cannot_be_compared_is_refused(reference, rng):
    scans, labels = reference
    current = clinic(40, rng)[0]
    with pytest.raises(InputError, match="6 and 6 regions, classes CN, MCI, AD and CN, MCI, FTD"):
        check_shift(scans, labels, replace(current, class_names=("CN", "MCI", "FTD")))
    with pytest.raises(
        InputError, match=r"Reference labels of shape \(299,\) are not one class for each of 300 scans"
    ):
        check_shift(scans, labels[1:], current)
    with pytest.raises(
        InputError, match=r"99 draws are too few for level 0\.01, expected at least 499. Raise the draws or"
    ):
        check_shift(scans, labels, current, draws=99)
    broken = current.suvr.copy()
    broken[3, 2] = np.nan
    with pytest.raises(InputError, match="sub-3: SUVR of region 2 is nan"):
        replace(current, suvr=broken)
    with pytest.raises(InputError, match="each for its 40 scans"):
        replace(current, scanners=("A",))
