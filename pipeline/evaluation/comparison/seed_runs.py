"""Runs of several losses on the same test scans, and their metrics over the same draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats, Ints
from pipeline.errors import InputError
from pipeline.evaluation.inference.intervals import (
    Interval,
    centred_interval,
    percentile_interval,
    subject_draws,
)
from pipeline.evaluation.metrics import ABOVE_NOISE, METRICS, NOISY, metric_named, noise_floors
from pipeline.evaluation.metrics.sample import Sample, Weighted, mean_over_draws
from pipeline.evaluation.metrics.scores import balanced_accuracy_over_draws

Key = tuple[int, int]
"""Seed and fold."""

RECALL = "recall of class "
COVERAGE = "set_coverage"
"""Per-scan value: whether the conformal set contains the true class. Reported for each class too."""
CORRECTED = "prior_corrected_balanced_accuracy"
ERROR_OF = dict(zip(ABOVE_NOISE, NOISY, strict=True))
"""What lies above noise -> the calibration error that it is a part of."""


@dataclass(frozen=True, eq=False)
class Run:
    """Test predictions of one network: one loss, one seed, one fold.

    Parameters
    ----------
    loss : str
        Its title in tables.
    seed, fold : int
        Runs of different losses are compared where both agree; fold 0 where there is one split.
    training_scans : int
        Number of scans the network was trained on.
    scan_ids, subjects : tuple of str, length N
    labels : ndarray of int, shape (N,)
    probabilities : ndarray, shape (N, K)
    per_scan : mapping of str to ndarray, shape (N,)
        Values whose mean over scans is a measure of its own, as the distance to a known posterior.
    at_equal_shares : ndarray, shape (N, K), optional
        Probabilities as they would be were all classes equally frequent: of these the prior-corrected
        balanced accuracy is taken.

    Raises
    ------
    InputError
        If the lengths differ or there was no training scan.
    """

    loss: str
    seed: int
    fold: int
    training_scans: int
    scan_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    labels: Ints
    probabilities: Floats
    per_scan: Mapping[str, Floats] = field(default_factory=dict)
    at_equal_shares: Floats | None = None

    def __post_init__(self) -> None:
        a_scan_each = (self.scan_ids, self.subjects, self.labels, self.probabilities)
        lengths = tuple(len(values) for values in (*a_scan_each, *self.per_scan.values()))
        if len(set(lengths)) != 1 or self.training_scans < 1:
            raise InputError(
                f"Scan ids, subjects, labels, probabilities and per-scan values have lengths {lengths}, "
                f"after training on {self.training_scans} scans; expected equal lengths and at least 1",
                where=f"{self.loss}, seed {self.seed}, fold {self.fold}",
            )


def runs_by_loss(runs: Iterable[Run], baseline: str) -> dict[str, dict[Key, Run]]:
    """Sort runs by loss, then seed and fold.

    Raises
    ------
    InputError
        If a run is given twice, the baseline has none, or two of one seed and fold differ in test scans.
    """
    by_loss: dict[str, dict[Key, Run]] = {}
    first_with: dict[Key, Run] = {}
    for run in runs:
        key = (run.seed, run.fold)
        if key in by_loss.setdefault(run.loss, {}):
            raise InputError(f"The run {run.loss}, seed {run.seed}, fold {run.fold} is given twice")
        by_loss[run.loss][key] = run
        first = first_with.setdefault(key, run)
        if first.scan_ids != run.scan_ids:
            raise InputError(
                f"Losses {run.loss} and {first.loss} were not tested on the same scans in the same order",
                where=f"seed {run.seed}, fold {run.fold}",
                hint="use the same split for all losses",
            )
    if baseline not in by_loss:
        raise InputError(
            f"The baseline has no run; the runs are of {', '.join(by_loss) or 'no loss'}", where=baseline
        )
    return by_loss


def together(runs: Sequence[Run]) -> Sample:
    """Return the test predictions of runs as one sample."""
    return Sample(
        np.concatenate([run.probabilities for run in runs]), np.concatenate([run.labels for run in runs])
    )


@dataclass(frozen=True, eq=False)
class Draws:
    """The same draws of subjects and seeds for every loss.

    Parameters
    ----------
    people : ndarray of str
        All test subjects, sorted.
    """

    people: NDArray[np.str_]
    count: int
    level: float
    seed: int
    _last: dict[tuple[str, ...], list[Floats]] = field(default_factory=dict)

    def weights(self, subjects: tuple[str, ...]) -> list[Floats]:
        """Return how often each scan counts: once, then in each draw; in chunks (draws, N).

        Hundreds of runs have the same test scans, so the last result is cached.
        """
        if subjects not in self._last:
            self._last.clear()
            self._last[subjects] = list(self._drawn(subjects))
        return self._last[subjects]

    def _drawn(self, subjects: tuple[str, ...]) -> Iterator[Floats]:
        place = np.searchsorted(self.people, np.asarray(subjects))
        yield np.ones((1, len(place)))
        rng = np.random.default_rng([self.seed, 0])
        for counts in subject_draws(len(self.people), self.count, len(self.people), rng):
            yield counts[:, place]

    def interval(self, per_seed: Floats, metric: str = "") -> Interval:
        """Return the interval of a mean over seeds from values (n_seeds, 1 + draws).

        Each draw takes n - 1 of the n seeds with replacement, which gives the mean the right variance. Of a
        calibration error, which the noise of every draw makes larger, it is centred on the value.
        """
        n = len(per_seed)
        picks = np.random.default_rng([self.seed, 1]).integers(n, size=(max(n - 1, 1), self.count))
        drawn = per_seed[picks, np.arange(1, 1 + self.count)].mean(axis=0)
        value = float(per_seed[:, 0].mean())
        if metric in NOISY or metric in ABOVE_NOISE:
            return centred_interval(np.concatenate([[value], drawn]), self.level, metric)
        return percentile_interval(value, drawn, self.level)


@dataclass(frozen=True, eq=False)
class MetricTable:
    """Metrics of every loss over draws, computed on first use.

    Parameters
    ----------
    metrics : tuple of str
        Names in `pipeline.evaluation.metrics.METRICS` or of per-scan values of the runs. A calibration error
        comes with what lies above its noise floor.
    shares : ndarray, shape (K,), optional
        Of the classes: scans are weighted so that these are those of every draw. Without them each counts as
        often as it is drawn.
    """

    by_loss: Mapping[str, Mapping[Key, Run]]
    metrics: tuple[str, ...]
    draws: Draws
    shares: Floats | None = None
    _known: dict[tuple[str, frozenset[Key]], dict[str, Floats]] = field(default_factory=dict)

    def values(self, loss: str, keys: frozenset[Key]) -> dict[str, Floats]:
        """Return per metric and per-scan value, and per class, the values (n_seeds, 1 + draws).

        First those of the test scans themselves. The test scans of a seed's folds are taken together.
        """
        if (loss, keys) not in self._known:
            of_seed: dict[int, list[Run]] = {}
            for key in sorted(keys):
                of_seed.setdefault(key[0], []).append(self.by_loss[loss][key])
            rows = [self._over_draws(runs) for runs in of_seed.values()]
            self._known[loss, keys] = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return self._known[loss, keys]

    def gaps(self, metric: str, loss: str, baseline: str, keys: frozenset[Key]) -> Floats:
        """Return the differences (n_seeds, 1 + draws) of a metric to the baseline."""
        return self.values(loss, keys)[metric] - self.values(baseline, keys)[metric]

    def gaps_per_run(self, metric: str, loss: str, baseline: str, keys: frozenset[Key]) -> Floats:
        """Return the differences (n_runs,) of a metric to the baseline, seed by seed and fold by fold."""
        pairs = [(self.by_loss[loss][key], self.by_loss[baseline][key]) for key in sorted(keys)]
        if self.shares is not None:
            gaps = [self._weighted_value(metric, a) - self._weighted_value(metric, b) for a, b in pairs]
        elif metric in METRICS or metric in ABOVE_NOISE:
            of = metric_named(metric)
            gaps = [of(a.probabilities, a.labels) - of(b.probabilities, b.labels) for a, b in pairs]
        else:
            gaps = [float(a.per_scan[metric].mean() - b.per_scan[metric].mean()) for a, b in pairs]
        return np.array(gaps)

    def noise(self, loss: str, keys: frozenset[Key]) -> dict[str, float]:
        """Return the noise floor of each calibration error, mean over seeds."""
        values = self.values(loss, keys)
        of = {error: above for above, error in ERROR_OF.items() if above in values}
        return {error: float((values[error] - values[above])[:, 0].mean()) for error, above in of.items()}

    def intervals(self, loss: str, keys: frozenset[Key]) -> dict[str, Interval]:
        """Return the interval of each metric and recall."""
        return {name: self.draws.interval(values, name) for name, values in self.values(loss, keys).items()}

    def _weighted_value(self, metric: str, run: Run) -> float:
        weighted = METRICS[metric].weighted
        assert weighted is not None
        once = at_shares(np.ones((1, len(run.labels))), run.labels, self.shares)
        return float(weighted(together([run]), once)[0])

    def _over_draws(self, runs: list[Run]) -> dict[str, Floats]:
        sample = together(runs)
        functions = {name: m.weighted for name in self.metrics if (m := METRICS.get(name)) and m.weighted}
        if all(run.at_equal_shares is not None for run in runs):
            functions[CORRECTED] = _corrected(runs)
        functions |= {f"{RECALL}{k}": _share(k, sample.correct) for k in range(sample.num_classes)}
        for name in runs[0].per_scan:
            values = np.concatenate([run.per_scan[name] for run in runs])
            functions[name] = _mean(values)
            if name == COVERAGE:
                functions |= {
                    f"{COVERAGE} of class {k}": _share(k, values) for k in range(sample.num_classes)
                }
        chunks = self.draws.weights(tuple(subject for run in runs for subject in run.subjects))
        if self.shares is not None:
            chunks = [at_shares(chunk, sample.labels, self.shares) for chunk in chunks]
        found = {name: np.concatenate([f(sample, c) for c in chunks]) for name, f in functions.items()}
        floors = noise_floors(sample.probabilities, [name for name in NOISY if name in found])
        above = {n: found[error] - floors[error] for n, error in ERROR_OF.items() if error in floors}
        return {**found, **above}


def at_shares(weights: Floats, labels: Ints, shares: Floats | None) -> Floats:
    """Return weights (draws, N) under which the classes have these shares; as they are where none are given.

    If scans of a class are distributed alike in both places, a weighted mean is that of a test with such
    shares. A class that a draw misses has no share in it.

    Examples
    --------
    >>> at_shares(np.ones((1, 4)), np.array([0, 0, 0, 1]), np.array([0.5, 0.5])).round(2).tolist()
    [[0.67, 0.67, 0.67, 2.0]]
    """
    if shares is None:
        return weights
    of_class = labels[:, None] == np.arange(len(shares))
    counts = weights @ of_class
    factors = np.divide(shares, counts, out=np.zeros_like(counts), where=counts > 0)
    factors *= weights.sum(axis=1, keepdims=True)
    weighted: Floats = weights * factors[:, labels]
    return weighted


def _corrected(runs: Sequence[Run]) -> Weighted:
    at_equal = [run.at_equal_shares for run in runs if run.at_equal_shares is not None]
    corrected = Sample(np.concatenate(at_equal), np.concatenate([run.labels for run in runs]))
    return lambda _, weights: balanced_accuracy_over_draws(corrected, weights)


def _mean(values: Floats) -> Weighted:
    return lambda _, weights: mean_over_draws(weights, values)


def _share(k: int, values: Floats) -> Weighted:
    """Return the mean of per-scan values over the scans of a class; NaN in a draw without any."""

    def weighted(sample: Sample, weights: Floats) -> Floats:
        of_class = sample.labels == k
        count = weights[:, of_class].sum(axis=1)
        total = weights[:, of_class] @ values[of_class]
        share: Floats = np.divide(total, count, out=np.full(len(weights), np.nan), where=count > 0)
        return share

    return weighted
