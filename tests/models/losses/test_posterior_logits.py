"""Losses that favour rare classes: the logits at their minimum, and the correction of their prior."""

from __future__ import annotations

import pytest
import torch

from models.losses import LOSSES, build_loss

PAIRS = torch.tensor([[64, 2, 1], [16, 10, 3], [8, 2, 8], [32, 8, 2]])  # of each x (row) and y
POSTERIOR = PAIRS.double() / PAIRS.sum(1, keepdim=True)
COUNTS = PAIRS.sum(0)
BALANCED = POSTERIOR / COUNTS / (POSTERIOR / COUNTS).sum(1, keepdim=True)

CORRECTED = [
    "weighted_ce",
    "class_balanced",
    "balanced_softmax",
    "logit_adjusted",
    "vs",
    "gce_logit_adjusted",
]
PROPER = ["ce", "brier", "gce"]  # have the posterior as their minimum


@pytest.mark.parametrize("name", ["weighted_ce", "balanced_softmax", "logit_adjusted", "gce_logit_adjusted"])
def test_the_network_learns_the_posterior_of_equally_frequent_classes(minimise, name):
    _, found = minimise(build_loss(name, 3, COUNTS), PAIRS)
    torch.testing.assert_close(found.softmax(1), BALANCED, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [*CORRECTED, *PROPER])
def test_posterior_logits_are_calibrated_to_the_frequencies_of_training(minimise, name):
    loss = build_loss(name, 3, COUNTS)
    _, found = minimise(loss, PAIRS)
    torch.testing.assert_close(loss.posterior_logits(found).softmax(1), POSTERIOR, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in (*CORRECTED, "ldam")])
def test_others_need_no_correction(batch, name):
    logits, _ = batch()
    assert torch.equal(build_loss(name, 4, [9, 5, 3, 1]).posterior_logits(logits), logits)


def test_ldam_states_the_probabilities_that_it_trained(minimise, batch):
    logits, _ = batch()
    torch.testing.assert_close(build_loss("ldam", 4, [9, 5, 3, 1]).posterior_logits(logits), 30 * logits)
    without_margin = build_loss("ldam", 3, COUNTS, max_m=0, s=3)
    _, found = minimise(without_margin, PAIRS)
    stated = without_margin.posterior_logits(found).softmax(1)
    torch.testing.assert_close(stated, POSTERIOR, rtol=0, atol=1e-4)
