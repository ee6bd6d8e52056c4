"""What class weights and sampling do to logits is corrected, exactly where the loss is at its minimum."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.losses import build_loss
from pipeline.learning.prior_correction import PriorCorrection

COUNTS = (60, 30, 10)
# Scans of three kinds that look alike within a kind: row = kind, column = scans of each class.
KINDS = torch.tensor([[48, 3, 1], [10, 20, 2], [2, 7, 7]])


def _logits_at_the_minimum(name: str, shown: torch.Tensor, **options: object) -> torch.Tensor:
    """Return the logits of each kind that minimise a loss over scans drawn as `shown`."""
    loss = build_loss(name, 3, COUNTS, **options)
    kinds, classes = (
        index.flatten() for index in torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij")
    )
    rows = torch.repeat_interleave(torch.arange(9), shown.flatten())
    logits = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss(logits[kinds[rows]], classes[rows])
        value.backward()
        return value

    optimiser.step(closure)
    return logits.detach()


@pytest.mark.parametrize(
    "name", ["ce", "weighted_ce", "class_balanced", "balanced_softmax", "logit_adjusted", "vs"]
)
@pytest.mark.parametrize("sampling", ["natural", "class_balanced"])
def test_corrected_logits_are_the_posterior_at_the_shares_of_training(name, sampling):
    posterior = KINDS / KINDS.sum(dim=1, keepdim=True)
    # Drawn equally often: every class stands for the same number of scans.
    shown = KINDS if sampling == "natural" else KINDS * torch.tensor([1, 2, 6])
    logits = _logits_at_the_minimum(name, shown)
    prior_correction = PriorCorrection.of(build_loss(name, 3, COUNTS), COUNTS, sampling)
    np.testing.assert_allclose(
        functional.softmax(prior_correction.apply(logits), dim=1), posterior, atol=1e-4
    )
    if name != "ce" or sampling != "natural":
        assert not np.allclose(functional.softmax(logits, dim=1), posterior, atol=0.02)


def test_reversed_logits_are_the_logits_as_trained():
    prior_correction = PriorCorrection.from_dict(
        PriorCorrection.of(build_loss("vs", 3, COUNTS), COUNTS, "class_balanced").to_dict()
    )
    logits = torch.tensor([[3.0, -1.0, 0.5]], dtype=torch.float64)
    np.testing.assert_allclose(
        prior_correction.reverse(prior_correction.apply(logits).numpy()), logits.numpy(), atol=1e-12
    )
