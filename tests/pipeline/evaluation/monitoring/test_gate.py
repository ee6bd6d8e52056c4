"""The gate: equal classifiers pass, worse ones fail by name, and what it says is what it measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_cases import NAMES, SETTINGS, check_of, failed, judged, softmax, world
from pydantic import ValidationError

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
from pipeline.evaluation.monitoring.gate import judge
from pipeline.evaluation.monitoring.verdict import Verdict

COMPARED = ("negative_log_likelihood", "classwise_ece", "balanced_accuracy")


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
