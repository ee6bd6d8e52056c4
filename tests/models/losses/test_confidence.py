"""Penalties on the batch's miscalibration."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.losses import build_loss


def test_mdca_counts_a_class_missing_in_the_batch_with_frequency_nought():
    logits = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    target = torch.tensor([0])
    gap = build_loss("mdca", 3)(logits, target) - functional.cross_entropy(logits, target)
    assert gap.item() == pytest.approx((0.5 + 0.3 + 0.2) / 3)


def test_mmce_penalises_nothing_where_confidence_equals_accuracy():
    logits = torch.tensor([[0.75, 0.25]] * 4, dtype=torch.float64).log()
    target = torch.tensor([0, 0, 0, 1])
    torch.testing.assert_close(
        build_loss("mmce", 2)(logits, target), functional.cross_entropy(logits, target)
    )


@pytest.mark.parametrize("name", ["mmce", "mdca"])
def test_the_penalty_of_the_batch_is_part_of_every_scan(batch, name):
    logits, target = batch()
    each = build_loss(name, 4, reduction="none")(logits, target)
    penalty = each - functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(penalty, penalty[:1].expand(len(target)))
