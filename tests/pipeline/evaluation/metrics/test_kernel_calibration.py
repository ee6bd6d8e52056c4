"""Kernel calibration errors against their authors' numbers."""

from __future__ import annotations

import numpy as np
import pytest
from judged_scans import simulated

from pipeline.errors import InputError
from pipeline.evaluation import metrics


def fixed(n, k):
    """Probabilities and labels without a generator, for numbers computed elsewhere."""
    logits = np.array([[3 * np.sin(1.7 * i + 2.3 * j) for j in range(k)] for i in range(n)])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([(i * i + i // 3) % k for i in range(n)])
    labels[::2] = p[::2].argmax(axis=1)
    return p, labels


def two_class(confidence):
    """Rows whose predicted class is 0, with the given probability."""
    confidence = np.asarray(confidence, dtype=float)
    return np.stack([confidence, 1 - confidence], axis=1)


@pytest.mark.parametrize(
    ("n", "k", "smooth", "ks", "top_label", "canonical", "marginal"),
    [
        (40, 2, 0.1898825298273, 0.1846930408868, 0.2105047283461, 0.4529880144257, 0.1231599645905),
        (60, 3, 0.1903522122373, 0.1738073320991, 0.2097842784047, 0.5406673399340, 0.0965503809839),
        (200, 5, 0.0829667378176, 0.0590328739519, 0.0992564713035, 0.4776320724701, 0.0617632697472),
    ],
)  # fmt: skip
def test_calibration_errors_equal_their_authors_numbers(n, k, smooth, ks, top_label, canonical, marginal):
    """Computed by relplot's smECE, spline-calibration's KS, and ece-kde at bandwidth .05 with p = 1, 1, 2."""
    p, y = fixed(n, k)
    assert metrics.smooth_ece(p, y) == pytest.approx(smooth, abs=1e-12)
    assert metrics.ks_calibration_error(p, y) == pytest.approx(ks, abs=1e-12)
    assert metrics.ece_kde(p, y, bandwidth=0.05) == pytest.approx(top_label, abs=1e-12)
    assert metrics.ece_kde(p, y, bandwidth=0.05, kind="canonical") == pytest.approx(canonical, abs=1e-12)
    assert metrics.ece_kde(p, y, bandwidth=0.05, kind="marginal", power=2) == pytest.approx(
        marginal, abs=1e-12
    )


def test_kernel_density_error_finds_the_true_error():
    p, y, posterior = simulated(n=1000, sharpness=2.0)
    true = np.abs(p.max(axis=1) - np.take_along_axis(posterior, p.argmax(axis=1)[:, None], 1)[:, 0]).mean()
    assert metrics.ece_kde(p, y) == pytest.approx(true, abs=0.03)
    assert metrics.ece_kde(posterior, y) < 0.05


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.9985, 0.0014999997085969), (0.9972, 0.0027999994667863), (0.9935, 0.0064999987619864)],
)
def test_smooth_error_of_tiny_errors_stays_on_the_authors_grids(confidence, expected):
    """Widths 2, 3 and 7 / 1024 on grids of 5,121, 3,414 and 1,464; even ones have no middle."""
    p = two_class(np.full(500, confidence))
    assert metrics.smooth_ece(p, np.zeros(500, dtype=int)) == pytest.approx(expected, abs=1e-15)


def test_unknown_kernels_are_refused():
    p, y, _ = simulated(n=5)
    with pytest.raises(InputError, match="bandwidth is 0, expected a positive number"):
        metrics.ece_kde(p, y, bandwidth=0)
    with pytest.raises(InputError, match="no kind 'joint'"):
        metrics.ece_kde(p, y, kind="joint")
