"""Comparing losses: paired, corrected, adjusted; better where it is, else not significant."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from models.calibrators import softmax
from pipeline.errors import InputError
from pipeline.evaluation.comparison.loss_comparison import compare_runs
from pipeline.evaluation.comparison.seed_runs import Run
from pipeline.evaluation.inference.significance import corrected_resampled_t_test
from pipeline.evaluation.metrics import (
    ABOVE_NOISE,
    balanced_accuracy,
    negative_log_likelihood,
    per_class_recall,
    prior_corrected,
    prior_corrected_balanced_accuracy,
    risk_coverage_area,
)

NLL = ("negative_log_likelihood",)


def cohort(n=200, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 1.8
    labels = (softmax(logits).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return logits, labels


def pooled(function, runs):
    """Return a metric of the test scans of several runs together."""
    probabilities = np.concatenate([run.probabilities for run in runs])
    return function(probabilities, np.concatenate([run.labels for run in runs]))


def make_run(loss, seed, scans, fold=0, noise=0.7, scale=1.0, salt=0):
    """A network that sees the true logits through noise of its own and exaggerates them by `scale`."""
    logits, labels = scans
    name = sum(ord(letter) * 31**i for i, letter in enumerate(loss))
    rng = np.random.default_rng([salt, name, seed, fold])
    n = len(labels)
    return Run(
        loss,
        seed,
        fold,
        training_scans=4 * n,
        scan_ids=tuple(f"scan-{fold}-{i}" for i in range(n)),
        subjects=tuple(f"sub-{fold}-{i // 2}" for i in range(n)),
        labels=labels,
        probabilities=softmax((logits + rng.normal(size=logits.shape) * noise) * scale),
    )


def test_better_worse_and_not_told_apart_are_said_of_the_right_losses():
    scans = cohort(400)
    runs = [make_run("ce", seed, scans, noise=1.5) for seed in range(3)]
    runs += [make_run("sharp", seed, scans, noise=1.5, scale=4.0) for seed in range(3)]
    runs += [make_run("clear", seed, scans, noise=0.1) for seed in range(3)]
    runs += [make_run("twin", seed, scans, noise=1.5) for seed in range(3)]
    comparison = compare_runs(runs, "ce", ("negative_log_likelihood", "balanced_accuracy"), draws=500)
    by_loss = {result.loss: result for result in comparison.results}
    verdicts = {loss: [d.verdict for d in result.differences] for loss, result in by_loss.items()}
    assert verdicts == {
        "ce": [],
        "sharp": ["worse", "not significant"],
        "clear": ["better", "better"],
        "twin": ["not significant", "not significant"],
    }
    assert by_loss["sharp"].sentence.startswith("sharp is worse than ce in NLL (+")
    of_sharp, (nll, accuracy) = by_loss["sharp"].sentence, by_loss["sharp"].differences
    power = f"(80 % power for {accuracy.detectable:.2g})"
    assert f"; not significantly different from ce in balanced accuracy {power} (3 seeds" in of_sharp
    assert 0 < nll.detectable < nll.interval.value, "what was found could be found"
    assert by_loss["sharp"].sentence.endswith("(3 seeds x 1 fold, Holm over 3 losses).")
    assert by_loss["clear"].sentence.startswith("clear is better than ce in NLL (-")
    assert re.match(
        r"twin is not significantly different from ce in NLL \(80 % power for 0\.\d+\), "
        r"balanced accuracy \(80 % power for 0\.\d+\) \(3",
        by_loss["twin"].sentence,
    )
    assert by_loss["ce"].sentence == "ce is the baseline."
    assert (comparison.scans, comparison.subjects, comparison.missing) == (400, 200, ())


def test_values_are_means_over_seeds_of_the_metric_on_all_folds():
    folds = [cohort(80, seed=fold) for fold in range(2)]
    runs = [make_run(loss, s, folds[f], f) for loss in ("ce", "gce") for s in range(3) for f in range(2)]
    comparison = compare_runs(runs, "ce", ("negative_log_likelihood", "balanced_accuracy"), draws=50)
    of = {
        (loss, s): [r for r in runs if (r.loss, r.seed) == (loss, s)]
        for loss in ("ce", "gce")
        for s in range(3)
    }
    ce, gce = comparison.results
    for metric, function in [
        ("negative_log_likelihood", negative_log_likelihood),
        ("balanced_accuracy", balanced_accuracy),
    ]:
        means = {loss: np.mean([pooled(function, of[loss, s]) for s in range(3)]) for loss in ("ce", "gce")}
        assert ce.metrics[metric].value == pytest.approx(means["ce"])
        assert gce.metrics[metric].value == pytest.approx(means["gce"])
        difference = next(d for d in gce.differences if d.metric == metric)
        assert difference.interval.value == pytest.approx(means["gce"] - means["ce"])
    one_seed = compare_runs([r for r in runs if r.seed == 0], "ce", NLL, draws=50)
    recall = [interval.value for interval in one_seed.results[0].recall]
    np.testing.assert_allclose(recall, pooled(per_class_recall, of["ce", 0]))


def test_with_folds_the_p_value_is_the_corrected_t_test_over_all_runs():
    folds = [cohort(60, seed=fold) for fold in range(3)]
    runs = [make_run(loss, s, folds[f], f) for loss in ("ce", "gce") for s in range(2) for f in range(3)]
    nll = {(r.loss, r.seed, r.fold): pooled(negative_log_likelihood, [r]) for r in runs}
    gaps = [nll["gce", s, f] - nll["ce", s, f] for s in range(2) for f in range(3)]
    difference = compare_runs(runs, "ce", NLL, draws=50).results[1].differences[0]
    assert difference.p_value == pytest.approx(corrected_resampled_t_test(gaps, 0.25))
    assert difference.p_holm == difference.p_value


def test_pairing_tells_apart_what_separate_intervals_cannot():
    scans = cohort(1200)
    runs = [make_run("ce", 0, scans, noise=0.0), make_run("warm", 0, scans, noise=0.0, scale=1.6)]
    ce, warm = compare_runs(runs, "ce", NLL, draws=1000).results
    one, other = ce.metrics[NLL[0]], warm.metrics[NLL[0]]
    assert max(one.low, other.low) < min(one.high, other.high)
    assert warm.differences[0].interval.low > 0
    assert warm.differences[0].verdict == "worse"
    assert "one run each, so chance in training is not covered" in warm.sentence


def test_scans_of_one_subject_do_not_count_as_many():
    logits, labels = cohort(60)
    repeated = (np.repeat(logits, 8, axis=0), np.repeat(labels, 8))
    runs = []
    for loss, scale in [("ce", 1.0), ("warm", 1.6)]:
        run = make_run(loss, 0, repeated, noise=0.0, scale=scale)
        subjects = tuple(f"sub-{i // 8}" for i in range(480))
        runs.append(Run(loss, 0, 0, 1000, run.scan_ids, subjects, run.labels, run.probabilities))
    as_scans = [Run(r.loss, 0, 0, 1000, r.scan_ids, r.scan_ids, r.labels, r.probabilities) for r in runs]
    widths = []
    for some in (runs, as_scans):
        interval = compare_runs(some, "ce", NLL, draws=1000).results[1].differences[0].interval
        widths.append(interval.high - interval.low)
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(8), rel=0.15)


@pytest.mark.parametrize("seeds", [2, 4])
def test_equal_losses_are_rarely_told_apart(seeds):
    # Three losses that are the baseline under other names: any verdict but one is a false alarm.
    false_alarms, trials = 0, 60
    for trial in range(trials):
        scans = cohort(120, seed=trial)
        runs = [make_run(loss, s, scans, salt=trial) for loss in ("ce", "a", "b", "c") for s in range(seeds)]
        results = compare_runs(runs, "ce", NLL, draws=200, seed=trial).results
        false_alarms += any(d.verdict != "not significant" for r in results for d in r.differences)
    assert stats.binomtest(false_alarms, trials, 0.05, alternative="greater").pvalue > 0.01


def test_intervals_over_subjects_and_seeds_cover_the_true_difference():
    many = cohort(100_000, seed=10_000)
    noisy, clear = (make_run("net", 0, many, noise=noise, salt=97) for noise in (1.0, 0.7))
    truth = pooled(negative_log_likelihood, [noisy]) - pooled(negative_log_likelihood, [clear])
    covered = 0
    for trial in range(60):
        scans = cohort(150, seed=trial)
        runs = [make_run("ce", s, scans, salt=trial) for s in range(5)]
        runs += [make_run("gce", s, scans, noise=1.0, salt=trial) for s in range(5)]
        interval = compare_runs(runs, "ce", NLL, draws=200, seed=trial).results[1].differences[0].interval
        covered += interval.low <= truth <= interval.high
    assert stats.binomtest(covered, 60, 0.95, alternative="less").pvalue > 0.01


def test_only_runs_that_both_losses_have_are_compared_and_a_loss_without_any_is_named():
    scans = cohort(80)
    runs = [make_run("ce", s, scans) for s in range(3)] + [make_run("gce", s, scans) for s in (0, 2, 5)]
    comparison = compare_runs([*runs, make_run("lost", 9, scans)], "ce", NLL, draws=50)
    assert [result.loss for result in comparison.results] == ["ce", "gce"]
    assert [result.seeds for result in comparison.results] == [3, 2]
    assert comparison.missing == ("lost",)


def test_a_baseline_alone_is_reported_alone():
    comparison = compare_runs([make_run("ce", 0, cohort(80))], "ce", NLL, draws=50)
    assert [result.sentence for result in comparison.results] == ["ce is the baseline."]


def test_the_result_is_json_and_repeats_with_the_seed():
    runs = [make_run(loss, s, cohort(80)) for loss in ("ce", "gce") for s in range(2)]
    first = compare_runs(runs, "ce", draws=100, seed=3)
    assert json.loads(json.dumps(first.to_dict()))["results"][1]["loss"] == "gce"
    assert compare_runs(runs, "ce", draws=100, seed=3) == first
    assert compare_runs(runs, "ce", draws=100, seed=4) != first


def test_what_cannot_be_compared_is_refused():
    scans = cohort(40)
    ce, gce = make_run("ce", 0, scans), make_run("gce", 0, scans)
    other = Run("gce", 0, 0, 160, ce.scan_ids[::-1], ce.subjects, ce.labels, gce.probabilities)
    with pytest.raises(
        InputError, match=r"seed 0, fold 0: Losses gce and ce were not .* scans .* Use the same split"
    ):
        compare_runs([ce, other], "ce", NLL)
    with pytest.raises(InputError, match="The run ce, seed 0, fold 0 is given twice"):
        compare_runs([ce, ce], "ce", NLL)
    with pytest.raises(InputError, match="ce: The baseline has no run; the runs are of gce"):
        compare_runs([gce], "ce", NLL)
    with pytest.raises(InputError, match="no metric named nll"):
        compare_runs([ce, gce], "ce", ("nll",))
    with pytest.raises(
        InputError, match=r"ce, seed 0, fold 0: .* lengths \(40, 40, 40, 39\), after training on 160 scans"
    ):
        Run("ce", 0, 0, 160, ce.scan_ids, ce.subjects, ce.labels, ce.probabilities[:39])


def test_what_is_only_measured_has_an_interval_and_no_verdict():
    scans = cohort()
    runs = [make_run(loss, seed, scans) for loss in ("ce", "gce") for seed in (0, 1)]
    found = compare_runs(runs, "ce", NLL, measured=("risk_coverage_area",), draws=50).results[1]
    area = found.metrics["risk_coverage_area"]
    both = [risk_coverage_area(run.probabilities, run.labels) for run in runs[2:]]
    assert area.value == pytest.approx(np.mean(both))
    assert area.low <= area.value <= area.high
    assert [difference.metric for difference in found.differences] == list(NLL)
    assert "risk" not in found.sentence
    with pytest.raises(InputError, match="no metric named sharpness"):
        compare_runs(runs, "ce", NLL, measured=("sharpness",))


def test_what_lies_above_noise_is_tested_over_folds_as_it_is_measured():
    folds = [cohort(60, seed=fold) for fold in range(3)]
    runs = [make_run(loss, 0, folds[f], f) for loss in ("ce", "gce") for f in range(3)]
    above = ABOVE_NOISE["classwise_ece_above_noise"]
    each = {(r.loss, r.fold): above(r.probabilities, r.labels) for r in runs}
    gaps = [each["gce", f] - each["ce", f] for f in range(3)]
    difference = compare_runs(runs, "ce", (above.name,), draws=50).results[1].differences[0]
    assert difference.p_value == pytest.approx(corrected_resampled_t_test(gaps, 0.25))
    assert difference.metric == above.name


def test_prior_corrected_balanced_accuracy_is_that_of_all_folds_together():
    runs = [make_run("ce", 0, cohort(60, seed=f), f) for f in range(2)]
    corrected = [replace(r, at_equal_shares=prior_corrected(r.probabilities, [0.6, 0.3, 0.1])) for r in runs]
    found = compare_runs(corrected, "ce", NLL, draws=50).results[0].metrics
    p, y = np.concatenate([r.probabilities for r in runs]), np.concatenate([r.labels for r in runs])
    expected = prior_corrected_balanced_accuracy(p, y, [0.6, 0.3, 0.1])
    assert found["prior_corrected_balanced_accuracy"].value == pytest.approx(expected)
    assert (
        "prior_corrected_balanced_accuracy" not in compare_runs(runs, "ce", NLL, draws=50).results[0].metrics
    )
