"""Every loss against its formula written out scan by scan, in plain Python on probabilities."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

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


def gce(z, y, n, weight=1.0):
    p = [softmax(row) for row in z]
    total = []
    for i, k in enumerate(y):
        total.append(-log(p[i][k]) + weight * log(mean([row[k] for row in p])))
    return mean(total)


def gce_logit_adjusted(z, y, n, tau=1.0, **options):
    return gce(z + tau * np.log(n / n.sum()), y, n, **options)


assert not (missing := [name for name in LOSSES if name not in globals()]), (
    f"write the formula of {missing} here"
)
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
