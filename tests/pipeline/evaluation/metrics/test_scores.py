"""Proper scores and discrimination against scikit-learn, against naive loops, and as theorems."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from judged_scans import judged, simulated

from pipeline.errors import InputError
from pipeline.evaluation import metrics


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


def test_ood_auroc_equals_scikit_learns(rng):
    inside, outside = rng.integers(0, 20, 80), rng.integers(5, 25, 50)
    truth = np.repeat([0, 1], [80, 50])
    expected = sk.roc_auc_score(truth, np.concatenate([inside, outside]))
    assert metrics.ood_auroc(inside, outside) == pytest.approx(expected, rel=1e-12)


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


def test_oracle_has_no_excess():
    p, y, posterior = simulated(n=2000)
    assert metrics.excess_nll(posterior, y, posterior) == 0
    assert metrics.excess_nll(p, y, posterior) > 0
    assert metrics.posterior_error(posterior, posterior) == 0
    assert metrics.posterior_error(p, posterior) == pytest.approx(np.abs(p - posterior).mean())


def test_scores_that_cannot_be_compared_are_refused():
    p, _, _ = simulated(n=5)
    with pytest.raises(InputError, match="each side, found 0 inside and 1 outside"):
        metrics.ood_auroc([], [1.0])
    with pytest.raises(InputError, match="but the posterior has shape"):
        metrics.posterior_error(p, p[:, :2])


def test_prior_corrected_balanced_accuracy_gives_each_scan_the_class_of_largest_likelihood():
    """By hand: argmax of p_k / pi_k, then the mean recall, scikit-learn's balanced accuracy."""
    rng = np.random.default_rng(3)
    p, y = rng.dirichlet([5, 2, 1], 200), rng.integers(0, 3, 200)
    shares = np.array([0.6, 0.3, 0.1])
    by_hand = sk.balanced_accuracy_score(y, (p / shares).argmax(axis=1))
    assert metrics.prior_corrected_balanced_accuracy(p, y, prevalence=shares) == pytest.approx(by_hand)
    even = np.full(3, 1 / 3)
    assert metrics.prior_corrected_balanced_accuracy(p, y, even) == metrics.balanced_accuracy(p, y)


def test_prior_corrected_the_true_posterior_beats_one_that_overstates_rare_classes():
    """Plain balanced accuracy prefers the latter, so it is why it decides nothing."""
    rng = np.random.default_rng(0)
    shares = np.array([0.6, 0.3, 0.1])
    y = rng.choice(3, 20_000, p=shares)
    scores = rng.normal(size=(len(y), 3)) + 1.0 * np.eye(3)[y] + np.log(shares)
    true, sure = (
        np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in (scores, scores - 0.8 * np.log(shares))
    )
    assert metrics.balanced_accuracy(sure, y) > metrics.balanced_accuracy(true, y) + 0.03
    corrected = [metrics.prior_corrected_balanced_accuracy(p, y, shares) for p in (true, sure)]
    assert corrected[0] > corrected[1] + 0.03


@pytest.mark.parametrize(
    ("prevalence", "message"),
    [
        (None, "needs the class shares of training. Pass prevalence="),
        ([0.5, 0.5], r"prevalence: The trained prevalence is \[0.5, 0.5\]. Expected 3 shares"),
        ([0.7, 0.3, 0.0], "prevalence: .* Expected a share above 0 for every class"),
    ],
)
def test_prior_corrected_balanced_accuracy_asks_for_the_shares_of_training(prevalence, message):
    with pytest.raises(InputError, match=message):
        metrics.prior_corrected_balanced_accuracy([[0.5, 0.3, 0.2]], [0], prevalence=prevalence)
