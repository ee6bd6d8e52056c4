"""Risk and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation import metrics


def two_class(confidence):
    """Rows whose predicted class is 0, with the given probability."""
    confidence = np.asarray(confidence, dtype=float)
    return np.stack([confidence, 1 - confidence], axis=1)


def test_risk_coverage_area_is_the_mean_over_random_orders_of_ties(rng):
    confidence = np.array([0.9, 0.9, 0.9, 0.8, 0.7, 0.7, 0.6])
    y = np.array([0, 1, 0, 0, 1, 0, 1])
    areas = []
    for _ in range(4000):
        order = np.lexsort((rng.random(7), -confidence))
        areas.append((y[order].cumsum() / np.arange(1, 8)).mean())
    curve = metrics.risk_coverage(two_class(confidence), y)
    assert curve.area == pytest.approx(np.mean(areas), abs=3e-3)
    assert curve.threshold.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert curve.coverage * 7 == pytest.approx([3, 4, 6, 7])
    assert curve.risk == pytest.approx([1 / 3, 1 / 4, 2 / 6, 3 / 7])
