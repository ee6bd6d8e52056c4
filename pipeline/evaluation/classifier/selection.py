"""Which calibrator to ship: cross-validated inside the calibration split, grouped by subject."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibrators import CALIBRATORS, Calibrator, build_calibrator
from models.calibrators.calibrator import nearest
from pipeline.errors import InputError
from pipeline.evaluation.metrics import PROBABILITY_FLOOR, classwise_ece
from pipeline.learning.predictions import Predictions

_SURE = 1.645
"""Standard errors by which a candidate must beat the identity: 95 %, one-sided."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class CandidateScore:
    """How one candidate did on scans of subjects it was not fitted on.

    Parameters
    ----------
    name : str
    nll : float
        Mean negative log-likelihood over scans, natural log.
    nll_se : float
        Its standard error over subjects.
    classwise_ece : float
    behind : float
        NLL above that of the best candidate.
    behind_se : float
        Standard error of that difference, paired over subjects.
    """

    name: str
    nll: float
    nll_se: float
    classwise_ece: float
    behind: float
    behind_se: float


@dataclass(frozen=True, eq=False)
class Selection:
    """The calibrator to ship and why.

    Parameters
    ----------
    calibrator : Calibrator
        Fitted on all the predictions.
    chosen : str
        Its name.
    scores : tuple of CandidateScore
        In the order of the candidates; empty where nothing could be cross-validated.
    folds : int
        How many were used; 0 where nothing could be cross-validated.
    reason : str
        One sentence or more, for the report.
    """

    calibrator: Calibrator
    chosen: str
    scores: tuple[CandidateScore, ...]
    folds: int
    reason: str


def select_calibrator(
    predictions: Predictions, candidates: tuple[str, ...], folds: int, seed: int
) -> Selection:
    """Take the simplest candidate that is not shown to be worse than the best; the identity, unless beaten.

    Each candidate is scored by its negative log-likelihood on the subjects left out, the same folds for all.
    The identity stays unless the best candidate beats it by 1.645 standard errors of the difference, paired
    over subjects (95 %, one-sided): what is fitted on few scans may do harm, and the identity cannot. Of the
    others the first is taken whose distance to the best is within one standard error of that distance.

    Parameters
    ----------
    predictions : Predictions
        Of the calibration split.
    candidates : tuple of str
        Names of calibrators, simplest first. Identity is scored also when it is not among them.
    folds : int
        Parts that the subjects are dealt into, classes evenly; fewer where a class has fewer subjects,
        at least 2.
    seed : int
        Of the dealing.

    Returns
    -------
    Selection

    Raises
    ------
    InputError
        If there is no scan, no candidate, or a candidate's name is unknown.

    Notes
    -----
    The usual rule takes the standard error of the best candidate's own loss. Most of that is how hard the
    scans are, which all candidates share: on 200 simulated scans of three classes whose logits were 1.5 times
    too large it kept the identity in 22 of 25 draws, the paired rule in 5, and where nothing was wrong the
    paired rule still kept it in 24 of 25.

    References
    ----------
    Breiman, Friedman, Olshen, Stone, Classification and Regression Trees, 1984, section 3.4.3, for the
    one-standard-error rule.
    """
    _check_candidates(candidates)
    if len(predictions) == 0:
        raise InputError(
            "A calibrator must be selected on at least one scan, got none", hint="enlarge split.calibration"
        )
    subjects = np.unique(predictions.subjects, return_inverse=True)[1].astype(np.int64)
    n_subjects = int(subjects.max()) + 1
    if n_subjects < 2:
        identity = build_calibrator("identity").fit(predictions.logits, predictions.labels)
        reason = (
            "identity, because one subject cannot be cross-validated: nothing else can be shown to be better"
        )
        return Selection(identity, "identity", (), 0, reason)
    used, note = _affordable_folds(predictions, subjects, folds)
    fold = _deal_subjects(predictions.labels, subjects, used, seed)
    scored = dict.fromkeys(candidates if "identity" in candidates else (*candidates, "identity"))
    probabilities = {name: _held_out(predictions, fold, name) for name in scored}
    scores = _score(probabilities, predictions.labels, subjects)
    chosen, why = _choose(scores, candidates)
    calibrator = build_calibrator(chosen).fit(predictions.logits, predictions.labels)
    return Selection(calibrator, chosen, scores, used, f"{why}{note}{_caveats(calibrator, predictions)}")


def refit_on_subjects(
    predictions: Predictions,
    calibrator_name: str,
    options: dict[str, Any] | None = None,
    draws: int = 200,
    seed: int = 0,
) -> list[Calibrator]:
    """Refit a calibrator on bootstrap draws of the calibration subjects.

    The spread of one scan's probability over the refits tells how far it hangs on which subjects happened
    to be in the calibration split. It does not cover the network's own uncertainty.

    Parameters
    ----------
    predictions : Predictions
        Of the calibration split.
    calibrator_name : str
    options : dict, optional
        Passed to `build_calibrator`.
    draws : int, default=200
    seed : int, default=0

    Returns
    -------
    list of Calibrator, length ``draws``
    """
    subjects = np.unique(predictions.subjects, return_inverse=True)[1]
    rows_of = [np.flatnonzero(subjects == s) for s in range(int(subjects.max()) + 1)]
    generator = np.random.default_rng(seed)
    refits = []
    for _ in range(draws):
        drawn = generator.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[s] for s in drawn])
        calibrator = build_calibrator(calibrator_name, **(options or {}))
        refits.append(calibrator.fit(predictions.logits[rows], predictions.labels[rows]))
    return refits


def _check_candidates(candidates: tuple[str, ...]) -> None:
    for name in candidates:
        if name not in CALIBRATORS:
            raise InputError(
                f"A candidate must be the name of a calibrator, got {name!r}",
                where="calibration.candidates",
                hint=nearest(name, list(CALIBRATORS)),
            )
    if not candidates:
        raise InputError(
            "There must be a calibrator to choose from, got none",
            where="calibration.candidates",
            hint="name at least one",
        )


def _affordable_folds(predictions: Predictions, subjects: Integers, folds: int) -> tuple[int, str]:
    """Return how many folds leave every class that is present in each fold's fit, and a note if fewer."""
    per_class = {
        k: len(np.unique(subjects[predictions.labels == k])) for k in np.unique(predictions.labels).tolist()
    }
    rarest = min(per_class, key=lambda k: per_class[k])
    used = max(2, min(folds, per_class[rarest]))
    if used == folds:
        return used, ""
    name, count = predictions.class_names[rarest], per_class[rarest]
    return used, f" {used} folds in place of {folds}, because {name} has {count} subject{'s' * (count > 1)}."


def _caveats(calibrator: Calibrator, predictions: Predictions) -> str:
    caveats = ""
    if calibrator.may_change_class:
        caveats += " It may change the predicted class."
    present = set(predictions.labels.tolist())
    absent = [name for k, name in enumerate(predictions.class_names) if k not in present]
    if absent:
        caveats += (
            f" No calibration scan of {', '.join(absent)}: how far to trust its probability is not known."
        )
    return caveats


def _deal_subjects(labels: Integers, subjects: Integers, folds: int, seed: int) -> Integers:
    """Return each scan's fold: subjects whole, shuffled, dealt round class by class."""
    first_scan = np.unique(subjects, return_index=True)[1]
    shuffled = np.random.default_rng(seed).permutation(len(first_scan))
    dealt = shuffled[np.argsort(labels[first_scan][shuffled], kind="stable")]
    fold_of_subject = np.empty(len(first_scan), dtype=np.int64)
    fold_of_subject[dealt] = np.arange(len(dealt)) % folds
    return fold_of_subject[subjects]


def _held_out(predictions: Predictions, fold: Integers, name: str) -> Floats:
    """Return the probabilities of each scan from the calibrator fitted on the other folds."""
    probabilities = np.empty(predictions.logits.shape)
    for part in np.unique(fold):
        left_out = fold == part
        calibrator = build_calibrator(name).fit(predictions.logits[~left_out], predictions.labels[~left_out])
        probabilities[left_out] = calibrator.transform(predictions.logits[left_out])
    return probabilities


def _score(
    probabilities: dict[str, Floats], labels: Integers, subjects: Integers
) -> tuple[CandidateScore, ...]:
    rows = np.arange(len(labels))
    losses = {
        name: -np.log(np.maximum(p[rows, labels], PROBABILITY_FLOOR)) for name, p in probabilities.items()
    }
    best = min(losses, key=lambda name: float(losses[name].mean()))
    return tuple(
        CandidateScore(
            name,
            float(loss.mean()),
            _standard_error(loss, subjects),
            float(classwise_ece(probabilities[name], labels)),
            float((loss - losses[best]).mean()),
            _standard_error(loss - losses[best], subjects),
        )
        for name, loss in losses.items()
    )


def _standard_error(values: Floats, subjects: Integers) -> float:
    """Return the standard error of a mean over scans whose subjects are independent."""
    per_subject = np.bincount(subjects, weights=values - values.mean())
    n = len(per_subject)
    return math.sqrt(float((per_subject**2).sum()) * n / (n - 1)) / len(values)


def _choose(scores: tuple[CandidateScore, ...], candidates: tuple[str, ...]) -> tuple[str, str]:
    identity = next(score for score in scores if score.name == "identity")
    eligible = [score for score in scores if score.name in candidates and score.nll <= identity.nll]
    if not eligible:
        tried = ", ".join(f"{score.name} {score.nll:.4f}" for score in scores if score is not identity)
        return (
            "identity",
            f"identity, because cross-validated NLL is worse with {tried} than {identity.nll:.4f}.",
        )
    best = min(eligible, key=lambda score: score.nll)
    if best is not identity and identity in eligible and identity.behind <= _SURE * identity.behind_se:
        return "identity", (
            f"identity, because {best.name} is not seen to be better: its cross-validated NLL, "
            f"{best.nll:.4f}, is lower by {identity.behind:.4f}, standard error {identity.behind_se:.4f}."
        )
    chosen = next(score for score in eligible if score.behind <= score.behind_se)
    if chosen is best:
        beside = "" if best is identity else f" (identity {identity.nll:.4f})"
        return best.name, f"{best.name} has the lowest cross-validated NLL, {best.nll:.4f}{beside}."
    return chosen.name, (
        f"{chosen.name} is simpler than {best.name} and its cross-validated NLL, {chosen.nll:.4f}, is within "
        f"one standard error of the best, {best.nll:.4f} (difference {chosen.behind:.4f}, "
        f"standard error {chosen.behind_se:.4f})."
    )
