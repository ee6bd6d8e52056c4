"""Published results of a benchmark, and the same metrics of our runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.evaluation.comparison.seed_runs import Run
from pipeline.evaluation.metrics.calibration_error import classwise_ece, expected_calibration_error
from pipeline.evaluation.metrics.scores import accuracy
from pipeline.wording import counted

BINS = 20
"""Of the published calibration errors; our own tables use 15."""


@dataclass(frozen=True)
class PublishedFigure:
    """One number from the literature.

    Parameters
    ----------
    cohort : str
        Kind of cohort, as `CohortSettings.kind`.
    ratio : float
        Of the long tail, as `ImbalanceSettings.ratio`; 1 for the balanced set.
    loss : str
        Its name in `models.losses.LOSSES`.
    calibrator : str
        Its name in `models.calibrators.CALIBRATORS`.
    metric : str
        A name in `LIKE_PUBLISHED`.
    percent : float
        Mean over seeds.
    """

    cohort: str
    ratio: float
    loss: str
    calibrator: str
    metric: str
    percent: float
    seeds: int
    source: str


def _error_percent(probabilities: ArrayLike, labels: ArrayLike) -> float:
    return 100 * (1 - accuracy(probabilities, labels))


def _ece_percent(probabilities: ArrayLike, labels: ArrayLike) -> float:
    return 100 * expected_calibration_error(probabilities, labels, bins=BINS)


def _classwise_ece_percent(probabilities: ArrayLike, labels: ArrayLike) -> float:
    return 100 * classwise_ece(probabilities, labels, bins=BINS)


LIKE_PUBLISHED: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "error rate %": _error_percent,
    "ECE %": _ece_percent,
    "mean classwise ECE %": _classwise_ece_percent,
}
"""Title of a published metric -> function of (probabilities, labels) in percent, with the published bins."""

_GCE = "Zhan, Zhou, Shen, arXiv 2604.06689"
PUBLISHED = (
    PublishedFigure("cifar10", 100, "gce", "identity", "error rate %", 23.75, 10, _GCE),
    PublishedFigure("cifar10", 100, "gce", "adaptive_temperature", "mean classwise ECE %", 1.07, 10, _GCE),
    PublishedFigure("cifar100", 1, "gce", "adaptive_temperature", "ECE %", 1.25, 10, _GCE),
    PublishedFigure("tiny_imagenet", 1, "gce", "adaptive_temperature", "ECE %", 1.15, 10, _GCE),
)
"""The source used its own network, recipe and held-out scans: no figure here is a target."""


@dataclass(frozen=True)
class PublishedComparison:
    """A published figure and the same metric of our runs.

    Parameters
    ----------
    loss : str
        Its title in our tables.
    percent, sd : float
        Mean and standard deviation over seeds; the latter NaN for one seed.
    """

    published: PublishedFigure
    loss: str
    percent: float
    sd: float
    seeds: int

    @property
    def sentence(self) -> str:
        """Both in words.

        Examples
        --------
        >>> figure = PublishedFigure("cifar10", 100, "gce", "identity", "error rate %", 23.75, 10, "source")
        >>> PublishedComparison(figure, "GCE", 24.1, 0.42, 10).sentence
        'GCE, error rate %: 24.10 (SD 0.42, 10 seeds); published 23.75 (10 seeds; source)'
        """
        sd = "" if math.isnan(self.sd) else f"SD {self.sd:.2f}, "
        theirs = self.published
        return (
            f"{self.loss}, {theirs.metric}: {self.percent:.2f} ({sd}{counted(self.seeds, 'seed')}); "
            f"published {theirs.percent:.2f} ({counted(theirs.seeds, 'seed')}; {theirs.source})"
        )


def published_for(cohort: str, ratio: float) -> tuple[PublishedFigure, ...]:
    """Return the figures published for a kind of cohort with this long tail; none for most.

    Examples
    --------
    >>> [(figure.metric, figure.percent) for figure in published_for("cifar10", 100)]
    [('error rate %', 23.75), ('mean classwise ECE %', 1.07)]
    """
    return tuple(f for f in PUBLISHED if f.cohort == cohort and math.isclose(f.ratio, ratio))


def beside_published(
    figures: Iterable[PublishedFigure],
    runs_by_calibrator: Mapping[str, Iterable[Run]],
    loss_names: Mapping[str, str],
) -> tuple[PublishedComparison, ...]:
    """Compare our runs with published figures: one row for each figure and each loss of its name.

    Parameters
    ----------
    runs_by_calibrator : mapping of str to iterable of Run
        By the calibrator's name; figures for others are left out.
    loss_names : mapping of str to str
        Title of a loss in our tables -> its name.
    """
    rows = []
    for figure in figures:
        of_title: dict[str, list[float]] = {}
        for run in runs_by_calibrator.get(figure.calibrator, ()):
            if loss_names[run.loss] == figure.loss:
                percent = LIKE_PUBLISHED[figure.metric](run.probabilities, run.labels)
                of_title.setdefault(run.loss, []).append(percent)
        for title, values in of_title.items():
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
            rows.append(PublishedComparison(figure, title, float(np.mean(values)), sd, len(values)))
    return tuple(rows)
