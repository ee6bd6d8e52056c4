"""The gate on few scans and with a lucky champion: it waits where neither pass nor failure is shown."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from gate_cases import SETTINGS, check_of, failed, judged, softmax, world

from pipeline.evaluation.monitoring.champions_luck import ChampionsLead
from pipeline.evaluation.monitoring.gate import Judged, judge, spent_after
from pipeline.evaluation.monitoring.verdict import Look, Verdict


def few_shaken(n=20) -> Judged:
    """A challenger hardly different from the champion, on few scans."""
    evidence, labels, subjects = world()
    shaken = softmax(evidence + np.random.default_rng(5).normal(scale=0.5, size=evidence.shape))
    few = slice(0, n)
    return judged(
        shaken[few],
        softmax(evidence)[few],
        labels=labels[few],
        subjects=subjects[few],
        sets=np.ones((n, 3), dtype=bool),
    )


def test_too_few_subjects_to_decide_is_neither_pass_nor_failure():
    verdict = judge(few_shaken(), SETTINGS.model_copy(update={"level": 0.95}), seed=0)
    check = check_of(verdict, "negative_log_likelihood")
    assert check.low <= 0 < SETTINGS.negative_log_likelihood < check.high
    assert (check.passed, check.undecided) == (False, True)
    assert (verdict.passed, verdict.outcome) == (False, "wait")
    assert "20 test subjects are too few to decide" in check.sentence
    assert verdict.reasons == (check.sentence,)
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict


def test_a_guard_that_fails_ends_the_wait():
    test = few_shaken()
    missed = replace(test, sets=np.zeros_like(test.sets))
    verdict = judge(missed, SETTINGS.model_copy(update={"level": 0.95}), seed=0)
    assert verdict.outcome == "reject"
    assert all("prediction sets contain it" in reason for reason in verdict.reasons)


def test_guards_forgive_what_chance_explains_and_what_the_margin_allows():
    """Worse by more than the margin, by less than chance; then by more than both, with a wide margin."""
    test = few_shaken(60)
    tight = SETTINGS.model_copy(update={"balanced_accuracy": 0.0, "classwise_ece": 0.0})
    for name in ("balanced_accuracy", "classwise_ece"):
        check = check_of(judge(test, tight, seed=0), name)
        assert check.passed is not (check.value > 0 and check.low > 0)
    evidence = world()[0]
    bad = judged(softmax(4 * evidence), softmax(evidence))
    assert "classwise_ece" in failed(judge(bad, SETTINGS, seed=0))
    wide = SETTINGS.model_copy(update={"classwise_ece": 0.5})
    assert "classwise_ece" not in failed(judge(bad, wide, seed=0))


def test_later_looks_ask_for_more_than_the_first():
    evidence = world()[0]
    test = judged(softmax(1.2 * evidence), softmax(evidence))
    alone = check_of(judge(test, SETTINGS, 0), "negative_log_likelihood")
    looks = (Look(200, spent_after(SETTINGS, 0, 3)), Look(300, spent_after(SETTINGS, 1, 3)))
    again = check_of(judge(test, SETTINGS, 0, looks), "negative_log_likelihood")
    assert again.value == alone.value
    assert again.high > alone.high
    assert again.low < alone.low
    unpaid = (Look(200, 0.2), Look(300, 0.2))
    assert judge(test, SETTINGS, 0, unpaid).outcome == "wait", "a look that spends nothing decides nothing"


def lucky_champion() -> tuple[Judged, Judged]:
    """A challenger that is rejected narrowly, and the same where the champion's luck explains that."""
    evidence = world()[0]
    test = judged(softmax(1.8 * evidence), softmax(evidence))
    low = check_of(judge(test, SETTINGS, 0), "negative_log_likelihood").low
    return test, replace(test, lead=ChampionsLead(4 * (low + 0.001), 0.0, 300, 0.5))


def test_who_is_rejected_through_the_champions_luck_waits_instead():
    test, chosen = lucky_champion()
    plain, found = (check_of(judge(t, SETTINGS, 0), "negative_log_likelihood") for t in (test, chosen))
    assert (plain.outcome, plain.luck, found.outcome) == ("failed", 0.0, "undecided")
    assert found.luck == pytest.approx(plain.low + 0.001), "half of the lead, on half of the scans"
    assert (found.value, found.low, found.high) == (plain.value, plain.low, plain.high)
    told = (
        f"chosen on 50 % of these scans, so about {found.luck:.3f} is likely its luck; only later scans can"
    )
    assert told in found.sentence
    assert "luck" not in plain.sentence
    assert judge(test, SETTINGS, 0).checks[1:] == judge(chosen, SETTINGS, 0).checks[1:], (
        "guards are as before"
    )
    for share in (0, 0.5):
        settings = SETTINGS.model_copy(update={"champions_luck": share})
        check = check_of(judge(chosen, settings, 0), "negative_log_likelihood")
        assert (check.outcome, check.luck) == ("failed", share * found.luck)


def test_luck_saves_nobody_whom_a_guard_fails_or_who_is_worse_by_more():
    _, chosen = lucky_champion()
    missed = replace(chosen, sets=np.zeros_like(chosen.sets))
    assert judge(missed, SETTINGS, 0).outcome == "reject"
    clear = judge(replace(chosen, challenger=softmax(5 * world()[0])), SETTINGS, 0)
    assert check_of(clear, "negative_log_likelihood").outcome == "failed"


def test_luck_promotes_on_later_scans_but_never_on_those_that_chose_the_champion():
    evidence = world()[0]
    test = judged(softmax(1.3 * evidence), softmax(evidence), lead=ChampionsLead(0.04, 0.0, 300, 1.0))
    high = check_of(judge(test, SETTINGS, 0), "negative_log_likelihood").high
    tight = SETTINGS.model_copy(update={"negative_log_likelihood": high - 0.005})
    first = check_of(judge(test, tight, 0), "negative_log_likelihood")
    assert (first.passed, first.luck) == (False, pytest.approx(0.02))
    looks = (Look(200, 0.1), Look(300, 0.25))
    later = check_of(judge(test, tight, 0, looks), "negative_log_likelihood")
    without = check_of(judge(replace(test, lead=None), tight, 0, looks), "negative_log_likelihood")
    assert (later.passed, without.passed) == (True, False)
    assert "so about 0.020 is likely its luck" in later.sentence


def test_a_verdict_from_before_luck_was_known_is_read():
    verdict = judge(few_shaken(), SETTINGS, seed=0)
    stored = verdict.to_dict()
    for check in stored["checks"]:
        del check["luck"]
    assert Verdict.from_dict(stored) == verdict
