"""Probabilities and labels that metrics are tried on: drawn from a known posterior, or by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def simulated(n=300, k=3, sharpness=1.7, seed=0):
    """Labels drawn from a posterior, and probabilities sharper than it."""
    rng = np.random.default_rng(seed)
    posterior = np.exp(rng.normal(scale=1.5, size=(n, k)))
    posterior /= posterior.sum(axis=1, keepdims=True)
    labels = (rng.random(n)[:, None] > posterior.cumsum(axis=1)[:, :-1]).sum(axis=1)
    sharp = posterior**sharpness
    return sharp / sharp.sum(axis=1, keepdims=True), labels, posterior


def judged(max_scans=40):
    """Hypothesis: probabilities of three classes with ties and extremes, and labels."""
    counts = hnp.arrays(
        np.int64, st.tuples(st.integers(1, max_scans), st.just(3)), elements=st.integers(0, 8)
    )
    filled = counts.map(lambda c: c + (c.sum(axis=1, keepdims=True) == 0))
    labels = st.integers(0, 2)
    return filled.flatmap(
        lambda c: st.tuples(
            st.just(c / c.sum(axis=1, keepdims=True)), hnp.arrays(np.int64, len(c), elements=labels)
        )
    )
