"""Metrics against scikit-learn, against their authors' numbers, against naive loops, and as theorems."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import InputError
from pipeline.evaluation import metrics
from pipeline.evaluation.metrics import METRICS


def simulated(n=300, k=3, sharpness=1.7, seed=0):
    """Labels drawn from a posterior, and probabilities sharper than it."""
    rng = np.random.default_rng(seed)
    posterior = np.exp(rng.normal(scale=1.5, size=(n, k)))
    posterior /= posterior.sum(axis=1, keepdims=True)
    labels = (rng.random(n)[:, None] > posterior.cumsum(axis=1)[:, :-1]).sum(axis=1)
    sharp = posterior**sharpness
    return sharp / sharp.sum(axis=1, keepdims=True), labels, posterior


def fixed(n, k):
    """Probabilities and labels without a generator, for numbers computed elsewhere."""
    logits = np.array([[3 * np.sin(1.7 * i + 2.3 * j) for j in range(k)] for i in range(n)])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([(i * i + i // 3) % k for i in range(n)])
    labels[::2] = p[::2].argmax(axis=1)
    return p, labels


def two_class(confidence):
    """Rows whose predicted class is 0, with the given probability."""
    confidence = np.asarray(confidence, dtype=float)
    return np.stack([confidence, 1 - confidence], axis=1)


def judged(max_scans=40, classes=3):
    """Hypothesis: probabilities with ties and extremes, and labels."""
    counts = hnp.arrays(
        np.int64, st.tuples(st.integers(1, max_scans), st.just(classes)), elements=st.integers(0, 8)
    )
    return counts.flatmap(
        lambda c: st.tuples(
            st.just(
                (c + (c.sum(axis=1, keepdims=True) == 0))
                / (c + (c.sum(axis=1, keepdims=True) == 0)).sum(axis=1, keepdims=True)
            ),
            hnp.arrays(np.int64, len(c), elements=st.integers(0, classes - 1)),
        )
    )


# Independent values


@pytest.mark.parametrize("k", [2, 3, 5])
def test_scores_equal_scikit_learns(k):
    p, y, _ = simulated(k=k)
    assert metrics.negative_log_likelihood(p, y) == pytest.approx(sk.log_loss(y, p), rel=1e-12)
    assert metrics.brier_score(p, y) == pytest.approx(
        sk.brier_score_loss(y, p, labels=range(k), scale_by_half=False), rel=1e-12
    )
    assert metrics.accuracy(p, y) == sk.accuracy_score(y, p.argmax(axis=1))
    assert metrics.balanced_accuracy(p, y) == pytest.approx(sk.balanced_accuracy_score(y, p.argmax(axis=1)))
    assert metrics.macro_f1(p, y) == pytest.approx(sk.f1_score(y, p.argmax(axis=1), average="macro"))
    one_vs_rest = np.mean([sk.roc_auc_score(y == j, p[:, j]) for j in range(k)])
    assert metrics.macro_auroc(p, y) == pytest.approx(one_vs_rest, rel=1e-12)
    assert metrics.per_class_recall(p, y) == pytest.approx(
        sk.recall_score(y, p.argmax(axis=1), average=None, labels=range(k))
    )


@pytest.mark.parametrize(
    ("n", "k", "smooth", "ks", "top_label", "canonical", "marginal"),
    [
        (40, 2, 0.1898825298273, 0.1846930408868, 0.2105047283461, 0.4529880144257, 0.1231599645905),
        (60, 3, 0.1903522122373, 0.1738073320991, 0.2097842784047, 0.5406673399340, 0.0965503809839),
        (200, 5, 0.0829667378176, 0.0590328739519, 0.0992564713035, 0.4776320724701, 0.0617632697472),
    ],
)  # fmt: skip
def test_calibration_errors_equal_their_authors_numbers(n, k, smooth, ks, top_label, canonical, marginal):
    """Computed by relplot's smECE, spline-calibration's KS, and ece-kde at bandwidth .05 with p = 1, 1, 2."""
    p, y = fixed(n, k)
    assert metrics.smooth_ece(p, y) == pytest.approx(smooth, abs=1e-12)
    assert metrics.ks_calibration_error(p, y) == pytest.approx(ks, abs=1e-12)
    assert metrics.ece_kde(p, y, bandwidth=0.05) == pytest.approx(top_label, abs=1e-12)
    assert metrics.ece_kde(p, y, bandwidth=0.05, kind="canonical") == pytest.approx(canonical, abs=1e-12)
    assert metrics.ece_kde(p, y, bandwidth=0.05, kind="marginal", power=2) == pytest.approx(
        marginal, abs=1e-12
    )


def naive_gaps(stated, came_true, bins):
    """The textbook loop over bins (lo, hi], with 0 in the first."""
    for b in range(bins):
        low, high = np.linspace(0, 1, bins + 1)[b : b + 2]
        inside = (stated > low) & (stated <= high) | ((b == 0) & (stated == 0))
        if inside.any():
            yield inside.mean(), stated[inside].mean(), came_true[inside].mean()


@settings(deadline=None)
@given(judged())
def test_binned_errors_equal_naive_loops(case):
    p, y = case
    confidence, correct = p.max(axis=1), (p.argmax(axis=1) == y) * 1.0
    gaps = list(naive_gaps(confidence, correct, 15))
    assert metrics.expected_calibration_error(p, y) == pytest.approx(sum(w * abs(c - a) for w, c, a in gaps))
    assert metrics.maximum_calibration_error(p, y) == pytest.approx(max(abs(c - a) for _, c, a in gaps))
    assert metrics.overconfidence_error(p, y) == pytest.approx(sum(w * c * max(c - a, 0) for w, c, a in gaps))
    by_class = [sum(w * abs(c - a) for w, c, a in naive_gaps(p[:, k], (y == k) * 1.0, 15)) for k in range(3)]
    assert metrics.classwise_ece(p, y) == pytest.approx(np.mean(by_class))


@pytest.mark.parametrize("n", [300, 308])
def test_equal_mass_bins_hold_equal_counts(n):
    p, y, _ = simulated(n=n, k=2)
    confidence, correct = p.max(axis=1), (p.argmax(axis=1) == y) * 1.0
    runs = np.array_split(np.argsort(confidence), 15)
    expected = sum(len(r) / n * abs(confidence[r].mean() - correct[r].mean()) for r in runs)
    assert metrics.expected_calibration_error(p, y, scheme="mass") == pytest.approx(expected)
    assert metrics.reliability_curve(p, y, scheme="mass").counts.tolist() == [len(r) for r in runs]


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float64, st.integers(1, 60), elements=st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 0.9, 1.0])
    ),
    st.integers(1, 30),
)
def test_equal_mass_keeps_ties_together_and_loses_nothing(values, bins):
    edges = metrics.bin_edges(values, bins, "mass")
    index = metrics.bin_index(values, edges)
    assert np.all(np.diff(edges) >= 0)
    assert edges[0] == 0
    assert edges[-1] == 1
    assert index.min() >= 0
    assert index.max() < bins
    assert all(len(set(index[values == v])) == 1 for v in values)
    assert np.all(np.diff(index[np.argsort(values, kind="stable")]) >= 0)


@pytest.mark.parametrize("bins", [10, 15, 20])
def test_edges_belong_to_the_bin_below(bins):
    edges = metrics.bin_edges(np.empty(0), bins, "width")
    index = metrics.bin_index(edges, edges)
    assert index.tolist() == [0, *range(bins)]  # 0 in the first, 1 in the last


@settings(deadline=None)
@given(judged(max_scans=8))
def test_classes_that_are_only_true_or_only_predicted_count_in_f1(case):
    p, y = case
    expected = sk.f1_score(y, p.argmax(axis=1), average="macro", zero_division=0)
    assert metrics.macro_f1(p, y) == pytest.approx(expected)


@settings(deadline=None)
@given(judged())
def test_macro_auroc_counts_pairs(case):
    p, y = case
    areas = []
    for k in range(3):
        inside, outside = p[y == k, k], p[y != k, k]
        if len(inside) and len(outside):
            areas.append(np.mean([(a > b) + (a == b) / 2 for a, b in itertools.product(inside, outside)]))
    if areas:
        assert metrics.macro_auroc(p, y) == pytest.approx(np.mean(areas))
    else:
        assert np.isnan(metrics.macro_auroc(p, y))


def test_risk_coverage_area_is_the_mean_over_random_orders_of_ties(rng):
    confidence = np.array([0.9, 0.9, 0.9, 0.8, 0.7, 0.7, 0.6])
    y = np.array([0, 1, 0, 0, 1, 0, 1])
    areas = []
    for _ in range(4000):
        order = np.lexsort((rng.random(7), -confidence))
        areas.append((y[order].cumsum() / np.arange(1, 8)).mean())
    curve = metrics.risk_coverage(two_class(confidence), y)
    assert curve.area == pytest.approx(np.mean(areas), abs=3e-3)
    assert curve.threshold.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert curve.coverage * 7 == pytest.approx([3, 4, 6, 7])
    assert curve.risk == pytest.approx([1 / 3, 1 / 4, 2 / 6, 3 / 7])


def test_ood_auroc_equals_scikit_learns(rng):
    inside, outside = rng.integers(0, 20, 80), rng.integers(5, 25, 50)
    truth = np.repeat([0, 1], [80, 50])
    expected = sk.roc_auc_score(truth, np.concatenate([inside, outside]))
    assert metrics.ood_auroc(inside, outside) == pytest.approx(expected, rel=1e-12)


# Theorems


@settings(deadline=None)
@given(judged())
def test_parts_add_up_to_the_brier_score(case):
    p, y = case
    parts = metrics.brier_decomposition(p, y)
    assert parts.score == pytest.approx(metrics.brier_score(p, y))
    # With a bin for each value nothing is hidden within bins.
    fine = metrics.brier_decomposition(p, y, bins=1_000)
    assert fine.within_bin == pytest.approx(0, abs=1e-9)
    assert fine.reliability - fine.resolution + fine.uncertainty == pytest.approx(metrics.brier_score(p, y))


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
        if name not in ("negative_log_likelihood", "brier_score", "macro_auroc"):
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
        ideal = 1.0 if metric.better == "higher" else 0.0
        assert metric(np.eye(3)[y], y) == pytest.approx(ideal, abs=1e-3), name


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


def test_kernel_density_error_finds_the_true_error():
    p, y, posterior = simulated(n=1000, sharpness=2.0)
    true = np.abs(p.max(axis=1) - np.take_along_axis(posterior, p.argmax(axis=1)[:, None], 1)[:, 0]).mean()
    assert metrics.ece_kde(p, y) == pytest.approx(true, abs=0.03)
    assert metrics.ece_kde(posterior, y) < 0.05


def test_classwise_error_counts_absent_classes():
    p = np.array([[0.6, 0.1, 0.3]] * 10)
    y = np.array([0] * 6 + [1] * 4)
    assert metrics.classwise_ece(p, y) == pytest.approx((0 + 0.3 + 0.3) / 3)


def test_oracle_has_no_excess():
    p, y, posterior = simulated(n=2000)
    assert metrics.excess_nll(posterior, y, posterior) == 0
    assert metrics.excess_nll(p, y, posterior) > 0
    assert metrics.posterior_error(posterior, posterior) == 0
    assert metrics.posterior_error(p, posterior) == pytest.approx(np.abs(p - posterior).mean())


# Edge cases


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


@pytest.mark.parametrize("confidence", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_all_confidences_equal(confidence, scheme):
    p, y = two_class([confidence] * 8), np.array([0, 0, 0, 0, 0, 1, 1, 1])
    gap = abs(confidence - 5 / 8)
    assert metrics.expected_calibration_error(p, y, scheme=scheme) == pytest.approx(gap)
    assert metrics.maximum_calibration_error(p, y, scheme=scheme) == pytest.approx(gap)
    assert metrics.ks_calibration_error(p, y) == pytest.approx(gap)
    assert metrics.risk_coverage_area(p, y) == pytest.approx(3 / 8)
    assert metrics.macro_auroc(p, y) == 0.5


@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_fewer_scans_than_bins(scheme):
    p, y = two_class([0.62, 0.81, 0.97]), np.array([0, 1, 0])
    expected = (0.38 + 0.81 + 0.03) / 3
    assert metrics.expected_calibration_error(p, y, bins=50, scheme=scheme) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.9985, 0.0014999997085969), (0.9972, 0.0027999994667863), (0.9935, 0.0064999987619864)],
)
def test_smooth_error_of_tiny_errors_stays_on_the_authors_grids(confidence, expected):
    """Widths 2, 3 and 7 / 1024 on grids of 5,121, 3,414 and 1,464; even ones have no middle."""
    p = two_class(np.full(500, confidence))
    assert metrics.smooth_ece(p, np.zeros(500, dtype=int)) == pytest.approx(expected, abs=1e-15)


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


def test_choices_outside_the_offer_are_refused():
    p, y, _ = simulated(n=5)
    with pytest.raises(InputError, match="number of bins is 0, expected at least 1"):
        metrics.expected_calibration_error(p, y, bins=0)
    with pytest.raises(InputError, match="no binning scheme 'equal'"):
        metrics.expected_calibration_error(p, y, scheme="equal")
    with pytest.raises(InputError, match="bandwidth is 0, expected a positive number"):
        metrics.ece_kde(p, y, bandwidth=0)
    with pytest.raises(InputError, match="no kind 'joint'"):
        metrics.ece_kde(p, y, kind="joint")
    with pytest.raises(InputError, match="each side, found 0 inside and 1 outside"):
        metrics.ood_auroc([], [1.0])
    with pytest.raises(InputError, match="but the posterior has shape"):
        metrics.posterior_error(p, p[:, :2])
    with pytest.raises(InputError, match="class index is 3, expected 0 to 2"):
        metrics.reliability_curve(p, y, class_index=3)


# Reliability diagrams: the numbers drawn


def test_reliability_curves_carry_the_calibration_error():
    p, y, _ = simulated()
    top, *classes = metrics.reliability_curves(p, y, ("CN", "MCI", "AD"))
    assert [c.name for c in (top, *classes)] == ["top label", "CN", "MCI", "AD"]
    for curve in (top, *classes):
        held = curve.counts > 0
        assert curve.counts.sum() == len(y)
        assert len(curve.edges) == len(curve.counts) + 1
        assert np.isnan(curve.accuracy[~held]).all()
        assert np.all((curve.low <= np.nan_to_num(curve.accuracy, nan=0.5)) & (curve.low >= 0))
        assert np.all((curve.high >= np.nan_to_num(curve.accuracy, nan=0.5)) & (curve.high <= 1))
    errors = [np.nansum(c.counts * np.abs(c.gap)) / len(y) for c in (top, *classes)]
    assert errors[0] == pytest.approx(metrics.expected_calibration_error(p, y))
    assert np.mean(errors[1:]) == pytest.approx(metrics.classwise_ece(p, y))
