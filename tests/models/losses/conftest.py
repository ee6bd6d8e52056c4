"""Batches that every loss must survive."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def minimise():
    """A function that returns the least risk of a loss over a discrete population, and the logits there.

    A population of (x, y) pairs is a batch with repetitions, so the loss of that batch, with one free row of
    logits for each x, is the population risk itself.
    """

    def search(loss, pairs: torch.Tensor, seed: int = 0):
        x, y = population(pairs)
        source = torch.Generator().manual_seed(seed)
        table = 3 * torch.randn(pairs.shape, dtype=torch.float64, generator=source)
        table.requires_grad_()
        optimiser = torch.optim.LBFGS(
            [table], max_iter=500, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def risk():
            optimiser.zero_grad()
            value = loss(table[x], y)
            value.backward()
            return value

        optimiser.step(risk)
        return loss(table[x], y).item(), table.detach()

    return search


@pytest.fixture
def pairs_of():
    """The function that lists the pairs (x, y) of a table of counts, shapes (N,) and (N,)."""
    return population


def population(pairs: torch.Tensor):
    x, y = torch.nonzero(pairs, as_tuple=True)
    times = pairs[x, y]
    return x.repeat_interleave(times), y.repeat_interleave(times)


@pytest.fixture
def batch():
    """A function that returns (logits, target) drawn from a seed; float64, no ties."""

    def draw(scans: int = 12, classes: int = 4, seed: int = 0, spread: float = 2.0):
        source = torch.Generator().manual_seed(seed)
        logits = spread * torch.randn(scans, classes, generator=source, dtype=torch.float64)
        target = torch.randint(classes, (scans,), generator=source)
        return logits, target

    return draw
