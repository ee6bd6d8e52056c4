"""The summary of a comparison: losses that differ from the baseline in nothing share a sentence."""

from __future__ import annotations

from pipeline.evaluation.comparison.loss_results import Comparison, Difference, LossResult
from pipeline.evaluation.inference.intervals import Interval
from pipeline.reporting.comparison.comparison_summary import summary_of

GROUND = "3 seeds x 5 folds, Holm over 4 losses"


def loss(name, verdicts=(), power=0.0, ground=GROUND):
    metrics = ("negative_log_likelihood", "balanced_accuracy")
    differences = tuple(
        Difference(metric, Interval(0.0, -0.1, 0.1), 1.0, 1.0, verdict, power)
        for metric, verdict in zip(metrics, verdicts, strict=False)
    )
    return LossResult(name, 3, 5, {}, (), differences, f"{name}: own sentence.", ground=ground)


def summary(*losses):
    return summary_of(Comparison("CE", (loss("CE", ground=""), *losses), 0.95, 100, 100, ()))


NOTHING = ("not significant", "not significant")


def test_losses_that_differ_in_nothing_share_one_sentence_after_those_that_do():
    found = summary(
        loss("focal", NOTHING, 0.04),
        loss("GCE", ("better", "not significant"), 0.02),
        loss("MbLS", NOTHING, 0.016),
        loss("Brier", NOTHING, 0.0312),
    )
    assert found == (
        "CE: own sentence.",
        "GCE: own sentence.",
        "No significant difference from CE in NLL (80 % power for 0.016 to 0.04, by loss) or "
        "balanced accuracy (80 % power for 0.016 to 0.04, by loss): focal, MbLS and Brier "
        f"({GROUND}).",
    )


def test_one_loss_alone_keeps_its_sentence():
    assert summary(loss("focal", NOTHING, 0.04)) == ("CE: own sentence.", "focal: own sentence.")


def test_losses_with_other_runs_or_other_metrics_share_nothing():
    fewer = loss("Brier", NOTHING, 0.04, ground="1 seed x 5 folds, Holm over 4 losses")
    one_metric = loss("MbLS", NOTHING[:1], 0.04)
    found = summary(loss("focal", NOTHING, 0.04), fewer, one_metric)
    assert found == tuple(f"{name}: own sentence." for name in ("CE", "focal", "Brier", "MbLS"))


def test_a_power_that_is_not_known_is_not_stated_and_equal_ones_are_one_number():
    unknown = summary(loss("focal", NOTHING), loss("MbLS", NOTHING))[1]
    nothing = f"No significant difference from CE in NLL or balanced accuracy: focal and MbLS ({GROUND})."
    assert unknown == nothing
    same = summary(loss("focal", NOTHING, 0.04), loss("MbLS", NOTHING, 0.04))[1]
    assert " in NLL (80 % power for 0.04) or balanced accuracy (80 % power for 0.04): focal" in same
