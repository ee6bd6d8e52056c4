"""Margins and logit adjustment."""

from __future__ import annotations

import numpy as np
import torch

from models.losses import build_loss


def test_the_rarest_class_has_the_widest_margin():
    margins = build_loss("ldam", 4, [256, 16, 81, 1]).margins
    np.testing.assert_allclose(margins, [0.125, 0.25, 0.5 / 3, 0.5])


def test_balanced_softmax_is_logit_adjustment_of_strength_one(batch):
    logits, target = batch()
    one, other = (
        build_loss(n, 4, [9, 4, 2, 1])(logits, target) for n in ("balanced_softmax", "logit_adjusted")
    )
    torch.testing.assert_close(one, other)


def test_vector_scaling_without_factor_is_logit_adjustment(batch):
    logits, target = batch()
    vs = build_loss("vs", 4, [9, 4, 2, 1], gamma=0, tau=0.7)
    adjusted = build_loss("logit_adjusted", 4, [9, 4, 2, 1], tau=0.7)
    torch.testing.assert_close(vs(logits, target), adjusted(logits, target))
