"""The gate: equal classifiers pass, worse ones fail by name, and what it says is what it measured."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from models.conformal import ConformalSets
from pipeline.config import GateSettings
from pipeline.errors import InputError
from pipeline.evaluation.inference.intervals import bootstrap, paired_bootstrap
from pipeline.evaluation.inference.sequential import skewed_limits
from pipeline.evaluation.metrics import (
    ABOVE_NOISE,
    METRICS,
    negative_log_likelihood,
    prior_corrected,
)
from pipeline.evaluation.monitoring.champions_luck import ChampionsLead
from pipeline.evaluation.monitoring.gate import Judged, judge, spent_after
from pipeline.evaluation.monitoring.verdict import Look, Verdict

SETTINGS = GateSettings(draws=500, guard_level=0.95)
NAMES = ("CN", "MCI", "AD")
COMPARED = ("negative_log_likelihood", "classwise_ece", "balanced_accuracy")


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def world(n=300, scans_each=1, seed=0):
    """Evidence of subjects, and labels drawn from its softmax: the calibrated classifier states just that."""
    rng = np.random.default_rng(seed)
    evidence = np.repeat(rng.normal(scale=1.5, size=(n // scans_each, 3)), scans_each, axis=0)
    p = softmax(evidence)
    labels = (rng.random(n)[:, None] > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return evidence, labels, tuple(f"s{row // scans_each}" for row in range(n))


def judged(challenger=None, champion=None, **more):
    evidence, labels, subjects = world()
    p = softmax(evidence)
    given = {
        "labels": labels,
        "subjects": subjects,
        "class_names": NAMES,
        "challenger": p if challenger is None else challenger,
        "sets": np.ones((len(p), 3), dtype=bool),
        "coverage": 0.9,
        "champion": champion,
    }
    return Judged(**(given | more))


def check_of(verdict: Verdict, name: str):
    return next(check for check in verdict.checks if check.name == name)


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def test_equal_classifiers_pass_even_without_a_margin():
    p = softmax(world()[0])
    strict = GateSettings(negative_log_likelihood=0, classwise_ece=0, balanced_accuracy=0, draws=200)
    verdict = judge(judged(champion=p, baseline=p), strict, seed=1)
    assert verdict.passed
    assert {(c.value, c.low, c.high) for c in verdict.checks if c.name in COMPARED} == {(0.0, 0.0, 0.0)}
    assert "-0" not in " ".join(verdict.reasons)


def test_overconfidence_fails_nll_and_calibration_and_leaves_accuracy_alone():
    evidence = world()[0]
    verdict = judge(judged(softmax(4 * evidence), softmax(evidence)), SETTINGS, seed=0)
    assert failed(verdict) == {"negative_log_likelihood", "classwise_ece"}
    assert not verdict.passed
    assert verdict.outcome == "reject"


def test_confused_classes_fail_balanced_accuracy():
    evidence, labels, _ = world()
    confused = evidence[:, [1, 0, 2]]
    verdict = judge(judged(softmax(confused), softmax(evidence)), SETTINGS, seed=0)
    assert "balanced_accuracy" in failed(verdict)
    check = check_of(verdict, "balanced_accuracy")
    shares = (np.bincount(labels) + 0.5) / (len(labels) + 1.5)
    of = [
        METRICS["balanced_accuracy"](prior_corrected(softmax(z), shares), labels)
        for z in (evidence, confused)
    ]
    assert check.value == pytest.approx(of[0] - of[1])
    assert check.value > check.low > 0, "positive is worse for every metric"
    assert "Prior-corrected balanced accuracy is" in check.sentence


def test_a_better_challenger_passes_and_is_called_better():
    evidence = world()[0]
    verdict = judge(judged(softmax(evidence), softmax(4 * evidence)), SETTINGS, seed=0)
    assert verdict.passed
    assert check_of(verdict, "negative_log_likelihood").sentence.count("better by at least") == 1


def test_non_inferiority_is_a_matter_of_the_margin():
    evidence = world()[0]
    test = judged(softmax(1.5 * evidence), softmax(evidence))
    high = check_of(judge(test, SETTINGS, seed=0), "negative_log_likelihood").high
    for margin, passes in ((high * 1.01, True), (high * 0.99, False)):
        settings = SETTINGS.model_copy(update={"negative_log_likelihood": margin})
        assert check_of(judge(test, settings, seed=0), "negative_log_likelihood").passed is passes


def test_a_higher_level_asks_for_more():
    evidence = world()[0]
    test = judged(softmax(1.5 * evidence), softmax(evidence))
    highs = [
        check_of(judge(test, GateSettings(draws=100, level=level), seed=0), "negative_log_likelihood").high
        for level in (0.8, 0.95, 0.99)
    ]
    assert highs == sorted(highs)
    assert highs[0] < highs[-1]
    with pytest.raises(ValidationError, match="level"):
        GateSettings(level=0.3)


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


def test_the_order_of_scans_makes_no_difference():
    evidence, labels, subjects = world(scans_each=3)
    a, b = softmax(2 * evidence), softmax(evidence)
    sets = a > 0.2
    test = judged(a, b, labels=labels, subjects=subjects, sets=sets, baseline=np.full_like(a, 1 / 3))
    order = np.random.default_rng(3).permutation(len(labels))
    mixed = judged(
        a[order],
        b[order],
        labels=labels[order],
        subjects=tuple(subjects[row] for row in order),
        sets=sets[order],
        baseline=np.full_like(a, 1 / 3),
    )
    for one, other in zip(judge(test, SETTINGS, 7).checks, judge(mixed, SETTINGS, 7).checks, strict=True):
        assert one.sentence == other.sentence
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
    assert judge(test, SETTINGS, 7) == judge(test, SETTINGS, 7)


def test_pairing_narrows_and_subjects_widen_the_interval():
    thrice = np.repeat(
        np.arange(100), 3
    )  # three scans of a subject that say the same are one piece of evidence
    evidence, labels = world()[0][thrice], world()[1][thrice]
    subjects = tuple(f"s{row}" for row in thrice)
    a, b = softmax(1.3 * evidence), softmax(evidence)
    name = "negative_log_likelihood"
    settings = SETTINGS.model_copy(update={"level": 0.95})
    paired = check_of(judge(judged(a, b, labels=labels, subjects=subjects), settings, 0), name)
    apart = [bootstrap(p, labels, subjects, [name], draws=500, level=0.9)[name] for p in (a, b)]
    unpaired = np.hypot(*(i.high - i.low for i in apart))
    assert paired.high - paired.low < 0.6 * unpaired
    scans = tuple(str(row) for row in range(len(labels)))
    as_if_independent = check_of(judge(judged(a, b, labels=labels, subjects=scans), settings, 0), name)
    widened = (paired.high - paired.low) / (as_if_independent.high - as_if_independent.low)
    assert widened == pytest.approx(np.sqrt(3), rel=0.15)


def test_the_checks_are_those_of_the_paired_differences():
    evidence, labels, subjects = world()
    a, b = softmax(2 * evidence), softmax(evidence)
    verdict = judge(judged(a, b), SETTINGS, seed=4)
    check = check_of(verdict, "negative_log_likelihood")
    rows = np.arange(len(labels))
    losses = np.log(b[rows, labels]) - np.log(a[rows, labels])
    assert (check.value, check.low, check.high) == pytest.approx(skewed_limits(losses, subjects, 0.8416212))
    above = ABOVE_NOISE["classwise_ece_above_noise"]
    found = paired_bootstrap(a, b, labels, subjects, [above.name], draws=500, level=0.9, seed=4)[above.name]
    check = check_of(verdict, "classwise_ece")
    assert (check.value, check.low, check.high) == pytest.approx(
        (found.value, found.low, found.high), abs=1e-3
    )  # noise floors are drawn in another order


def test_without_a_champion_only_the_absolute_checks_are_asked():
    evidence = world()[0]
    verdict = judge(judged(baseline=softmax(0.1 * evidence)), SETTINGS, seed=0)
    assert [c.name for c in verdict.checks] == [*(f"conformal_coverage.{n}" for n in NAMES), "baseline"]
    assert verdict.passed


def test_a_network_that_regional_suvr_beats_fails():
    evidence, labels, _ = world()
    p, better = softmax(0.1 * evidence), softmax(evidence)
    verdict = judge(judged(p, p, baseline=better), SETTINGS, seed=0)
    assert failed(verdict) == {"baseline"}
    gap = negative_log_likelihood(p, labels) - negative_log_likelihood(better, labels)
    assert check_of(verdict, "baseline").value == pytest.approx(gap)
    assert f"worse by {gap:.3f}, which is not allowed." in verdict.reasons[0]
    assert len(verdict.reasons) == 1


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


def test_reasons_are_the_failures_or_all():
    evidence = world()[0]
    good = judge(judged(champion=softmax(evidence)), SETTINGS, 0)
    assert good.reasons == tuple(c.sentence for c in good.checks)
    bad = judge(judged(softmax(4 * evidence), softmax(evidence)), SETTINGS, 0)
    assert len(bad.reasons) == 2
    assert "allowed" in bad.reasons[0]
    assert Verdict.from_dict(bad.to_dict()) == bad


def test_rivals_of_other_scans_or_classes_are_refused_by_name():
    with pytest.raises(
        InputError,
        match=r"champion: Its predictions have shape \(300, 2\), the test has 300 scans and 3 classes",
    ):
        judged(champion=np.full((300, 2), 0.5))
    with pytest.raises(InputError, match=r"sets: Its predictions have shape \(299, 3\)"):
        judged(sets=np.ones((299, 3), dtype=bool))
    with pytest.raises(InputError, match="There are 1 subjects for 300 test scans"):
        judged(subjects=("s",) * 300)
    with pytest.raises(InputError, match="expected 1"):
        judge(replace(judged(), champion=np.full((300, 3), 0.5)), SETTINGS, 0)
