"""Losses of p_y: the schedule, the gradient form and the precision of gamma cross-entropy."""

from __future__ import annotations

import pytest
import torch

from models.losses import build_loss


def test_linear_schedule_moves_gamma_from_nought_to_its_value():
    loss = build_loss("gamma_ce", 3, gamma=0.6, schedule="linear")
    gammas = [loss.current_gamma]
    for epoch in range(4):
        loss.start_epoch(epoch, 4)
        gammas.append(loss.current_gamma)
    assert gammas == pytest.approx([0, 0, 0.2, 0.4, 0.6])


def test_constant_schedule_stays():
    loss = build_loss("gamma_ce", 3)
    loss.start_epoch(0, 4)
    assert loss.current_gamma == 0.1


def test_the_gradient_form_of_gamma_ce_has_the_closed_forms_gradient(batch):
    logits, target = batch(spread=1.0)
    closed = logits.clone().requires_grad_()
    build_loss("gamma_ce", 4, gamma=0.3)(closed, target).backward()
    weighted = logits.clone().requires_grad_()
    build_loss("gamma_ce", 4, gamma=0.3, threshold=1e-9)(weighted, target).backward()
    torch.testing.assert_close(weighted.grad, closed.grad)


@pytest.mark.parametrize("gamma", [0.0, 1e-6, 0.4999, 0.5, 0.5001, 0.999999, 1.0])
def test_gamma_ce_is_exact_over_the_whole_range_in_float32(gamma):
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    exact = build_loss("gamma_ce", 3, gamma=gamma)(logits.double(), torch.tensor([0])).item()
    assert build_loss("gamma_ce", 3, gamma=gamma)(logits, torch.tensor([0])).item() == pytest.approx(
        exact, rel=1e-5
    )
