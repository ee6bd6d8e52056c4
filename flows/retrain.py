"""Retrain: test new scans for shift, train a challenger where that is needed, and let the gate decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import flow

from flows.ingest import ingest_study
from flows.learning.build_classifier import (
    TrainingResult,
    build_classifier,
    fit_network,
    save_network,
)
from flows.learning.cohorts import cache_of, labelled_cohort, region_table, split_of, whole_cohort
from flows.learning.study_files import StudyFiles
from flows.retraining.champion import Champion
from flows.retraining.promotion import Decision, hold, move, reject, retraining_lock, settle
from flows.retraining.shift_check import ShiftResult, compare_new_scans
from flows.running.console import say
from flows.running.doors import name_run, opened, report_crash
from flows.running.notify import send_notice
from flows.running.task_runs import log_shared, show_rows, show_text, step
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study, check_purpose
from pipeline.evaluation.classifier.rivals import Rivals
from pipeline.evaluation.monitoring.challenger import judged_of
from pipeline.evaluation.monitoring.gate import Verdict, judge
from pipeline.files import fingerprint
from pipeline.learning.cross_fitting import scheme_of
from pipeline.learning.ensemble_training import TrainedEnsemble
from pipeline.learning.loading import load_volumes
from pipeline.learning.recalibration import recalibrate
from pipeline.learning.split import development, extend_split
from pipeline.learning.split_cohort import SplitCohort
from pipeline.scan import Cohort, Split

Action = Literal["nothing", "recalibrate", "retrain", "first"]
Outcome = Literal["kept", "promoted", "held", "rejected"]


@dataclass(frozen=True)
class Plan:
    """The action that is needed, and why."""

    action: Action
    reasons: tuple[str, ...]
    shift: ShiftResult | None = None


@dataclass(frozen=True)
class RetrainResult:
    """The outcome of a retraining.

    Parameters
    ----------
    action : {"nothing", "recalibrate", "retrain", "first"}
        The action that was needed.
    outcome : {"kept", "promoted", "held", "rejected"}
        ``kept``: no action was needed, or the version that was promoted before has been rolled back since.
    version : int or None
        The champion afterwards.
    challenger : int or None
        The version that was made from this cohort.
    verdict : Verdict or None
        Of the gate.
    reasons : tuple of str
        Why this action; then, from the gate, why this outcome.
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


@flow(name="retrain", flow_run_name=name_run, validate_parameters=False, on_crashed=[report_crash])
def retrain(study: str) -> RetrainResult:
    """Ingest new scans, train a challenger where one is needed, and let the gate decide.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """
    with opened(study) as resolved:
        return retrain_study(resolved, resolved.retrain.who or "schedule")


def retrain_study(study: Study, who: str) -> RetrainResult:
    """Ingest new scans, test for shift, train a challenger where that is needed, and test it by the gate.

    Killed at any point and started again, it ends in the same state: every step leaves files, and every move
    of the champion is written to the audit log before it is made.

    Parameters
    ----------
    who : str
        Name recorded in the audit log.

    Raises
    ------
    ConfigError
        If the cohort is of images, or its training part is made imbalanced.
    InputError
        If another retraining of this study runs and `retrain.wait` is not set.
    LeakageError
        If the champion was made from subjects of the new test part.
    CohortError
        If the cohort is smaller than the champion's and `retrain.accept_smaller` is not set.
    """
    check_purpose(study, "retrain")
    store = tracking.store_of(study.tracking, study.output)
    with retraining_lock(study.output, wait=study.retrain.wait):
        settle(store, study.output)
        if study.ingest.source is not None:
            ingest_study(study)
        done = _retrain(study, store, who)
    for reason in done.reasons:
        say(reason)
    _show_in_prefect(done)
    event = {"promoted": "promotion", "held": "waiting", "rejected": "challenger"}.get(done.outcome)
    if event is not None:
        facts = {"action": done.action, "version": done.challenger, "reasons": done.reasons}
        send_notice(study, event, facts)
    return done


def _show_in_prefect(done: RetrainResult) -> None:
    log_shared(" ".join(done.reasons))
    checks = () if done.verdict is None else done.verdict.checks
    rows = [
        {"check": c.name, "outcome": "passed" if c.passed else "failed", "why": c.sentence} for c in checks
    ]
    show_rows("gate", rows, f"The gate: version {done.challenger}")
    champion = f"Outcome: **{done.outcome}**. The champion is version {done.version}."
    show_text("decision", "\n\n".join([champion, *done.reasons]), "What was decided, and why")


def _retrain(study: Study, store: tracking.Store, who: str) -> RetrainResult:
    champion = Champion.of(study, store)
    cohort = labelled_cohort(study)
    if champion is not None and not study.retrain.accept_smaller:
        champion.check_not_smaller(cohort)
    volumes = load_volumes(cohort, study.preprocessing, cache_of(study))
    plan = _plan(study, champion, cohort)
    version = None if champion is None else champion.version
    # The same inputs give the same key: run again after a crash, it continues and decides once.
    key = fingerprint(version, volumes.digest(), study.learning_settings(), plan.action)
    shift = None if plan.shift is None else asdict(plan.shift)
    facts: dict[str, Any] = {"action": plan.action, "data_digest": volumes.digest(), "shift": shift}
    if plan.action == "nothing":
        tracking.audit_of(study.output).append(
            "nothing", key=key, who=who, version=version, reasons=plan.reasons, facts=facts
        )
        return RetrainResult("nothing", "kept", version, None, plan.shift, None, plan.reasons)

    scans = SplitCohort(cohort, volumes, _split(study, champion, plan, cohort))
    say(f"Split by subject: {scans.sizes()}.")
    if champion is not None:
        champion.check_never_saw(scans.split)
    files = StudyFiles(study.output / "rounds" / key)
    trained = _make_challenger(study, champion, plan, scans, files)
    verdict = _ask_gate(study, champion, scans, files)

    facts |= {"run_id": trained.run_id, "gate": verdict.to_dict()}
    reasons = (*plan.reasons, *verdict.reasons)
    decision = Decision(trained.version, key, who, reasons, facts)
    outcome = _decide(study, store, decision, passed=verdict.passed)
    now = tracking.champion_version(store)
    if outcome == "promoted" and now != trained.version:
        # Run again after a rollback, the decision is one that was carried out before.
        back = (
            f"Version {trained.version} was promoted for this before, then rolled back; that is not changed."
        )
        outcome, reasons = "kept", (*reasons, back)
    return RetrainResult(plan.action, outcome, now, trained.version, plan.shift, verdict, reasons)


def _decide(study: Study, store: tracking.Store, decision: Decision, *, passed: bool) -> Outcome:
    if not passed:
        reject(store, study.output, decision)
        return "rejected"
    if study.retrain.require_approval:
        hold(store, study.output, decision)
        return "held"
    move(store, study.output, decision)
    return "promoted"


def _plan(study: Study, champion: Champion | None, cohort: Cohort) -> Plan:
    if champion is None:
        return Plan("first", ("There is no champion yet.",))
    shift = compare_new_scans(study, champion, whole_cohort(study))
    if shift.answer != "nothing":
        return Plan(shift.answer, shift.reasons, shift)
    known = len(champion.scan_ids)
    new = len(set(cohort.scan_ids) - champion.scan_ids)
    if study.retrain.growth is not None and new >= study.retrain.growth * known:
        grown = f"{new} labelled scans are new; the champion was made from and tested on {known}."
        return Plan("retrain", (*shift.reasons, grown), shift)
    return Plan("nothing", shift.reasons, shift)


def _split(study: Study, champion: Champion | None, plan: Plan, cohort: Cohort) -> Split:
    if champion is None:
        return split_of(study, cohort)
    if plan.action == "recalibrate":  # a new calibrator needs no new training scans
        return extend_split(champion.split, cohort, study.split, seed=study.seed, train=False)
    extended = extend_split(champion.split, cohort, study.split, seed=study.seed)
    cross_fit = scheme_of(study, len(cohort)) == "cross_fit"
    return development(extended) if cross_fit else extended


def _make_challenger(
    study: Study, champion: Champion | None, plan: Plan, scans: SplitCohort, files: StudyFiles
) -> TrainingResult:
    def fit() -> Iterable[Path]:
        if champion is None or plan.action != "recalibrate":
            return fit_network(study, scans, files)
        # The champion's networks, their logits moved to the class shares of the calibration scans. One scan
        # of each class more: a class that the calibration part lacks is rare, not impossible.
        counts = [n + 1 for n in scans.part("calibration").class_counts]
        moved = recalibrate(champion.classifier, counts, f"version {champion.version}, recalibrated")
        return save_network(moved, study, scans, files)

    return build_classifier(study, scans, files, fit)


@step("ask the gate")
def _ask_gate(study: Study, champion: Champion | None, scans: SplitCohort, files: StudyFiles) -> Verdict:
    calibration, test = files.read_predictions()
    before = None
    if champion is not None:
        predictions = champion.predictions(scans.cohort.subset(test.scan_ids))
        before = champion.classifier.calibrator.transform(predictions.logits)
    shares = TrainedEnsemble.load(files.network).prevalence
    rivals = Rivals.of(scans, region_table(study), shares, study.seed)
    challenger = CalibratedClassifier.load(files.bundle)
    judged = judged_of(challenger, calibration, test, champion=before, baseline=rivals.baseline)
    return judge(judged, study.retrain.gate, study.seed)
