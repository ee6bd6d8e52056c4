"""Every loss against its formula written out scan by scan, in plain Python on probabilities."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch.nn import functional

from models.losses import LOSSES, build_loss


def mean(terms) -> float:
    terms = list(terms)
    return sum(terms) / len(terms)


def cross_entropy(z, y) -> float:
    return mean(-log_softmax(row)[k] for row, k in zip(z, y, strict=True))


def ce(z, y, n):
    return cross_entropy(z, y)


def weighted_ce(z, y, n):
    inverse = 1 / n
    weight = inverse / inverse.mean()
    return mean(-weight[k] * log(softmax(row)[k]) for row, k in zip(z, y, strict=True))


def class_balanced(z, y, n, beta=0.9999):
    weight = (1 - beta) / (1 - beta**n)
    weight = weight * len(n) / weight.sum()
    return mean(-weight[k] * log(softmax(row)[k]) for row, k in zip(z, y, strict=True))


def balanced_softmax(z, y, n):
    # the softmax of the paper: n_y exp(z_y) / sum_k n_k exp(z_k)
    return mean(-log(n[k] * exp(row[k]) / (n * np.exp(row)).sum()) for row, k in zip(z, y, strict=True))


def logit_adjusted(z, y, n, tau=1.0):
    return cross_entropy(z + tau * np.log(n / n.sum()), y)


def ldam(z, y, n, max_m=0.5, s=30.0):
    margin = n**-0.25 * max_m / max(n**-0.25)
    shifted = z.copy()
    for i, k in enumerate(y):
        shifted[i, k] -= margin[k]
    return cross_entropy(s * shifted, y)


def vs(z, y, n, gamma=0.3, tau=1.0):
    return cross_entropy(z / (max(n) / n) ** gamma + tau * np.log(n / n.sum()), y)


def label_smoothing(z, y, n, alpha=0.05):
    smooth = mean(np.log(softmax(row)).mean() for row in z)
    return (1 - alpha) * cross_entropy(z, y) - alpha * smooth


def entropy_penalty(z, y, n, alpha=0.1):
    entropy = mean(-sum(p * log(p) for p in softmax(row)) for row in z)
    return cross_entropy(z, y) - alpha * entropy


def mbls(z, y, n, margin=10.0, alpha=0.1):
    return cross_entropy(z, y) + alpha * mean(max(0, max(row) - x - margin) for row in z for x in row)


def gamma_ce(z, y, n, gamma=0.1, threshold=0.0):
    total = []
    for row, k in zip(z, y, strict=True):
        p = softmax(row)[k]
        if threshold > 0:
            total.append(min(1, max(threshold, p / (gamma + (1 - gamma) * p))) * -log(p))
        elif gamma == 1:
            total.append(1 - p)
        else:
            total.append(-log(gamma + (1 - gamma) * p) / (1 - gamma))
    return mean(total)


def focal(z, y, n, gamma=3.0):
    p_y = [softmax(row)[k] for row, k in zip(z, y, strict=True)]
    return mean((1 - p) ** gamma * -log(p) for p in p_y)


def flsd53(z, y, n, gamma=3.0, gamma_hard=5.0, threshold=0.2):
    p_y = [softmax(row)[k] for row, k in zip(z, y, strict=True)]
    return mean((1 - p) ** (gamma_hard if p < threshold else gamma) * -log(p) for p in p_y)


def adafocal(z, y, n):
    return focal(z, y, n, gamma=1.0)  # before the first epoch has ended


def dual_focal(z, y, n, gamma=5.0):
    total = []
    for row, k in zip(z, y, strict=True):
        p = softmax(row)
        runner_up = max((q for q in p if q < p[k]), default=0.0)
        total.append((1 - p[k] + runner_up) ** gamma * -log(p[k]))
    return mean(total)


def poly1(z, y, n, epsilon=1.0):
    return cross_entropy(z, y) + epsilon * mean(1 - softmax(row)[k] for row, k in zip(z, y, strict=True))


def mmce(z, y, n, lam=2.0, width=0.4):
    r = [max(softmax(row)) for row in z]
    c = [float(np.argmax(row) == k) for row, k in zip(z, y, strict=True)]
    pairs = [
        (ci - ri) * (cj - rj) * exp(-abs(ri - rj) / width)
        for ci, ri in zip(c, r, strict=True)
        for cj, rj in zip(c, r, strict=True)
    ]
    return cross_entropy(z, y) + lam * sum(pairs) / len(z) ** 2


def mdca(z, y, n, beta=1.0):
    p = [softmax(row) for row in z]
    gaps = [abs(mean(row[k] for row in p) - mean(float(t == k) for t in y)) for k in range(len(n))]
    return cross_entropy(z, y) + beta * mean(gaps)


def acls(z, y, n, alpha=0.1, lam1=1.0, lam2=0.1, margin=10.0):
    top, others = 0.0, 0.0
    for row in z:
        for x in row:
            if x == max(row):
                top += max(0, x - margin) ** 2
            else:
                others += max(0, max(row) - x - margin) ** 2
    rows, classes = z.shape
    return cross_entropy(z, y) + alpha * (lam1 * top / rows + lam2 * others / (rows * (classes - 1)))


def symmetric_ce(z, y, n, alpha=0.1, beta=1.0):
    reverse = []
    for row, k in zip(z, y, strict=True):
        label = [1.0 if j == k else 1e-4 for j in range(len(row))]
        reverse.append(-sum(p * log(q) for p, q in zip(softmax(row), label, strict=True)))
    return alpha * cross_entropy(z, y) + beta * mean(reverse)


def brier(z, y, n):
    return mean(
        sum((p - (j == k)) ** 2 for j, p in enumerate(softmax(row))) for row, k in zip(z, y, strict=True)
    )


def gce(z, y, n, weight=1.0, include_self=True):
    p = [softmax(row) for row in z]
    total = []
    for i, k in enumerate(y):
        heard = [p[j][k] for j in range(len(p)) if include_self or j != i or len(p) == 1]
        total.append(-log(p[i][k]) + weight * log(mean(heard)))
    return mean(total)


def gce_logit_adjusted(z, y, n, tau=1.0, **options):
    return gce(z + tau * np.log(n / n.sum()), y, n, **options)


NAMED = {name: globals()[name] for name in LOSSES}
CASES = [(name, {}) for name in LOSSES] + [
    ("class_balanced", {"beta": 0.9}),
    ("logit_adjusted", {"tau": 0.5}),
    ("ldam", {"max_m": 0.8, "s": 2}),
    ("vs", {"gamma": 0.15, "tau": 2}),
    ("label_smoothing", {"alpha": 0.3}),
    ("entropy_penalty", {"alpha": 0.7}),
    ("mbls", {"margin": 1, "alpha": 0.4}),
    ("mbls", {"margin": 0}),
    ("gamma_ce", {"gamma": 0.7}),
    ("gamma_ce", {"gamma": 1}),
    ("gamma_ce", {"gamma": 0.1, "threshold": 0.6}),
    ("gamma_ce", {"gamma": 0, "threshold": 0.2}),
    ("gamma_ce", {"gamma": 1, "threshold": 0.2}),
    ("focal", {"gamma": 0.5}),
    ("flsd53", {"gamma": 0.3, "gamma_hard": 1.7, "threshold": 0.4}),
    ("dual_focal", {"gamma": 0.5}),
    ("poly1", {"epsilon": -0.5}),
    ("mmce", {"lam": 5, "width": 0.1}),
    ("mdca", {"beta": 3}),
    ("acls", {"margin": 0.5, "alpha": 0.2, "lam1": 0.3, "lam2": 2}),
    ("symmetric_ce", {"alpha": 1, "beta": 0.1}),
    ("gce", {"weight": 0.5}),
    ("gce", {"include_self": False}),
    ("gce", {"weight": 0.3, "include_self": False}),
    ("gce_logit_adjusted", {"tau": 0.5, "weight": 0.5}),
]
COUNTS = {2: [30, 5], 3: [100, 7, 40], 4: [100, 20, 5, 1]}


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize(("scans", "classes"), [(12, 4), (7, 2), (1, 3), (2, 4)])
@pytest.mark.filterwarnings("ignore:Generative cross-entropy compares")
def test_equals_the_formula_scan_by_scan(batch, name, options, scans, classes):
    logits, target = batch(scans, classes, seed=scans)
    counts = COUNTS[classes]
    expected = NAMED[name](logits.numpy(), target.tolist(), np.array(counts, float), **options)
    got = build_loss(name, classes, counts, **options)(logits, target)
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(expected, abs=1e-11, rel=1e-11)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("rows", [[[1, 1, 1, 1]] * 3, [[2, 2, 0, -1], [0, 2, 2, -1], [12, -12, 12, -12]]])
def test_ties_follow_the_formula(name, options, rows):
    logits = torch.tensor(rows, dtype=torch.float64)
    target = torch.tensor([0, 1, 3])
    counts = COUNTS[4]
    expected = NAMED[name](logits.numpy(), target.tolist(), np.array(counts, float), **options)
    got = build_loss(name, 4, counts, **options)(logits, target)
    assert got.item() == pytest.approx(expected, abs=1e-11, rel=1e-11)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_one_class_follows_the_formula(batch, name):
    logits, _ = batch(6, 3)
    target = torch.full((6,), 2)
    counts = np.array(COUNTS[3], float)
    expected = NAMED[name](logits.numpy(), target.tolist(), counts)
    assert build_loss(name, 3, COUNTS[3])(logits, target).item() == pytest.approx(expected, abs=1e-11)


def test_label_smoothing_is_that_of_torch(batch):
    logits, target = batch()
    expected = functional.cross_entropy(logits, target, label_smoothing=0.2)
    torch.testing.assert_close(build_loss("label_smoothing", 4, alpha=0.2)(logits, target), expected)


def test_weights_divide_by_the_number_of_scans(batch):
    logits, target = batch()
    weight = torch.tensor([0.4, 2.0, 1.0, 0.6], dtype=torch.float64)
    expected = functional.cross_entropy(logits, target, weight=weight, reduction="sum") / len(target)
    counts = (1 / weight).tolist()  # inverse frequency of these counts is that weight
    torch.testing.assert_close(build_loss("weighted_ce", 4, counts)(logits, target), expected)


def test_weighted_scans_count_alike_in_every_batch(batch):
    loss = build_loss("weighted_ce", 4, COUNTS[4])
    logits, target = batch(8)
    halves = (loss(logits[:4], target[:4]) + loss(logits[4:], target[4:])) / 2
    torch.testing.assert_close(loss(logits, target), halves)


def test_class_balanced_weights_sum_to_the_number_of_classes():
    weights = build_loss("class_balanced", 4, COUNTS[4]).weights
    assert weights.sum().item() == pytest.approx(4)
    assert weights.argmax() == 3


def test_the_rarest_class_has_the_widest_margin():
    margins = build_loss("ldam", 4, [256, 16, 81, 1]).margins
    np.testing.assert_allclose(margins, [0.125, 0.25, 0.5 / 3, 0.5])


def test_dual_focal_leaves_out_classes_that_beat_the_true_one():
    logits = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    loss = build_loss("dual_focal", 3)
    assert loss(logits, torch.tensor([0])).item() == pytest.approx((1 - 0.5 + 0.3) ** 5 * -log(0.5))
    assert loss(logits, torch.tensor([1])).item() == pytest.approx((1 - 0.3 + 0.2) ** 5 * -log(0.3))
    assert loss(logits, torch.tensor([2])).item() == pytest.approx((1 - 0.2) ** 5 * -log(0.2))


def test_margin_smoothing_is_cross_entropy_inside_the_margin(batch):
    logits, target = batch(spread=1.0)
    assert (logits.max(1).values - logits.min(1).values).max() < 10
    torch.testing.assert_close(
        build_loss("mbls", 4)(logits, target), functional.cross_entropy(logits, target)
    )


def test_without_margin_smoothing_pushes_the_confident_to_the_uniform():
    logits = torch.tensor([[3.0, 1.0, 0.0]], requires_grad=True)
    target = torch.tensor([0])
    (build_loss("mbls", 3, margin=0)(logits, target) - functional.cross_entropy(logits, target)).backward()
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1:].max()
