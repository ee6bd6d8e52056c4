"""Smoothing losses: margins, the uniform distribution, and torch's own label smoothing."""

from __future__ import annotations

import torch
from torch.nn import functional

from models.losses import build_loss


def test_label_smoothing_is_that_of_torch(batch):
    logits, target = batch()
    expected = functional.cross_entropy(logits, target, label_smoothing=0.2)
    torch.testing.assert_close(build_loss("label_smoothing", 4, alpha=0.2)(logits, target), expected)


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


def test_acls_holds_the_largest_logit_constant_in_its_second_part(batch):
    logits, target = batch(6, 4)
    loss = build_loss("acls", 4, margin=0.5, lam1=0)
    top = logits.argmax(1, keepdim=True)
    others = torch.ones_like(logits).scatter(1, top, 0)
    fixed = logits * (1 - others)
    free = logits.clone().requires_grad_()
    # Moving only the other logits, the gradient is the true one ...
    assert torch.autograd.gradcheck(lambda z: loss(z * others + fixed, target), free)
    # ... and the penalty gives the largest none.
    (loss(free, target) - functional.cross_entropy(free, target)).backward()
    assert free.grad.gather(1, top).abs().max() < 1e-15 < free.grad.abs().max()
