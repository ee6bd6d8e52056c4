"""Retrain: what is new is looked at, a challenger is made where it is called for, and the gate decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flows.ingest import ingest_study
from flows.learning.build_classifier import (
    Files,
    SplitCohort,
    Trained,
    build_classifier,
    decisive,
    fit_network,
    keep_network,
    rivals_of,
)
from flows.learning.cohorts import cache_of, labelled_cohort, sizes_in_words, whole_cohort
from flows.retraining.champion import Champion
from flows.retraining.promotion import Decision, hold, move, reject, retraining_lock, settle
from flows.retraining.shift_check import ShiftResult, look_at_new_scans
from flows.running.console import say
from flows.running.notify import tell
from flows.running.orphans import end_orphans
from flows.running.steps import as_flow, as_task
from flows.running.study_names import check_names
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import ConfigError
from pipeline.evaluation.monitoring.gate import Judged, Verdict, judge
from pipeline.files import fingerprint
from pipeline.learning.ensemble_training import TrainedEnsemble
from pipeline.learning.loading import LabelledVolumes, load_volumes
from pipeline.learning.predictions import Predictions
from pipeline.learning.recalibration import recalibrate
from pipeline.learning.split import extend_split, split_subjects
from pipeline.scan import Cohort, Split
from pipeline.tracking.audit import audit_of

Action = Literal["nothing", "recalibrate", "retrain", "first"]
Outcome = Literal["kept", "promoted", "held", "rejected"]

FLOW = "retrain"
_Decide = Callable[[tracking.Store, Path, Decision], None]


@dataclass(frozen=True)
class Plan:
    """What is to be done, and why."""

    action: Action
    reasons: tuple[str, ...]
    shift: ShiftResult | None = None


@dataclass(frozen=True)
class RetrainResult:
    """What a retraining came to.

    Parameters
    ----------
    action : {"nothing", "recalibrate", "retrain", "first"}
        What was called for.
    outcome : {"kept", "promoted", "held", "rejected"}
        What became of the champion: kept where nothing was called for or the gate said no.
    version : int or None
        The champion now.
    challenger : int or None
        The version that was made.
    shift : ShiftResult or None
    verdict : Verdict or None
        Of the gate.
    reasons : tuple of str
        Why this action; then, of the gate, why this outcome.
    """

    action: Action
    outcome: Outcome
    version: int | None
    challenger: int | None
    shift: ShiftResult | None
    verdict: Verdict | None
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        verdict = None if self.verdict is None else self.verdict.to_dict()
        return {**asdict(self), "verdict": verdict}


@dataclass(frozen=True, eq=False)
class _Round:
    """One retraining: everything its steps share."""

    study: Study
    store: tracking.Store
    who: str
    champion: Champion | None
    cohort: Cohort
    volumes: LabelledVolumes
    plan: Plan

    @property
    def key(self) -> str:
        """Fingerprint of what decides its end: run again after a crash, it goes on where it stood."""
        champion = None if self.champion is None else self.champion.version
        return fingerprint(champion, self.volumes.digest(), decisive(self.study), self.plan.action)

    @property
    def facts(self) -> dict[str, Any]:
        """Numbers and hashes the audit table keeps."""
        shift = None if self.plan.shift is None else asdict(self.plan.shift)
        return {"action": self.plan.action, "data_digest": self.volumes.digest(), "shift": shift}


def retrain(study: Study, who: str) -> RetrainResult:
    """Ingest what is new, test for shift, make a challenger where that is called for, let the gate decide.

    Killed at any point and started again, it ends in the same state: every step leaves files, and every move
    of the champion stands in the audit table before it is made.

    Parameters
    ----------
    study : Study
    who : str
        In whose name the audit table records what is decided.

    Raises
    ------
    InputError
        If another retraining of this study runs and `retrain.wait` is not set.
    LeakageError
        If the champion was made from subjects of the new test part.
    """
    check_names(study)
    _check(study)
    store = tracking.store_of(study.tracking, study.output)
    with retraining_lock(study.output, wait=study.retrain.wait):
        end_orphans([FLOW])
        settle(store, study.output)
        if study.ingest.source is not None:
            ingest_study(study)
        done = as_flow(FLOW, lambda: _retrain(study, store, who))
    for reason in done.reasons:
        say(reason)
    _notify(study, done)
    return done


def _check(study: Study) -> None:
    if study.cohort.kind != "bids" or study.imbalance.ratio != 1:
        raise ConfigError(
            "Only a cohort of kind bids as it is can be retrained on, got kind "
            f"{study.cohort.kind} and imbalance.ratio {study.imbalance.ratio:g}",
            where=study.name,
            hint="remove imbalance, or use `taucal compare`",
        )


def _retrain(study: Study, store: tracking.Store, who: str) -> RetrainResult:
    champion = Champion.of(study, store)
    cohort = labelled_cohort(study)
    volumes = load_volumes(cohort, study.preprocessing, cache_of(study))
    plan = _plan(study, champion, cohort)
    this = _Round(study, store, who, champion, cohort, volumes, plan)
    if plan.action == "nothing":
        return _leave(this)
    scans = SplitCohort(cohort, volumes, _split(this))
    say(f"Split by subject: {sizes_in_words(scans.split, volumes)}.")
    if champion is not None:
        champion.check_never_saw(scans.split)
    trained = as_task("make a challenger", lambda: _challenger(this, scans))
    verdict = as_task("ask the gate", lambda: _verdict(this, trained, scans))
    return _decide(this, trained, verdict)


def _plan(study: Study, champion: Champion | None, cohort: Cohort) -> Plan:
    if champion is None:
        return Plan("first", ("There is no champion yet.",))
    shift = look_at_new_scans(study, champion, whole_cohort(study))
    if shift.answer != "nothing":
        return Plan(shift.answer, shift.reasons, shift)
    known = len(champion.scan_ids)
    new = sum(i not in champion.scan_ids for i in cohort.scan_ids)
    if study.retrain.growth is not None and new >= study.retrain.growth * known:
        grown = f"{new} labelled scans have come to the {known} the champion was made from and judged on."
        return Plan("retrain", (*shift.reasons, grown), shift)
    return Plan("nothing", shift.reasons, shift)


def _leave(this: _Round) -> RetrainResult:
    assert this.champion is not None
    audit_of(this.study.output).append(
        "nothing", key=this.key, who=this.who, version=this.champion.version,
        reasons=this.plan.reasons, facts=this.facts,
    )  # fmt: skip
    return RetrainResult(
        "nothing", "kept", this.champion.version, None, this.plan.shift, None, this.plan.reasons
    )


def _split(this: _Round) -> Split:
    study = this.study
    if this.champion is None:
        least = study.cohort.min_subjects_per_class
        return split_subjects(this.cohort, study.split, seed=study.seed, min_subjects=least)
    # A new calibrator needs no new training scans.
    train = this.plan.action != "recalibrate"
    return extend_split(this.champion.split, this.cohort, study.split, seed=study.seed, train=train)


def _challenger(this: _Round, scans: SplitCohort) -> Trained:
    files = Files(this.study.output / "rounds" / this.key)

    def fit() -> Iterable[Path]:
        if this.plan.action != "recalibrate":
            return fit_network(this.study, scans, files)
        return keep_network(_kept(this, scans.part("calibration")), this.study, scans, files)

    return build_classifier(this.study, scans, files, fit)


def _kept(this: _Round, calibration: LabelledVolumes) -> TrainedEnsemble:
    """Return the champion's networks with their logits moved to the class shares of the calibration scans."""
    assert this.champion is not None
    # One scan of each class more: a class that the calibration part lacks is rare, not impossible.
    counts = [n + 1 for n in calibration.class_counts]
    made_of = f"version {this.champion.version}, recalibrated"
    return recalibrate(this.champion.classifier, counts, made_of)


def _verdict(this: _Round, trained: Trained, scans: SplitCohort) -> Verdict:
    classifier = CalibratedClassifier.load(trained.files.bundle)
    calibration, test = (Predictions.load(trained.files.predictions(p)) for p in ("calibration", "test"))
    said = classifier.calibrator.transform(test.logits)
    network = TrainedEnsemble.load(trained.files.network)
    champion = None
    if this.champion is not None:
        before = this.champion.predictions(scans.cohort.subset(test.scan_ids))
        champion = this.champion.classifier.calibrator.transform(before.logits)
    judged = Judged(
        labels=test.labels,
        subjects=test.subjects,
        class_names=test.class_names,
        challenger=said,
        sets=classifier.conformal.sets(said),
        coverage=classifier.conformal.coverage,
        champion=champion,
        baseline=rivals_of(this.study, scans, network).baseline,
        calibration_scans=tuple(np.bincount(calibration.labels, minlength=said.shape[1]).tolist()),
    )
    return judge(judged, this.study.retrain.gate, this.study.seed)


def _decide(this: _Round, trained: Trained, verdict: Verdict) -> RetrainResult:
    output = this.study.output
    facts = {**this.facts, "run_id": trained.run_id, "gate": verdict.to_dict()}
    decide, outcome = _answer(verdict, waits=this.study.retrain.require_approval)
    reasons = (*this.plan.reasons, *verdict.reasons)
    decide(this.store, output, Decision(trained.version, this.key, this.who, reasons, facts))
    now = tracking.champion_version(this.store)
    if outcome == "promoted" and now != trained.version:
        # Run again after a rollback, the decision is one that was carried out before.
        back = f"Version {trained.version} was promoted for this before and rolled back since; it stays so."
        outcome, reasons = "kept", (*reasons, back)
    return RetrainResult(this.plan.action, outcome, now, trained.version, this.plan.shift, verdict, reasons)


def _answer(verdict: Verdict, *, waits: bool) -> tuple[_Decide, Outcome]:
    if not verdict.passed:
        return reject, "rejected"
    return (hold, "held") if waits else (move, "promoted")


def _notify(study: Study, done: RetrainResult) -> None:
    event = {"promoted": "promotion", "held": "waiting", "rejected": "challenger"}.get(done.outcome)
    if event is not None:
        tell(study, event, {"action": done.action, "version": done.challenger, "reasons": done.reasons})
