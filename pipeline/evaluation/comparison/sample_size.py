"""How the test error falls with the training scans, and what twice as many would probably bring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.arrays import Floats
from pipeline.config import Study
from pipeline.errors import TrainingError
from pipeline.evaluation.comparison.cautions import FEWEST
from pipeline.evaluation.comparison.cell_result import CellResult
from pipeline.evaluation.comparison.seed_runs import Draws, Key, MetricTable, Run, runs_by_loss
from pipeline.evaluation.comparison.stages import stage_titles
from pipeline.evaluation.inference.intervals import Interval
from pipeline.evaluation.metrics import metric_named

SHOWN = ("negative_log_likelihood", "classwise_ece", "macro_auroc", "balanced_accuracy")
"""What is measured at each size, beside per-scan values as the posterior error."""
PROJECTED = ("negative_log_likelihood", "classwise_ece_above_noise", "macro_auroc")
"""What is projected to twice the scans; of the calibration error what lies above noise."""
RATES = (0.25, 0.5, 1.0)
"""Exponents c of the fits a + b n^-c: all of them make the interval, `MIDDLE` the value."""
MIDDLE = 0.5
_BEST = {"negative_log_likelihood": 0.0, "macro_auroc": 1.0}
"""No number of scans leads beyond these; the error above noise may be below 0 by chance."""
_NOTHING = 1e-6
"""A smaller change is rounding."""


@dataclass(frozen=True)
class SizePoint:
    """The classifier at one training size.

    Parameters
    ----------
    title : str
        Share of the training subjects, as ``"25 %"``.
    scans : float
        Training scans of one network, mean over folds and seeds.
    metrics : mapping of str to Interval
        Mean over seeds, on the same test scans at every size.
    noise : mapping of str to float
        Noise floor of each calibration error.
    """

    title: str
    scans: float
    metrics: Mapping[str, Interval]
    noise: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Projection:
    """What twice the training scans would bring, by fits of a + b n^-c to all sizes.

    Parameters
    ----------
    scans : float
        Twice the largest number of training scans.
    intercept, slope : float
        a and b of the fit with c = 1/2.
    change : Interval
        Metric at twice the scans minus metric at all scans, by that fit; its limits are the widest of all
        fits.
    check : Interval or None
        The metric at all scans as the smaller sizes predict it, minus the measured one; its limits likewise.
        None with fewer than three sizes.
    """

    metric: str
    scans: float
    intercept: float
    slope: float
    change: Interval
    check: Interval | None

    def fitted(self, scans: Floats) -> Floats:
        """Return the metric by the fit with c = 1/2."""
        values: Floats = self.intercept + self.slope * scans**-MIDDLE
        return values

    @property
    def follows(self) -> bool:
        """Whether the smaller sizes predict what was measured with all scans.

        They do not where they miss it beyond chance, and by more than the change that is projected.
        """
        check = self.check
        if check is None or check.low <= 0 <= check.high:
            return True
        return abs(check.value) < abs(self.change.value)

    @property
    def possible(self) -> bool:
        """Whether the fit stays, at twice the scans, on this side of the best value there is."""
        best, reached = _BEST.get(self.metric), float(self.fitted(np.array(self.scans)))
        if best is None:
            return True
        return reached <= best if metric_named(self.metric).better == "higher" else reached >= best

    @property
    def decided(self) -> bool:
        """Whether the curve states the direction of the change."""
        may_be_none = self.change.low - _NOTHING <= 0 <= self.change.high + _NOTHING
        return self.follows and self.possible and not may_be_none

    @property
    def sentence(self) -> str:
        """What twice the scans would probably bring, or why the curve does not show it."""
        of, change = metric_named(self.metric), self.change
        scale, digits, unit = (100, 1, " percentage points") if of.percent else (1, 3, "")
        low, middle, high = (scale * x for x in (change.low, change.value, change.high))
        unknown = f"The curve does not show what twice the training scans would bring in {of.title}:"
        if not self.follows:
            return (
                f"{unknown} the smaller sizes do not predict what was measured with all scans, so the curve "
                "does not have the shape that the fit assumes."
            )
        if not self.possible:
            return (
                f"{unknown} the fit goes beyond {_BEST[self.metric]:g}, the best value there is, so the "
                "curve does not have the shape that it assumes."
            )
        if not self.decided:
            return f"{unknown} the interval of the change is {low:+.{digits}f} to {high:+.{digits}f}{unit}."
        least, most = sorted((abs(low), abs(high)))
        reached = of.number(float(self.fitted(np.array(self.scans))))
        return (
            f"Twice the training scans (about {self.scans:.0f}) would probably "
            f"{'raise' if middle > 0 else 'lower'} the {of.title} by {abs(middle):.{digits}f}{unit} "
            f"(interval {least:.{digits}f} to {most:.{digits}f}), to about {reached}."
        )


@dataclass(frozen=True)
class SampleSizeCurve:
    """The same test scans, predicted after training on nested shares of the subjects.

    Parameters
    ----------
    calibration : str
        After which calibrator everything is measured.
    scans, subjects : int
        In the test parts.
    points : tuple of SizePoint
        By ascending size.
    """

    loss: str
    calibration: str
    level: float
    scans: int
    subjects: int
    seeds: tuple[int, ...]
    folds: int
    points: tuple[SizePoint, ...]
    projections: tuple[Projection, ...]
    cautions: tuple[str, ...] = ()

    def flat(self) -> dict[str, float]:
        """Return the finite metrics of every size under names that MLflow accepts."""
        return {
            f"{point.title.removesuffix(' %')}_percent.{name}": interval.value
            for point in self.points
            for name, interval in point.metrics.items()
            if math.isfinite(interval.value)
        }


def sample_size_curve(study: Study, results: Mapping[str, Sequence[CellResult]]) -> SampleSizeCurve:
    """Return the learning curve of a study from its cells at every size.

    Only seeds and folds that were finished at every size count, so that all sizes have the same test scans.
    Intervals are over test subjects and seeds, with the same draws at every size.

    Parameters
    ----------
    results : mapping of str to sequence of CellResult
        By title of the size, ascending.

    Raises
    ------
    TrainingError
        If no seed and fold was finished at every size.

    References
    ----------
    Viering & Loog, The Shape of Learning Curves: a Review, IEEE TPAMI 45, 2023, section 4.
    """
    calibration, calibrator = list(stage_titles(study).items())[-1]
    keys = frozenset.intersection(
        *(frozenset((cell.seed, cell.fold) for cell in cells) for cells in results.values())
    )
    if not keys:
        raise TrainingError(
            "No seed and fold was finished at every size, so there is no curve",
            where=study.name,
            hint="fix the cause of the failures above, then run the same command again",
        )
    runs = [
        replace(cell.run(calibrator, correct_prior=study.compare.undo_weighting, coverage=None), loss=title)
        for title, cells in results.items()
        for cell in cells
        if (cell.seed, cell.fold) in keys
    ]
    table = _table(study, runs, list(results))
    points = tuple(_point(table, title, keys) for title in results)
    of_largest = [run for run in runs if run.loss == points[-1].title]
    return SampleSizeCurve(
        loss=study.training.loss.title,
        calibration=calibration,
        level=study.evaluation.level,
        scans=len({scan for run in of_largest for scan in run.scan_ids}),
        subjects=len(table.draws.people),
        seeds=tuple(sorted({seed for seed, _ in keys})),
        folds=len({fold for _, fold in keys}),
        points=points,
        projections=tuple(_project(name, table, points, keys) for name in PROJECTED),
        cautions=tuple(_cautions(keys, any(len(cells) > len(keys) for cells in results.values()))),
    )


def _table(study: Study, runs: Sequence[Run], titles: Sequence[str]) -> MetricTable:
    by_size = runs_by_loss(runs, titles[-1])
    people = np.unique([subject for run in by_size[titles[-1]].values() for subject in run.subjects])
    draws = Draws(people, study.evaluation.draws, study.evaluation.level, study.seed)
    return MetricTable(by_size, SHOWN, draws)


def _point(table: MetricTable, title: str, keys: frozenset[Key]) -> SizePoint:
    found = table.intervals(title, keys)
    return SizePoint(
        title,
        float(np.mean([run.training_scans for run in table.by_loss[title].values()])),
        {name: interval for name, interval in found.items() if " of class " not in name},
        table.noise(title, keys),
    )


def fit_weights(scans: Floats, rate: float) -> Floats:
    """Return the weights (2, n_sizes) that give a and b of the least-squares fit a + b n^-rate.

    Examples
    --------
    >>> n = np.array([25.0, 100.0])
    >>> (fit_weights(n, 0.5) @ np.array([0.9, 0.7])).round(3).tolist()  # 0.5 + 2 / sqrt(n)
    [0.5, 2.0]
    """
    weights: Floats = np.linalg.pinv(np.stack([np.ones_like(scans), scans**-rate], axis=1))
    return weights


def _project(
    metric: str, table: MetricTable, points: Sequence[SizePoint], keys: frozenset[Key]
) -> Projection:
    """Project a metric to twice the scans: all that is fitted is a weighted sum over sizes."""
    scans = np.array([point.scans for point in points])
    values = np.stack([table.values(point.title, keys)[metric] for point in points])
    n, changes, checks = scans[-1], {}, {}
    for rate in RATES:
        grows = fit_weights(scans, rate)[1] * ((2 * n) ** -rate - n**-rate)
        changes[rate] = table.draws.interval(np.tensordot(grows, values, axes=1), metric)
        if len(scans) > 2:
            predicts = np.array([1, n**-rate]) @ fit_weights(scans[:-1], rate)
            gap = np.tensordot(np.append(predicts, -1), values, axes=1)
            checks[rate] = table.draws.interval(gap, metric)
    intercept, slope = fit_weights(scans, MIDDLE) @ values[:, :, 0].mean(axis=1)
    return Projection(
        metric, float(2 * n), float(intercept), float(slope), _widest(changes),
        _widest(checks) if checks else None,
    )  # fmt: skip


def _widest(by_rate: Mapping[float, Interval]) -> Interval:
    found = by_rate.values()
    return Interval(by_rate[MIDDLE].value, min(i.low for i in found), max(i.high for i in found))


def _cautions(keys: frozenset[Key], some_failed: bool) -> list[str]:  # noqa: FBT001
    seeds, folds = (len({key[n] for key in keys}) for n in (0, 1))
    found = []
    if max(seeds, folds) < FEWEST:
        runs = seeds * folds
        found.append(
            f"Each size was trained {'once' if runs == 1 else f'{runs} times'} (seeds x folds), so the curve "
            f"may be chance in training. Use {FEWEST} seeds or folds at least."
        )
    elif seeds == 1:
        found.append("Each size was trained with one seed: chance in training shows only through the folds.")
    if some_failed:
        found.append("Some trainings failed: only seeds and folds that were finished at every size count.")
    return found
