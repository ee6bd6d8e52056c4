"""How calibrators do on the scans of subjects that they were not fitted on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.calibrators import build_calibrator
from pipeline.evaluation.metrics import PROBABILITY_FLOOR, classwise_ece, noise_floor
from pipeline.learning.predictions import Predictions

_MOST_REPEATS = 5
_NOISE_DRAWS = 200
_SMALL_ERROR = 0.001
"""Standard error of an NLL difference that is small whatever the difference."""


@dataclass(frozen=True)
class CandidateScore:
    """How one candidate did on scans of subjects it was not fitted on.

    Parameters
    ----------
    nll : float
        Mean negative log-likelihood over scans, natural log.
    nll_se : float
        Its standard error over subjects.
    behind : float
        NLL above that of the best candidate.
    behind_se : float
        Standard error of that difference, paired over subjects.
    noise : float, optional
        Noise floor of `classwise_ece`; older versions did not store it.
    """

    name: str
    nll: float
    nll_se: float
    classwise_ece: float
    behind: float
    behind_se: float
    noise: float | None = None


def numbered(subjects: tuple[str, ...]) -> Ints:
    """Return subjects as numbers from 0."""
    return np.unique(subjects, return_inverse=True)[1].astype(np.int64)


def deal_subjects(labels: Ints, subjects: Ints, folds: int, seed: int) -> Ints:
    """Return each scan's fold: subjects whole, shuffled, and assigned in turn, class by class."""
    first_scan = np.unique(subjects, return_index=True)[1]
    shuffled = np.random.default_rng(seed).permutation(len(first_scan))
    assigned = shuffled[np.argsort(labels[first_scan][shuffled], kind="stable")]
    fold_of_subject = np.empty(len(first_scan), dtype=np.int64)
    fold_of_subject[assigned] = np.arange(len(assigned)) % folds
    return fold_of_subject[subjects]


def held_out(predictions: Predictions, fold: Ints, name: str) -> Floats:
    """Return the probabilities (N, K) of each scan from the calibrator fitted on the other folds."""
    probabilities = np.empty(predictions.logits.shape)
    for part in np.unique(fold):
        left_out = fold == part
        calibrator = build_calibrator(name).fit(predictions.logits[~left_out], predictions.labels[~left_out])
        probabilities[left_out] = calibrator.transform(predictions.logits[left_out])
    return probabilities


def cross_validate(
    predictions: Predictions, subjects: Ints, names: tuple[str, ...], folds: int, seed: int
) -> tuple[tuple[CandidateScore, ...], int]:
    """Return the score of each calibrator, and over how many assignments to folds it is a mean."""
    labels, rows = predictions.labels, np.arange(len(predictions))
    losses: list[Floats] = []  # of each assignment: (names, scans)
    errors: list[list[float]] = []
    floors: list[list[float]] = []
    while len(losses) < _MOST_REPEATS:
        fold = deal_subjects(labels, subjects, folds, seed + len(losses))
        found = [held_out(predictions, fold, name) for name in names]
        losses.append(-np.log([np.maximum(p[rows, labels], PROBABILITY_FLOOR) for p in found]))
        errors.append([float(classwise_ece(p, labels)) for p in found])
        floors.append([noise_floor("classwise_ece", p, draws=_NOISE_DRAWS, seed=seed) for p in found])
        if len(losses) > 1 and _settled(np.array(losses).mean(axis=2)):
            break
    mean_loss = np.mean(losses, axis=0)
    best = int(mean_loss.mean(axis=1).argmin())
    scores = [
        CandidateScore(
            name,
            float(loss.mean()),
            _standard_error(loss, subjects),
            float(error),
            float((loss - mean_loss[best]).mean()),
            _standard_error(loss - mean_loss[best], subjects),
            float(floor),
        )
        for name, loss, error, floor in zip(
            names, mean_loss, np.mean(errors, axis=0), np.mean(floors, axis=0), strict=True
        )
    ]
    return tuple(scores), len(losses)


def _settled(nll: Floats) -> bool:
    """Return whether NLLs (repeats, names) show how far each calibrator is from the best."""
    behind = nll - nll[:, [nll.mean(axis=0).argmin()]]
    error = behind.std(axis=0, ddof=1) / math.sqrt(len(nll))
    return bool(np.all(error <= np.maximum(_SMALL_ERROR, behind.mean(axis=0) / 5)))


def _standard_error(values: Floats, subjects: Ints) -> float:
    """Return the standard error of a mean over scans whose subjects are independent."""
    per_subject = np.bincount(subjects, weights=values - values.mean())
    n = len(per_subject)
    return math.sqrt(float((per_subject**2).sum()) * n / (n - 1)) / len(values)
