"""Bootstrap intervals over subjects: scans of one person are not independent evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from models.arrays import Floats
from pipeline.errors import InputError
from pipeline.evaluation.metrics.catalogue import ABOVE_NOISE, METRICS, NOISY, Function, Metric
from pipeline.evaluation.metrics.sample import Sample, Weighted, mean_over_draws

Metrics = Mapping[str, Function] | Mapping[str, Metric] | Sequence[str]

_KNOWN = {**METRICS, **ABOVE_NOISE}
_NUMBERS_AT_ONCE = 400_000
"""Of one array of weights: it and a few like it stay in the processor's cache."""


@dataclass(frozen=True)
class Interval:
    """A value with the limits of its interval.

    Parameters
    ----------
    value : float
        On the scans themselves.
    low, high : float
        Percentiles of the bootstrap draws; of a calibration error, centred on the value (`bootstrap`).
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(  # noqa: PLR0913 - what is judged, and three keywords of the bootstrap
    probabilities: ArrayLike,
    labels: ArrayLike,
    subjects: Sequence[str],
    metrics: Metrics = METRICS,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return metrics with intervals over draws of subjects with replacement.

    Intervals are percentiles of the draws. A calibration error of few scans is larger by noise than that of
    many (`Metric.noisy`); a draw adds as much noise again, so percentiles lie above the value and may leave
    it outside. So draws are moved until their mean is the value, and cut at an error of 0: the interval is
    for the mean error of test sets as large as this one, noise included. Value and limits minus the noise
    floor are those of the error above noise. On 120 simulated scans of a true posterior 95 % percentiles held
    that mean classwise ECE in 20 % of 200 trials, moved ones in 97 % (over-confident by a factor of 1.8: 83
    and 94 %). The maximum calibration error is a maximum: its intervals held it in 81 to 91 %.

    Parameters
    ----------
    probabilities : array_like, shape (N, K)
    labels : array_like of int, shape (N,)
    subjects : sequence of str, length N
        Whose scan each row is; all scans of a drawn subject come along.
    metrics : mapping of str to callable, or sequence of names of `METRICS` and `ABOVE_NOISE`
        Functions of (probabilities, labels). Each `Metric` is taken over all draws at once, other functions
        one draw after another.
    level : float
        In (0, 1).
    seed : int
        One seed, one answer, however many metrics are asked for.

    Returns
    -------
    dict of str to Interval
        Draws in which a metric is not defined (NaN) are left out of its percentiles.

    Raises
    ------
    InputError
        If lengths differ, there are fewer than two subjects, or a metric's name is unknown.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapters 10 (bias) and 13; clusters: Davison &
    Hinkley, 1997, section 3.8.

    Examples
    --------
    >>> p, y = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [0, 1, 1]
    >>> str(bootstrap(p, y, ["a", "b", "c"], ["accuracy"])["accuracy"])
    '0.667 [0.000, 1.000]'
    """
    sample, chosen = Sample(probabilities, labels), _weighted(metrics)
    values = _over_draws(sample, chosen, list(_weights(subjects, len(sample), draws, seed)))
    noisy = {name for name, metric in _named(metrics).items() if getattr(metric, "noisy", False)}
    return {
        name: centred_interval(column, level, name) if name in noisy else _interval(column, level)
        for name, column in values.items()
    }


def paired_bootstrap(  # noqa: PLR0913 - as bootstrap
    probabilities_a: ArrayLike,
    probabilities_b: ArrayLike,
    labels: ArrayLike,
    subjects: Sequence[str],
    metrics: Metrics = METRICS,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return differences of metrics, a minus b, each draw taking the same subjects for both.

    Compare calibration errors by `ABOVE_NOISE`: probabilities near 0 and 1 have less noise than others, which
    is no better calibration. Those intervals are centred on the difference, all others are percentiles.

    Parameters
    ----------
    probabilities_a, probabilities_b : array_like, shape (N, K)
        Of the same scans in the same order.
    labels, subjects, metrics, draws, level, seed
        As in `bootstrap`.

    Examples
    --------
    >>> same = [[0.9, 0.1], [0.2, 0.8]]
    >>> paired_bootstrap(same, same, [0, 1], ["a", "b"], ["brier_score"])["brier_score"]
    Interval(value=0.0, low=0.0, high=0.0)
    """
    a, b = (Sample(p, labels) for p in (probabilities_a, probabilities_b))
    chosen, chunks = _weighted(metrics), list(_weights(subjects, len(a), draws, seed))
    of_a, of_b = _over_draws(a, chosen, chunks), _over_draws(b, chosen, chunks)
    return {
        name: (centred_interval(gap, level) if name in ABOVE_NOISE else _interval(gap, level))
        for name in chosen
        for gap in [of_a[name] - of_b[name]]
    }


def bootstrap_mean(
    values: ArrayLike,
    subjects: Sequence[str],
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean of a per-scan value, as of a posterior error or an alarm rate, with its interval.

    Parameters
    ----------
    values : array_like, shape (N,)
    subjects, draws, level, seed
        As in `bootstrap`.

    Examples
    --------
    >>> bootstrap_mean([1.0, 1.0, 1.0], ["a", "b", "b"]).value
    1.0
    """
    array = np.asarray(values, dtype=np.float64)
    parts = [mean_over_draws(w, array) for w in _weights(subjects, len(array), draws, seed)]
    return _interval(np.concatenate(parts), level)


def _named(metrics: Metrics) -> Mapping[str, Function]:
    if isinstance(metrics, Mapping):
        return metrics
    unknown = [name for name in metrics if name not in _KNOWN]
    if unknown:
        raise InputError(
            f"There is no metric named {unknown[0]!r}",
            hint=f"name some of {', '.join(METRICS)}, or pass a mapping of name to function",
        )
    return {name: _KNOWN[name] for name in metrics}


def _weighted(metrics: Metrics) -> dict[str, Weighted]:
    return {name: _over_draws_of(name, function) for name, function in _named(metrics).items()}


def _over_draws_of(name: str, function: Function) -> Weighted:
    if isinstance(function, Metric) and function.weighted is not None:
        return function.weighted
    known = _KNOWN.get(name)
    if known is not None and known.weighted is not None and function is known.function:
        return known.weighted
    return _one_by_one(function)


def _one_by_one(metric: Function) -> Weighted:
    def weighted(sample: Sample, weights: Floats) -> Floats:
        drawn = (np.repeat(np.arange(len(sample)), row.astype(np.int64)) for row in weights)
        return np.array([metric(sample.probabilities[rows], sample.labels[rows]) for rows in drawn])

    return weighted


def _over_draws(
    sample: Sample, metrics: Mapping[str, Weighted], chunks: Sequence[Floats]
) -> dict[str, Floats]:
    """Return for each metric its value on the sample itself, then on every draw."""
    return {
        name: np.concatenate([metric(sample, chunk) for chunk in chunks]) for name, metric in metrics.items()
    }


def _weights(subjects: Sequence[str], scans: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yield counts of scans (draws, N): first one row of ones, then draws of subjects in chunks."""
    if len(subjects) != scans:
        raise InputError(f"There are {len(subjects)} subjects for {scans} scans, expected one per scan")
    people, place = np.unique(np.asarray(subjects), return_inverse=True)
    if len(people) < 2:
        raise InputError(
            "All scans are of one subject; an interval over subjects needs at least two",
            where=str(people[0]),
            hint="report the value without an interval",
        )
    yield np.ones((1, scans))
    for counts in subject_draws(len(people), draws, scans, np.random.default_rng(seed)):
        yield counts[:, place]


def subject_draws(subjects: int, draws: int, width: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield how often each subject is drawn (draws, subjects), in chunks; `width` is the length of a row."""
    even = np.full(subjects, 1 / subjects)
    at_once = max(1, _NUMBERS_AT_ONCE // width)
    for start in range(0, draws, at_once):
        yield rng.multinomial(subjects, even, size=min(at_once, draws - start)).astype(np.float64)


def percentile_interval(value: float, drawn: Floats, level: float) -> Interval:
    """Return a value with the percentiles of its draws, NaN left out; without a draw both are NaN."""
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def centred_interval(values: Floats, level: float, error: str = "") -> Interval:
    """Return the first value with the percentiles of the others, moved so that their mean is that value.

    See `bootstrap`; where the values are those of an error of `NOISY` that is named, none is below 0.
    """
    value, drawn = float(values[0]), values[1:]
    least = 0.0 if error in NOISY else -np.inf
    return percentile_interval(value, np.maximum(drawn + (value - np.nanmean(drawn)), least), level)


def _interval(values: Floats, level: float) -> Interval:
    """Return the first value with the percentiles of the others."""
    return percentile_interval(float(values[0]), values[1:], level)
