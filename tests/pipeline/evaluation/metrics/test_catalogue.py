"""All metrics of the catalogue: theorems, edge cases, refusals, and how they are shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_scans import judged, simulated

from pipeline.errors import InputError
from pipeline.evaluation import metrics
from pipeline.evaluation.inference.intervals import Interval
from pipeline.evaluation.metrics import METRICS, PER_SCAN, TABLE, metric_named


@settings(max_examples=30, deadline=None)
@given(judged(), st.randoms(use_true_random=False))
def test_order_of_scans_makes_no_difference(case, random):
    p, y = case
    order = list(range(len(y)))
    random.shuffle(order)
    for name, metric in METRICS.items():
        assert metric(p[order], y[order]) == pytest.approx(metric(p, y), abs=1e-9, nan_ok=True), name


@settings(max_examples=50, deadline=None)
@given(judged())
def test_errors_are_bounded(case):
    p, y = case
    for name, metric in METRICS.items():
        if name not in ("negative_log_likelihood", "brier_score", "macro_auroc", "calibration_slope"):
            assert -1e-12 <= metric(p, y) <= 1 + 1e-12, name
    ece = metrics.expected_calibration_error(p, y)
    gap = abs((p.max(axis=1) - (p.argmax(axis=1) == y)).mean())
    assert (
        gap - 1e-9
        <= metrics.ks_calibration_error(p, y)
        <= metrics.maximum_calibration_error(p, y, bins=1) + 1
    )
    assert gap - 1e-9 <= ece <= metrics.maximum_calibration_error(p, y) + 1e-9
    assert metrics.overconfidence_error(p, y) <= ece + 1e-9


def test_perfect_predictions_cost_nothing():
    y = np.arange(60) % 3
    for name, metric in METRICS.items():
        ideal = {"higher": 1.0, "lower": 0.0, "nominal": np.nan}[metric.better]  # no slope fits certainty
        assert metric(np.eye(3)[y], y) == pytest.approx(ideal, abs=1e-3, nan_ok=True), name


def test_calibrated_probabilities_read_calibrated_and_sharpened_ones_do_not():
    _, y, posterior = simulated(n=20_000)
    p, _, _ = simulated(n=20_000)
    for metric in (
        metrics.expected_calibration_error,
        metrics.classwise_ece,
        metrics.smooth_ece,
        metrics.ks_calibration_error,
        metrics.overconfidence_error,
    ):
        assert metric(posterior, y) < 0.012
        assert metric(p, y) > 3 * metric(posterior, y)


def test_one_scan():
    p, y = np.array([[0.7, 0.2, 0.1]]), np.array([1])
    expected = dict.fromkeys(METRICS, 0.7) | {
        "negative_log_likelihood": -np.log(0.2),
        "brier_score": 0.49 + 0.64 + 0.01,
        "accuracy": 0,
        "balanced_accuracy": 0,
        "macro_f1": 0,
        "macro_auroc": np.nan,
        "classwise_ece": (0.7 + 0.8 + 0.1) / 3,
        "overconfidence_error": 0.49,
        "risk_coverage_area": 1,
        "calibration_slope": np.nan,
    }
    for name, metric in METRICS.items():
        # The smoothed density has a small floor beneath it, so smooth ECE is not exactly .7.
        assert metric(p, y) == pytest.approx(expected[name], abs=1e-3, nan_ok=True), name


def test_confidence_of_exactly_one_and_zero():
    p, y = np.eye(2)[[0, 0, 1, 1]], np.array([0, 1, 1, 1])
    assert metrics.negative_log_likelihood(p, y) == pytest.approx(36.04365 / 4, abs=1e-5)
    assert metrics.expected_calibration_error(p, y) == pytest.approx(0.25)
    assert metrics.classwise_ece(p, y) == pytest.approx(0.25)
    assert metrics.ks_calibration_error(p, y) == pytest.approx(0.25)
    assert metrics.smooth_ece(p, y) == pytest.approx(0.25, abs=0.01)
    # Leaving one out, each right scan sees 2 of 3 right and the wrong one sees 3 of 3.
    assert metrics.ece_kde(p, y) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (
            [[2.0, -1.0]],
            [0],
            r"Probabilities range from -1 to 2, expected 0 to 1. Pass a calibrator's output",
        ),
        ([[np.nan, 0.5]], [0], r"Probabilities range from nan to nan, expected 0 to 1"),
        ([[0.5, 0.5], [0.5, 0.4]], [0, 0], "row 1: The probabilities sum to 0.9, expected 1"),
        ([0.5, 0.5], [0, 0], r"have shape \(2,\), expected \(scans, classes\)"),
        (np.empty((0, 3)), [], "with at least one scan and two classes"),
        ([[1.0]], [0], "with at least one scan and two classes"),
        ([[0.5, 0.5]], [2], "Labels range from 2 to 2, expected 0 to 1"),
        ([[0.5, 0.5]], [-1], "Labels range from -1 to -1"),
        ([[0.5, 0.5]], [0.0], "of type float64, expected class indices of an integer type"),
        ([[0.5, 0.5]], [0, 1], r"have shape \(2,\), expected \(1,\): one per scan"),
    ],
)
def test_every_metric_refuses_what_it_cannot_judge(probabilities, labels, message):
    for metric in METRICS.values():
        with pytest.raises(InputError, match=message):
            metric(probabilities, np.asarray(labels))


def test_every_metric_has_one_name_and_one_title():
    assert [metric.name for metric in METRICS.values()] == list(METRICS)
    titles = [metric.title for metric in METRICS.values()]
    assert len(set(titles)) == len(titles)
    assert not set(METRICS) & set(PER_SCAN)
    assert set(TABLE) <= {*METRICS, *PER_SCAN}
    assert all(metric.function and metric.weighted for metric in METRICS.values())


def test_calibration_errors_alone_are_shown_in_percent():
    percent = {name for name, metric in METRICS.items() if metric.percent}
    assert percent == {name for name in METRICS if name.endswith(("ece", "ece_kde", "calibration_error"))}
    found = Interval(0.1234, 0.1, 0.15)
    assert METRICS["classwise_ece"].text(found) == "12.3 % [10.0 to 15.0]"
    assert METRICS["negative_log_likelihood"].text(found) == "0.12 [0.10 to 0.15]"


def test_headings_point_to_where_it_is_better():
    assert METRICS["macro_auroc"].heading == "Macro AUROC ↑"
    assert METRICS["negative_log_likelihood"].heading == "NLL ↓"
    assert metric_named("set_coverage").heading == "Coverage of sets"
    assert metric_named("my_own").heading == "My own"


def test_what_needs_more_than_probabilities_and_labels_cannot_be_called():
    p, y, _ = simulated(n=5)
    with pytest.raises(InputError, match="posterior error cannot be computed from probabilities and labels"):
        PER_SCAN["posterior_error"](p, y)


def test_what_rounds_to_nothing_has_no_sign():
    assert METRICS["negative_log_likelihood"].number(-0.004) == "0.00"
    assert METRICS["classwise_ece"].number(-0.0004) == "0.0 %"
    assert METRICS["classwise_ece"].number(-0.0006) == "-0.1 %"
