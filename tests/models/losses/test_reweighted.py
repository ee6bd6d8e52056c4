"""Class weights: their scale, and that a scan counts alike in every batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.losses import build_loss

COUNTS = [100, 20, 5, 1]


def test_weights_divide_by_the_number_of_scans(batch):
    logits, target = batch()
    weight = torch.tensor([0.4, 2.0, 1.0, 0.6], dtype=torch.float64)
    expected = functional.cross_entropy(logits, target, weight=weight, reduction="sum") / len(target)
    counts = (1 / weight).tolist()  # inverse frequency of these counts is that weight
    torch.testing.assert_close(build_loss("weighted_ce", 4, counts)(logits, target), expected)


def test_weighted_scans_count_alike_in_every_batch(batch):
    loss = build_loss("weighted_ce", 4, COUNTS)
    logits, target = batch(8)
    halves = (loss(logits[:4], target[:4]) + loss(logits[4:], target[4:])) / 2
    torch.testing.assert_close(loss(logits, target), halves)


def test_class_balanced_weights_sum_to_the_number_of_classes():
    weights = build_loss("class_balanced", 4, COUNTS).weights
    assert weights.sum().item() == pytest.approx(4)
    assert weights.argmax() == 3


@pytest.mark.parametrize("counts", [[3, 5], (3, 5), np.array([3, 5]), torch.tensor([3, 5])])
def test_counts_come_in_any_sequence(counts):
    assert build_loss("weighted_ce", 2, counts).weights.tolist() == pytest.approx([1.25, 0.75])
