"""Batches that every loss must survive."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def batch():
    """A function that returns (logits, target) drawn from a seed; float64, no ties."""

    def draw(scans: int = 12, classes: int = 4, seed: int = 0, spread: float = 2.0):
        source = torch.Generator().manual_seed(seed)
        logits = spread * torch.randn(scans, classes, generator=source, dtype=torch.float64)
        target = torch.randint(classes, (scans,), generator=source)
        return logits, target

    return draw
