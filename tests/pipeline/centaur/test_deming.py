"""Deming regression against a known line and against orthogonal regression."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.centaur.deming import fit_line


def test_a_line_without_error_is_found():
    x = np.linspace(0.9, 2.5, 12)
    line = fit_line(x, 0.9 * x + 0.11)
    assert (line.slope, line.intercept) == pytest.approx((0.9, 0.11))
    assert line.at(2.0) == pytest.approx(1.91)
    assert line.residual_sd == pytest.approx(0, abs=1e-9)


def test_equal_errors_are_orthogonal_regression():
    rng = np.random.default_rng(3)
    x = rng.normal(1.4, 0.3, 60)
    y = 1.1 * x - 0.2 + rng.normal(0, 0.08, 60)
    direction = np.linalg.svd(np.stack([x - x.mean(), y - y.mean()]), full_matrices=False)[0][:, 0]
    assert fit_line(x, y).slope == pytest.approx(direction[1] / direction[0])


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_errors_of_both_do_not_flatten_the_line_and_intervals_hold_it(ratio):
    held, slopes = 0, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = rng.uniform(1.0, 2.2, 80)
        x = truth + rng.normal(0, 0.12, 80)
        y = 0.95 * truth + 0.1 + rng.normal(0, 0.12 * ratio**0.5, 80)
        line = fit_line(x, y, ratio, draws=400)
        slopes.append(line.slope)
        held += line.slope_interval[0] <= 0.95 <= line.slope_interval[1]
    assert np.mean(slopes) == pytest.approx(0.95, abs=0.03)
    assert held >= 50


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (np.arange(9.0), np.arange(9.0), "at least 10 scans.*found 9"),
        (np.arange(12.0), -np.arange(12.0), "do not rise together"),
        (np.full(12, 1.2), np.arange(12.0), "do not rise together"),
        (np.random.default_rng(0).normal(size=12), np.random.default_rng(1).normal(size=12), "do not rise"),
        (np.arange(12.0), np.full(12, 1.2), "do not rise together"),
        (np.r_[np.nan, np.arange(11.0)], np.arange(12.0), "not a number"),
    ],
)
def test_what_gives_no_line_is_an_error(x, y, match):
    with pytest.raises(ValueError, match=match):
        fit_line(x, y)
