"""Reliability diagrams: the numbers drawn."""

from __future__ import annotations

import numpy as np
import pytest
from judged_scans import simulated

from pipeline.errors import InputError
from pipeline.evaluation import metrics


def test_reliability_curves_carry_the_calibration_error():
    p, y, _ = simulated()
    top, *classes = metrics.reliability_curves(p, y, ("CN", "MCI", "AD"))
    assert [c.name for c in (top, *classes)] == ["top label", "CN", "MCI", "AD"]
    for curve in (top, *classes):
        held = curve.counts > 0
        assert curve.counts.sum() == len(y)
        assert len(curve.edges) == len(curve.counts) + 1
        assert np.isnan(curve.accuracy[~held]).all()
        assert np.all((curve.low <= np.nan_to_num(curve.accuracy, nan=0.5)) & (curve.low >= 0))
        assert np.all((curve.high >= np.nan_to_num(curve.accuracy, nan=0.5)) & (curve.high <= 1))
    errors = [np.nansum(c.counts * np.abs(c.gap)) / len(y) for c in (top, *classes)]
    assert errors[0] == pytest.approx(metrics.expected_calibration_error(p, y))
    assert np.mean(errors[1:]) == pytest.approx(metrics.classwise_ece(p, y))


def test_an_unknown_class_is_refused():
    p, y, _ = simulated(n=5)
    with pytest.raises(InputError, match="class index is 3, expected 0 to 2"):
        metrics.reliability_curve(p, y, class_index=3)
