"""Focal losses; AdaFocal's gammas are compared with a scan-by-scan version of the paper's algorithm."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import softmax

from models.losses import build_loss


def bins_of(confidence, correct, bins):
    """Edges at equal counts by interpolated rank, and the calibration gap of each (low, high]."""
    n = len(confidence)
    edges = np.interp(np.linspace(0, n, bins + 1), np.arange(n), np.sort(confidence)).astype(np.float32)
    gaps = []
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        gaps.append(confidence[inside].mean() - correct[inside].mean() if inside.any() else 0.0)
    return edges, gaps


def moved(gamma, gap, lam=1.0, switch=0.2, low=-2.0, high=20.0):
    gamma = gamma * math.exp(lam * gap) if gamma > 0 else gamma * math.exp(-lam * gap)
    if abs(gamma) < switch:
        gamma = -switch if gamma > 0 else switch
    return max(min(gamma, high), low)


def validation(scans, seed, sharpness=3.0):
    source = np.random.default_rng(seed)
    logits = sharpness * source.normal(size=(scans, 3))
    return logits, source.integers(0, 3, scans)


@pytest.mark.parametrize(("scans", "bins"), [(200, 15), (150, 15), (10, 15), (60, 1), (1, 4)])
def test_follows_the_algorithm_over_epochs(scans, bins):
    loss = build_loss("adafocal", 3, bins=bins)
    expected = [1.0] * bins
    for epoch in range(4):
        logits, labels = validation(scans, epoch)
        probabilities = softmax(logits, axis=1)
        confidence = probabilities.max(1).astype(np.float32)
        edges, gaps = bins_of(confidence, probabilities.argmax(1) == labels, bins)
        expected = [moved(gamma, gap) for gamma, gap in zip(expected, gaps, strict=True)]
        loss.end_epoch(torch.from_numpy(logits), torch.from_numpy(labels))
        np.testing.assert_allclose(loss.gammas, expected, rtol=1e-5)
        np.testing.assert_allclose(loss.edges, edges[1:-1], rtol=1e-6)


def test_each_scan_takes_the_gamma_of_its_bin():
    loss = build_loss("adafocal", 2, bins=3)
    loss.gammas.copy_(torch.tensor([4.0, -1.5, 0.5]))
    loss.edges.copy_(torch.tensor([0.5, 0.9]))
    p = torch.tensor([0.2, 0.7, 0.95], dtype=torch.float64)
    logits = torch.stack([p, 1 - p], dim=1).log()
    expected = np.mean([0.8**4 * -math.log(0.2), 1.7**1.5 * -math.log(0.7), 0.05**0.5 * -math.log(0.95)])
    assert loss(logits, torch.zeros(3, dtype=torch.int64)).item() == pytest.approx(expected)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_overconfidence_always_pushes_gamma_up(sign):
    loss = build_loss("adafocal", 3, bins=1, gamma=sign)
    logits, labels = validation(300, 0, sharpness=8.0)  # labels at random: confidence far above accuracy
    loss.end_epoch(torch.from_numpy(logits), torch.from_numpy(labels))
    assert loss.gammas.item() > sign


def test_underconfidence_turns_focal_into_inverse_focal_and_stops_at_the_clip():
    loss = build_loss("adafocal", 3, bins=1)
    labels = torch.arange(3).repeat(30)
    logits = 0.1 * torch.eye(3)[labels]  # always right, hardly sure
    logits += 1e-3 * torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    walk = []
    for _ in range(20):
        loss.end_epoch(logits, labels)
        walk.append(loss.gammas.item())
    assert walk == sorted(walk, reverse=True)
    assert -0.2 in [pytest.approx(gamma) for gamma in walk]
    assert walk[-1] == -2
    assert not any(abs(gamma) < 0.199 for gamma in walk)


def test_bins_without_scans_keep_their_gamma():
    loss = build_loss("adafocal", 3, bins=4, gamma=2.0)
    loss.end_epoch(torch.tensor([[5.0, 0, 0]] * 6), torch.zeros(6, dtype=torch.int64))  # one confidence
    assert loss.gammas.tolist() == [2.0] * 4


def test_state_survives_saving_for_a_resumed_training():
    first, second = build_loss("adafocal", 3), build_loss("adafocal", 3)
    logits, labels = validation(100, 0)
    first.end_epoch(torch.from_numpy(logits), torch.from_numpy(labels))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.gammas, first.gammas)
    assert torch.equal(second.edges, first.edges)


def test_gamma_carries_no_gradient(batch):
    logits, target = batch(6, 3)
    loss = build_loss("adafocal", 3)
    loss.gammas.copy_(torch.linspace(-2, 20, 15))
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())


def test_dual_focal_leaves_out_classes_that_beat_the_true_one():
    logits = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    loss = build_loss("dual_focal", 3)
    assert loss(logits, torch.tensor([0])).item() == pytest.approx((1 - 0.5 + 0.3) ** 5 * -math.log(0.5))
    assert loss(logits, torch.tensor([1])).item() == pytest.approx((1 - 0.3 + 0.2) ** 5 * -math.log(0.3))
    assert loss(logits, torch.tensor([2])).item() == pytest.approx((1 - 0.2) ** 5 * -math.log(0.2))


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("name", ["focal", "dual_focal", "adafocal"])
def test_small_gammas_keep_a_finite_gradient_at_certainty(name, gamma):
    # (1 - p) ** gamma has an infinite slope at p = 1; in log space the product is 0.
    logits = torch.tensor([[40.0, 0.0, 0.0]])
    logits.requires_grad_()
    value = build_loss(name, 3, gamma=gamma)(logits, torch.tensor([0]))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad.abs().max() < 1e-3
