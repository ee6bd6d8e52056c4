"""How good a classifier is on scans that have no diagnosis yet, and whether diagnoses that come agree."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats, Ints
from models.prevalence import adjust_prevalence, estimate_prevalence
from pipeline.evaluation.inference.intervals import Interval, percentile_interval, subject_draws
from pipeline.evaluation.inference.two_samples import rate_p_value
from pipeline.evaluation.metrics import PROBABILITY_FLOOR
from pipeline.wording import counted

FEWEST_SUBJECTS = 30
"""Of fewer the intervals would be too wide to be of use."""
KNOWN_SCANS = 10
"""As many scans with the class shares of training count beside a period's when its shares are estimated.

A few scans with uncertain probabilities fit nearly any shares: without these, some draws leave a class
without a scan. Chosen on the phantom's population (`tests/benchmarks/without_labels.py`).
"""
_RISEN_LEVEL = 0.05
_LEAST_RISE = 0.02
_TITLES = {"accuracy": "accuracy", "negative_log_likelihood": "NLL", "coverage": "coverage of sets"}


@dataclass(frozen=True)
class ExpectedPerformance:
    """What to expect of a classifier on scans without diagnoses.

    Parameters
    ----------
    subjects : int
    withheld : str
        Why nothing is expected; empty where `values` has something.
    prevalence : tuple of float
        Estimated share of each class in the period, drawn a little towards those of training.
    values : dict of str to Interval
        ``"accuracy"``, ``"negative_log_likelihood"``, ``"coverage"`` and ``"recall."`` with a class; the
        interval is for the value that the diagnoses of these subjects will show.
    level : float
        Of the intervals.
    """

    subjects: int
    withheld: str
    prevalence: tuple[float, ...] = ()
    values: dict[str, Interval] | None = None
    level: float = 0.95

    def sentences(self) -> tuple[str, ...]:
        """Return what to print."""
        if self.values is None:
            return (f"Performance without diagnoses is not stated: {self.withheld}.",)
        start = f"Expected of {self.subjects} subjects before their diagnoses are known, if the probabilities"
        titles = {name: _TITLES.get(name, name.replace("recall.", "recall of ")) for name in self.values}
        parts = ", ".join(
            f"{titles[name]} {found.value:.2f} [{found.low:.2f} to {found.high:.2f}]"
            for name, found in self.values.items()
        )
        return (f"{start} are still calibrated ({100 * self.level:g} % intervals): {parts}.",)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Predictions of a period, one scan a subject.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        Calibrated, as they were stated, at the class shares `trained`.
    sets : ndarray of bool, shape (N, K)
        The prediction sets that were stated.
    class_names : tuple of str, length K
    trained : ndarray, shape (K,)
    drawn : ndarray, shape (D, N, K), or None
        The probabilities under draws of what the calibration scans leave uncertain.
    """

    probabilities: Floats
    sets: NDArray[np.bool_]
    class_names: tuple[str, ...]
    trained: Floats
    drawn: Floats | None = None


def expected_performance(
    period: Unlabelled,
    out_of_distribution: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> ExpectedPerformance:
    """Return the performance that the probabilities themselves imply, at the period's estimated prevalence.

    If the probabilities are calibrated but for the shares of the classes, the diagnosis of each scan is a
    draw from them. The values are means over these draws. Their intervals hold the chance of the labels, that
    of the estimated prevalence (over draws of subjects), and what the calibration leaves uncertain. They
    cannot see that scans of a class have come to look different: the value is withheld where the share of
    scans out of distribution has risen, and is wrong where such a change goes unnoticed.

    Parameters
    ----------
    out_of_distribution, reference : ndarray of bool
        Of the period's scans, and of scans from which the classifier did not learn before it was in use.

    References
    ----------
    Kivimäki, Białek, Nurminen, Kuberski, Confidence-based Estimators for Predictive Performance in Model
    Monitoring, Journal of Artificial Intelligence Research 82, 2025 (CBPE).

    Examples
    --------
    >>> p = np.tile([[0.8, 0.2], [0.2, 0.8]], (50, 1))
    >>> none = np.zeros(100, dtype=bool)
    >>> period = Unlabelled(p, p > 0.5, ("CN", "AD"), np.array([0.5, 0.5]))
    >>> found = expected_performance(period, none, none, draws=200)
    >>> round(found.values["accuracy"].value, 2), found.values["accuracy"].low > 0.65
    (0.8, True)
    """
    n = len(period.probabilities)
    if n < FEWEST_SUBJECTS:
        return ExpectedPerformance(
            n,
            f"there {'is' if n == 1 else 'are'} {counted(n, 'subject')}, and it needs {FEWEST_SUBJECTS}",
        )
    rise = float(out_of_distribution.mean() - reference.mean()) if len(reference) else 0.0
    if rise >= _LEAST_RISE and rate_p_value(reference, out_of_distribution) <= _RISEN_LEVEL:
        return ExpectedPerformance(
            n,
            f"{100 * out_of_distribution.mean():.0f} % of the scans are out of distribution, before "
            f"{100 * reference.mean():.0f} %",
        )
    estimated = estimate_prevalence(period.probabilities, period.trained, prior_scans=KNOWN_SCANS)
    at_estimate = adjust_prevalence(period.probabilities, period.trained, estimated)
    values = _scores(period, at_estimate[None])
    drawn = _drawn_scores(period, draws, np.random.default_rng(seed))
    found = {
        name: percentile_interval(float(value[0]), drawn[name], level)
        for name, value in values.items()
        if not math.isnan(value[0])
    }
    return ExpectedPerformance(n, "", tuple(estimated.tolist()), found, level)


def _drawn_scores(period: Unlabelled, draws: int, rng: np.random.Generator) -> dict[str, Floats]:
    n, classes = period.probabilities.shape
    labels = np.empty((draws, n), dtype=np.int64)
    chunks = np.concatenate(list(subject_draws(n, draws, n, rng)))
    for row, weights in enumerate(chunks):
        stated = period.probabilities
        if period.drawn is not None:
            stated = period.drawn[rng.integers(len(period.drawn))]
        shares = estimate_prevalence(
            stated, period.trained, weights=weights, prior_scans=KNOWN_SCANS, tolerance=1e-4
        )
        true = adjust_prevalence(stated, period.trained, np.maximum(shares, 1e-6) / (1 + classes * 1e-6))
        labels[row] = (rng.random((n, 1)) > true.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return _scores(period, np.eye(classes)[labels])


def _scores(period: Unlabelled, true: Floats) -> dict[str, Floats]:
    """Return each measure for classes (D, N, K): drawn ones, or their probabilities."""
    p = period.probabilities
    chosen = p.argmax(axis=1)
    right = true[:, np.arange(len(p)), chosen]
    losses = -np.log(np.maximum(p, PROBABILITY_FLOOR))
    scores: dict[str, Floats] = {"accuracy": right.mean(axis=1)}
    with np.errstate(invalid="ignore", divide="ignore"):
        for k, name in enumerate(period.class_names):
            of_class = true[:, :, k]
            scores[f"recall.{name}"] = of_class[:, chosen == k].sum(axis=1) / of_class.sum(axis=1)
    scores["negative_log_likelihood"] = (true * losses).sum(axis=2).mean(axis=1)
    scores["coverage"] = (true * period.sets).sum(axis=2).mean(axis=1)
    return scores


def calibration_z(probabilities: Floats, labels: Ints) -> float:
    """Return how far the number of right findings is from the stated one, in standard deviations.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        As stated, one scan a subject.
    labels : ndarray of int, shape (N,)

    Returns
    -------
    float
        Beyond 2 or -2 in 5 % of periods by chance; below where the classifier is over-confident. Where the
        probabilities leave nothing open, NaN if every finding was right and minus infinity if one was wrong.

    References
    ----------
    Spiegelhalter, Probabilistic prediction in patient management and clinical trials, Statistics in Medicine
    5, 1986, for the same test of the Brier score.

    Examples
    --------
    >>> p = np.tile([[0.8, 0.2]], (100, 1))
    >>> round(calibration_z(p, np.repeat([0, 1], [72, 28])), 2)
    -2.0
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    spread = math.sqrt(float((confidence * (1 - confidence)).sum()))
    surplus = float((right - confidence).sum())
    if spread > 0:
        return surplus / spread
    return -math.inf if surplus < 0 else math.nan
