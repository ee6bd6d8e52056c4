"""The baseline that a network must beat: logistic regression on regional SUVR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from models.arrays import Floats, Ints
from pipeline.errors import CohortError, InputError

PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths C that are tried, strongest penalty first."""
_FOLDS = 5
_ITERATIONS = 2000


@dataclass(frozen=True, eq=False)
class Baseline:
    """Multinomial logistic regression on standardised regional SUVR.

    Parameters
    ----------
    penalty : float
        The C that was chosen.
    scores : tuple of float
        Mean held-out NLL of each of `PENALTIES`; empty where there were too few subjects to choose.
    """

    penalty: float
    scores: tuple[float, ...]
    model: Pipeline

    def probabilities(self, features: ArrayLike) -> Floats:
        """Return class probabilities (N, K) for regional SUVR (N, R), regions as at fitting.

        Raises
        ------
        InputError
            If a value is missing or the number of regions is another.
        """
        x = _checked_features(features)
        if x.shape[1] != self.model.n_features_in_:
            raise InputError(
                f"Features have {x.shape[1]} regions, the baseline was fitted on {self.model.n_features_in_}"
            )
        return np.asarray(self.model.predict_proba(x), dtype=np.float64)


def fit_baseline(features: ArrayLike, labels: ArrayLike, subjects: Sequence[str], seed: int) -> Baseline:
    """Fit the baseline, its penalty chosen by NLL in cross-validation over subjects.

    Parameters
    ----------
    features : array_like, shape (N, R)
        Regional SUVR of the training scans.
    labels : array_like of int, shape (N,)
        Class indices 0 ... K - 1, each with a scan.
    subjects : sequence of str, length N
        No subject is on both sides of a fold.
    seed : int
        Of the folds; the same seed gives the same probabilities.

    Returns
    -------
    Baseline
        Of the greatest penalty within one standard error of the best. With fewer than two subjects of some
        class nothing can be held out, and C is 0.1.

    Raises
    ------
    CohortError
        If there is one class only or a class between has no scan.
    InputError
        If lengths differ or a value is missing.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.tile([0, 1], 20)
    >>> suvr = rng.normal(1.2, 0.1, size=(40, 3)) + 0.4 * labels[:, None]
    >>> baseline = fit_baseline(suvr, labels, [f"s{n}" for n in range(40)], seed=0)
    >>> baseline.probabilities([[1.2, 1.2, 1.2]]).round(1)
    array([[1., 0.]])
    """
    x, y = _checked_features(features), np.asarray(labels, dtype=np.int64)
    if not len(x) == len(y) == len(subjects):
        raise InputError(
            f"There are {len(x)} rows of features, {len(y)} labels and {len(subjects)} subjects; "
            "expected one of each for every scan"
        )
    present = np.unique(y)
    if len(present) < 2 or not np.array_equal(present, np.arange(len(present))):
        raise CohortError(
            f"The baseline needs at least two classes with scans, found only classes {present.tolist()}",
            hint="add scans, or remove the missing class from cohort.classes",
        )
    people = np.unique(np.asarray(subjects), return_inverse=True)[1]
    fewest = min(len(np.unique(people[y == k])) for k in present)
    if fewest < 2:
        return Baseline(0.1, (), _fitted(x, y, 0.1))
    folds = StratifiedGroupKFold(min(_FOLDS, fewest), shuffle=True, random_state=seed)
    parts = list(folds.split(x, y, people))
    losses = np.array([[_held_out_nll(x, y, c, *part) for part in parts] for c in PENALTIES])
    mean = losses.mean(axis=1)
    best = int(mean.argmin())
    slack = losses[best].std(ddof=1) / np.sqrt(len(parts))
    chosen = PENALTIES[int(np.flatnonzero(mean <= mean[best] + slack)[0])]
    return Baseline(chosen, tuple(mean.tolist()), _fitted(x, y, chosen))


def _fitted(x: Floats, y: Ints, penalty: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=_ITERATIONS)).fit(x, y)


def _held_out_nll(x: Floats, y: Ints, penalty: float, train: Ints, held_out: Ints) -> float:
    model = _fitted(x[train], y[train], penalty)
    p = np.full((len(held_out), int(y.max()) + 1), np.finfo(np.float64).eps)
    p[:, model.classes_] = np.maximum(model.predict_proba(x[held_out]), np.finfo(np.float64).eps)
    return float(-np.log(p[np.arange(len(held_out)), y[held_out]]).mean())


def _checked_features(features: ArrayLike) -> Floats:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or not x.shape[1]:
        raise InputError(f"Regional SUVR has shape {x.shape}, expected (scans, regions)")
    missing = np.flatnonzero(~np.isfinite(x).all(axis=0))
    if len(missing):
        raise InputError(
            "Regional SUVR is NaN or infinite in some scans",
            where=f"regions number {', '.join(map(str, missing[:5]))}",
            hint="exclude scans that quality control refused",
        )
    return x
