"""The calibrator that ships, beside all candidates, cross-validated by subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from models.arrays import Floats, Ints
from models.calibrators import CALIBRATORS, Calibrator, build_calibrator, softmax
from models.calibrators.one_vs_rest import OneVsRest
from models.names import CALIBRATOR_TITLES, nearest
from pipeline.config import CalibrationSettings
from pipeline.errors import InputError
from pipeline.evaluation.classifier.candidate_scores import (
    CandidateScore,
    cross_validate,
    deal_subjects,
    held_out,
    numbered,
)
from pipeline.learning.predictions import Predictions
from pipeline.wording import counted

AUTO = "auto"


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
        Identity first, then in the order of the candidates; empty where nothing could be cross-validated.
    folds : int
        How many were used; 0 where nothing could be cross-validated.
    reason : str
        One sentence or more, for the report.
    repeats : int
        Over how many assignments of subjects to folds the scores are means.
    others : mapping of str to Calibrator
        The candidates that do not ship, fitted on all the predictions too. Older versions did not store them.
    """

    calibrator: Calibrator
    chosen: str
    scores: tuple[CandidateScore, ...]
    folds: int
    reason: str
    repeats: int = 1
    others: Mapping[str, Calibrator] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values, exact to the bit."""
        return {
            "chosen": self.chosen,
            "reason": self.reason,
            "folds": self.folds,
            "repeats": self.repeats,
            "scores": [asdict(score) for score in self.scores],
            "calibrator": self.calibrator.to_dict(),
            "others": [other.to_dict() for other in self.others.values()],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Selection:
        """Read what `to_dict` returned.

        Raises
        ------
        InputError
            If a value is missing, unknown or of the wrong type.
        """
        try:
            calibrator = Calibrator.from_dict(stored["calibrator"])
            scores = tuple(CandidateScore(**score) for score in stored["scores"])
            others = [Calibrator.from_dict(other) for other in stored.get("others", ())]
            return cls(
                calibrator,
                calibrator.name,
                scores,
                int(stored["folds"]),
                str(stored["reason"]),
                int(stored.get("repeats", 1)),
                {other.name: other for other in others},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"The stored selection of a calibrator cannot be read ({type(error).__name__}: {error})",
                where="selection.json",
                hint="delete the file and train the study again",
            ) from error


def select_calibrator(predictions: Predictions, settings: CalibrationSettings, seed: int) -> Selection:
    """Fit the calibrator that ships, and score it and all candidates on the subjects left out.

    What ships is ``settings.method``, whatever the scores: with its prior, adaptive temperature scaling can
    always be fitted, and a test of significance would throw away most of what a calibrator gains on few
    scans. ``auto`` takes the candidate of least cross-validated NLL. Cross-validation is repeated with other
    folds, the same for all, until its error is small against the differences, at most five times.

    With one subject nothing is known about others, and the identity ships.

    Parameters
    ----------
    predictions : Predictions
        Of scans on which the networks did not learn.
    settings : CalibrationSettings
        Method, candidates and number of folds; fewer folds are used where a class has fewer subjects, at
        least 2. The identity and adaptive temperature scaling are scored also when they are not candidates.
    seed : int
        Seed of the assignment of subjects to folds.

    Raises
    ------
    InputError
        If there is no scan, no candidate for ``auto``, a name is unknown, or the method is isotonic or
        histogram and lowers the cross-validated accuracy.
    """
    _check_names(settings)
    if len(predictions) == 0:
        raise InputError(
            "There are no calibration scans to fit a calibrator on", hint="enlarge split.calibration"
        )
    subjects = numbered(predictions.subjects)
    if subjects.max() == 0:
        identity = _fitted("identity", predictions)
        reason = (
            "No calibration was applied: cross-validation needs two subjects, "
            "and all calibration scans are of one."
        )
        return Selection(identity, "identity", (), 0, reason)
    used, note = _affordable_folds(predictions, subjects, settings.folds)
    shipped = () if settings.method == AUTO else (settings.method,)
    names = tuple(dict.fromkeys(("identity", *settings.candidates, *shipped, "adaptive_temperature")))
    scores, repeats = cross_validate(predictions, subjects, names, used, seed)
    fold = deal_subjects(predictions.labels, subjects, used, seed)
    calibrator = _to_ship(predictions, settings, scores, fold)
    why = _reason(calibrator.name, scores, settings)
    caveats = _caveats(calibrator, predictions)
    others = {s.name: _fitted(s.name, predictions) for s in scores if s.name != calibrator.name}
    return Selection(calibrator, calibrator.name, scores, used, f"{why}{note}{caveats}", repeats, others)


def held_out_probabilities(predictions: Predictions, calibrator_name: str, folds: int, seed: int) -> Floats:
    """Return each scan's probabilities from a calibrator fitted without the subjects of its fold.

    So no scan scores itself where prediction sets or an operating point are fitted. With one subject they are
    uncalibrated.

    Parameters
    ----------
    calibrator_name : str
        A name in `models.calibrators.CALIBRATORS`.
    folds : int
        How many groups of subjects are left out in turn, stratified by class; at most one for each subject.

    Returns
    -------
    ndarray of float64, shape (N, K)
    """
    subjects = numbered(predictions.subjects)
    used = min(folds, int(subjects.max()) + 1)
    if used < 2:
        return softmax(predictions.logits)
    return held_out(predictions, deal_subjects(predictions.labels, subjects, used, seed), calibrator_name)


def _check_names(settings: CalibrationSettings) -> None:
    named = [("calibration.candidates", name) for name in settings.candidates]
    if settings.method != AUTO:
        named.append(("calibration.method", settings.method))
    for where, name in named:
        if name not in CALIBRATORS:
            hint = nearest(name, CALIBRATORS)
            raise InputError(f"There is no calibrator named {name!r}", where=where, hint=hint)
    if not settings.candidates and settings.method == AUTO:
        raise InputError(
            "The list of calibrators to select from is empty",
            where="calibration.candidates",
            hint="name at least one, as in [identity, temperature]",
        )


def _affordable_folds(predictions: Predictions, subjects: Ints, folds: int) -> tuple[int, str]:
    """Return how many folds leave every present class in each fold's fit, and a note if they are fewer."""
    per_class = {
        k: len(np.unique(subjects[predictions.labels == k])) for k in np.unique(predictions.labels).tolist()
    }
    rarest = min(per_class, key=lambda k: per_class[k])
    used = max(2, min(folds, per_class[rarest]))
    if used == folds:
        return used, ""
    name, count = predictions.class_names[rarest], per_class[rarest]
    why = f"because {name} has {counted(count, 'subject')}"
    return used, f" Cross-validation used {used} folds instead of {folds}, {why}."


def _caveats(calibrator: Calibrator, predictions: Predictions) -> str:
    caveats = ""
    if calibrator.may_change_class:
        caveats += " The calibration may change the predicted class."
    present = set(predictions.labels.tolist())
    absent = [name for k, name in enumerate(predictions.class_names) if k not in present]
    if absent:
        caveats += (
            f" There was no calibration scan of {', '.join(absent)}, so "
            f"{'its' if len(absent) == 1 else 'their'} probabilities are not checked."
        )
    return caveats


def _to_ship(
    predictions: Predictions, settings: CalibrationSettings, scores: tuple[CandidateScore, ...], fold: Ints
) -> Calibrator:
    """Return what ships, fitted on all scans."""
    if settings.method != AUTO:
        chosen = settings.method
        if lost := _lost_accuracy(chosen, predictions, fold):
            raise InputError(
                f"{_named(chosen)} cannot be applied: {lost}",
                where="calibration.method",
                hint="set calibration.method to adaptive_temperature",
            )
    else:
        eligible = sorted((s.nll, s.name) for s in scores if s.name in settings.candidates)
        fit = (name for _, name in eligible if not _lost_accuracy(name, predictions, fold))
        chosen = next(fit, "identity")
    return _fitted(chosen, predictions)


def _fitted(name: str, predictions: Predictions) -> Calibrator:
    return build_calibrator(name).fit(predictions.logits, predictions.labels)


def _lost_accuracy(name: str, predictions: Predictions, fold: Ints) -> str:
    """Return how much accuracy a one-vs-rest calibrator costs on the scans left out; nothing for others."""
    if not issubclass(CALIBRATORS[name], OneVsRest):
        return ""
    right = [
        float((scores.argmax(axis=1) == predictions.labels).mean())
        for scores in (predictions.logits, held_out(predictions, fold, name))
    ]
    if right[1] >= right[0]:
        return ""
    return f"in cross-validation it lowers the accuracy from {right[0]:.3f} to {right[1]:.3f}"


def _reason(shipped: str, scores: tuple[CandidateScore, ...], settings: CalibrationSettings) -> str:
    """Return what was applied, and the NLL without calibration, with it, and with the best other."""
    by_name = {score.name: score for score in scores}
    identity, mine = by_name["identity"], by_name[shipped]
    other = min((s for s in scores if s.name not in ("identity", shipped)), key=lambda s: s.nll, default=None)
    best_other = f" {_best_other(other, mine, settings)}" if other else ""
    if shipped == "identity":
        because = _because(mine, other) if settings.method == AUTO else "as calibration.method demands"
        return f"No calibration was applied, {because}: {identity.nll:.3f}.{best_other}"
    return (
        f"{_named(shipped)} was applied: the cross-validated NLL was {identity.nll:.3f} without calibration "
        f"and {mine.nll:.3f} with it.{best_other}"
    )


def _because(identity: CandidateScore, other: CandidateScore | None) -> str:
    """Return why ``auto`` applied no calibration."""
    if other is None or identity.nll <= other.nll:
        return "because its cross-validated NLL was the least"
    return "because no candidate that may be applied had a lower cross-validated NLL"


def _best_other(other: CandidateScore, mine: CandidateScore, settings: CalibrationSettings) -> str:
    """Return the NLL of the best of the others, and why ``auto`` did not take it if that is lower."""
    candidate = other.name in settings.candidates
    found = (
        f"The best other {'candidate' if candidate else 'calibrator'}, {CALIBRATOR_TITLES[other.name]}, had "
    )
    found += f"{other.nll:.3f}"
    if settings.method != AUTO or other.nll >= mine.nll:
        return f"{found}."
    return f"{found}, but {'it lowers the accuracy' if candidate else 'is not among the candidates'}."


def _named(name: str) -> str:
    return CALIBRATOR_TITLES[name][0].upper() + CALIBRATOR_TITLES[name][1:]
