"""Deming regression: a line between two measurements that both have errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST = 10


@dataclass(frozen=True)
class Line:
    """y = slope * x + intercept, with 95 % intervals by bootstrap over scans.

    Parameters
    ----------
    scans : int
    correlation : float
        Pearson's.
    residual_sd : float
        Standard deviation of y about the line.
    """

    slope: float
    intercept: float
    slope_interval: tuple[float, float]
    intercept_interval: tuple[float, float]
    scans: int
    correlation: float
    residual_sd: float

    def at(self, x: float) -> float:
        """Return y at x."""
        return self.slope * x + self.intercept


def fit_line(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    variance_ratio: float = 1.0,
    seed: int = 0,
    draws: int = 2000,
) -> Line:
    """Fit a line by Deming regression.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Two measurements of the same scans, at least ten.
    variance_ratio : float
        Error variance of y over that of x.

    Raises
    ------
    ValueError
        If there are too few scans, or x and y do not rise together: no line says how one follows the other.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or len(x) < _LEAST:
        raise ValueError(f"at least {_LEAST} scans with both measurements are needed, found {len(x)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a measurement is not a number")
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(x), (draws, len(x)))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope, intercept = _deming(x[None], y[None], variance_ratio)
        slopes, intercepts = _deming(x[rows], y[rows], variance_ratio)
    low, high = _interval(slopes)
    correlation = float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0
    if not (np.isfinite(slope[0]) and correlation > 0 and low > 0):
        raise ValueError(
            f"the two measurements do not rise together (correlation {correlation:.2f}, slope {slope[0]:.2f})"
        )
    rest = y - (slope[0] * x + intercept[0])
    return Line(
        float(slope[0]), float(intercept[0]), (low, high), _interval(intercepts), len(x), correlation,
        float(rest.std(ddof=2)),
    )  # fmt: skip


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    there = values[np.isfinite(values)]
    low, high = np.percentile(there, [2.5, 97.5]) if there.size else (np.nan, np.nan)
    return float(low), float(high)


def _deming(
    x: NDArray[np.float64], y: NDArray[np.float64], ratio: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return slope and intercept of each row."""
    mean_x, mean_y = x.mean(axis=1), y.mean(axis=1)
    dx, dy = x - mean_x[:, None], y - mean_y[:, None]
    sxx, syy, sxy = (dx * dx).mean(axis=1), (dy * dy).mean(axis=1), (dx * dy).mean(axis=1)
    half = syy - ratio * sxx
    slope = (half + np.sqrt(half**2 + 4 * ratio * sxy**2)) / (2 * sxy)
    return slope, mean_y - slope * mean_x
