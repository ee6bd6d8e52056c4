"""Logits whose labels are drawn from known probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrators import softmax


@pytest.fixture(scope="session")
def drawn():
    """Return (logits, labels): labels are drawn at temperature 1, the logits are `scale` times too large."""

    def draw(n=500, k=3, scale=2.0, seed=0):
        generator = np.random.default_rng(seed)
        logits = generator.normal(size=(n, k)) * 1.8
        above = softmax(logits).cumsum(axis=1) > generator.random((n, 1))
        return logits * scale, above.argmax(axis=1)

    return draw


@pytest.fixture(scope="session")
def nll():
    """Mean negative log-likelihood, with a floor for calibrators that can say 0."""

    def mean(probabilities, labels):
        return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-15)).mean()

    return mean
