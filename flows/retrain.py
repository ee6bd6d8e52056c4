"""Retrain: test new scans for shift, train a challenger where that is needed, and let the gate decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import flow

from flows.ingest import ingest_study
from flows.learning.build_classifier import TrainingResult, build_classifier, fit_network, save_network
from flows.learning.cohorts import labelled_cohort, prepare_volumes
from flows.learning.study_files import StudyFiles
from flows.reports.study_reports import challenger_in_mlflow, report_challenger
from flows.retraining.approval import answered, what_happened
from flows.retraining.ask_in_prefect import ask_in_prefect
from flows.retraining.champion import Champion
from flows.retraining.evidence import ask_again, ask_gate, first_answer
from flows.retraining.plan import Action, Plan, plan_of, split_for
from flows.retraining.promotion import (
    Decision,
    hold,
    move,
    reject,
    retraining_lock,
    settle,
    undecided,
    wait,
    waiting,
)
from flows.retraining.shift_check import ShiftResult
from flows.running.console import say
from flows.running.doors import name_run, opened, report_crash
from flows.running.notify import send_notice
from flows.running.task_runs import log_shared, show_rows, show_text
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study, check_purpose
from pipeline.evaluation.monitoring.verdict import GateOutcome, Verdict
from pipeline.files import fingerprint
from pipeline.files import now as utc_now
from pipeline.learning.learning_checks import check_learning
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.recalibration import recalibrate
from pipeline.learning.split_cohort import SplitCohort
from pipeline.scan import Cohort

Outcome = Literal["unchanged", "promoted", "held", "rejected", "undecided"]

_ROLLED_BACK = "Version {} was promoted for this before, then rolled back; that is not changed."


@dataclass(frozen=True)
class RetrainResult:
    """The outcome of a retraining.

    Parameters
    ----------
    action : {"nothing", "recalibrate", "retrain", "first"}
        The action that was needed.
    outcome : {"unchanged", "promoted", "held", "rejected", "undecided"}
        ``unchanged``: nothing was needed, or the version promoted before has been rolled back since.
        ``undecided``: the gate waits for later scans.
    version : int or None
        The champion afterwards.
    challenger : int or None
        The version that was judged: made from this cohort, or from an earlier one and undecided since.
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


def retrain_study(study: Study, who: str, time: str | None = None) -> RetrainResult:
    """Ingest new scans, test for shift, train a challenger where that is needed, and test it by the gate.

    While a challenger is undecided no other is trained: it and the champion are scored on the scans that came
    since, until the gate decides or it is `retrain.wait_months` old.

    Killed at any point and started again, it ends in the same state: every step leaves files, and every move
    of the champion is written to the audit log before it is made.

    Parameters
    ----------
    who : str
        Name recorded in the audit log.
    time : str, optional
        In UTC, as ``2026-11-21T15:40:00Z``: of a simulated year; now where not given.

    Raises
    ------
    ConfigError
        If the cohort is of images, or its training part is made imbalanced.
    InputError
        If another retraining of this study runs and `retrain.wait` is not set.
    LeakageError
        If the champion was made from subjects of the new test part.
    CohortError
        If the cohort lacks too many of the champion's scans and `retrain.accept_smaller` is not set.
    """
    check_purpose(study, "retrain")
    check_learning(study)
    store = tracking.store_of(study.tracking, study.output)
    with retraining_lock(study.output, wait=study.retrain.wait):
        settle(store, study.output)
        if study.ingest.source is not None:
            ingest_study(study)
        done = _retrain(study, store, who, time)
    for reason in done.reasons:
        say(reason)
    held = waiting(store, study.output) if done.outcome == "held" else None
    page = None if held is None else ask_in_prefect(study, held)
    _show_in_prefect(study, done, page)
    event = {"promoted": "promotion", "held": "waiting", "rejected": "challenger"}.get(done.outcome)
    if event is not None:
        facts = {"action": done.action, "version": done.challenger, "reasons": done.reasons}
        send_notice(study, event, facts if page is None else {**facts, "answer in": page})
    return done


def _show_in_prefect(study: Study, done: RetrainResult, page: str | None) -> None:
    log_shared(" ".join(done.reasons))
    checks = () if done.verdict is None else done.verdict.checks
    rows = [{"check": c.name, "outcome": c.outcome, "why": c.sentence} for c in checks]
    show_rows("gate", rows, f"The gate: version {done.challenger}")
    text = [f"Outcome: **{done.outcome}**. The champion is version {done.version}."]
    text += [] if page is None else [f"[Approve or reject version {done.challenger}]({page})"]
    text += [*done.reasons, *challenger_in_mlflow(study, done.challenger)]
    show_text("decision", "\n\n".join(text), "What was decided, and why")
    if page is not None:
        log_shared(f"Version {done.challenger} waits for approval: {page}")
        say(f"Version {done.challenger} waits for approval in Prefect: {page}")


def _retrain(study: Study, store: tracking.Store, who: str, simulated: str | None) -> RetrainResult:
    champion, time = Champion.of(study, store), simulated or utc_now()
    cohort = labelled_cohort(study)
    if champion is not None and not study.retrain.accept_smaller:
        champion.check_cohort(cohort)
    volumes = prepare_volumes(study, cohort)
    entry = undecided(store, study.output)
    if champion is not None and entry is not None and entry.version is not None:
        return _look_again(study, store, champion, (cohort, volumes), entry, (who, time))
    plan = plan_of(study, champion, cohort)
    version = None if champion is None else champion.version
    # The same inputs give the same key: run again after a crash, it continues and decides once.
    key = fingerprint(version, volumes.digest(), study.learning_settings(), plan.action)
    shift = None if plan.shift is None else asdict(plan.shift)
    facts: dict[str, Any] = {"action": plan.action, "data_digest": volumes.digest(), "shift": shift}
    if plan.action == "nothing":
        tracking.audit_of(study.output).append(
            "nothing", key=key, who=who, version=version, reasons=plan.reasons, facts=facts
        )
        return RetrainResult("nothing", "unchanged", version, None, plan.shift, None, plan.reasons)

    scans = SplitCohort(cohort, volumes, split_for(study, champion, plan, cohort))
    say(f"Split by subject: {scans.sizes()}.")
    if champion is not None:
        champion.check_never_saw(scans.split)
    files = StudyFiles(study.output / "rounds" / key)
    trained = _make_challenger(study, champion, plan, scans, files)
    if simulated is None:  # nobody reads the reports of a simulated year
        report_challenger(study, trained)
    challenger, (_, test) = CalibratedClassifier.load(files.bundle), files.read_predictions()
    verdict = ask_gate(study, champion, challenger, test, scans)

    answer = first_answer(study, verdict, test.subjects, key, time)
    facts |= {"run_id": trained.run_id, **answer.facts}
    decision = Decision(trained.version, key, who, (*plan.reasons, *answer.reasons), facts)
    outcome, reasons = _carried_out(study, store, decision, answer.outcome)
    now = tracking.champion_version(store)
    return RetrainResult(plan.action, outcome, now, trained.version, plan.shift, verdict, reasons)


def _look_again(
    study: Study, store: tracking.Store, champion: Champion, material: tuple[Cohort, LabelledVolumes],
    entry: tracking.Entry, by: tuple[str, str],
) -> RetrainResult:  # fmt: skip
    """Score an undecided challenger and the champion on the scans that came since."""
    assert entry.version is not None
    who, time = by
    challenger = Champion.load(study, store, entry.version)
    scans = SplitCohort(*material, challenger.split)
    answer = ask_again(study, champion, challenger, scans, entry, time)
    outcome: Outcome = "undecided"
    if answer.key:
        decision = Decision(entry.version, answer.key, who, answer.reasons, answer.facts)
        outcome = _decide(study, store, decision, answer.outcome)
    elif tracking.champion_version(store, tracking.CHALLENGER) != entry.version:
        tracking.challenge(store, entry.version)  # a crash came before the alias
    version = tracking.champion_version(store)
    action: Action = entry.facts["action"]
    reasons = answer.reasons if answer.key else entry.reasons
    return RetrainResult(action, outcome, version, entry.version, None, answer.verdict, reasons)


def _carried_out(
    study: Study, store: tracking.Store, decision: Decision, outcome: GateOutcome
) -> tuple[Outcome, tuple[str, ...]]:
    """Carry out a decision; return what came of it and why, where the same was decided before."""
    found = _decide(study, store, decision, outcome)
    if found == "rejected" and outcome == "promote":
        return found, (*decision.reasons, f"{what_happened(study.output)}.")
    if found == "promoted" and tracking.champion_version(store) != decision.version:
        return "unchanged", (*decision.reasons, _ROLLED_BACK.format(decision.version))
    return found, decision.reasons


def _decide(study: Study, store: tracking.Store, decision: Decision, outcome: GateOutcome) -> Outcome:
    if outcome == "wait":
        wait(store, study.output, decision)
        # The same challenger may have waited before, and have been decided about.
        return "undecided" if undecided(store, study.output) else "rejected"
    if outcome == "reject":
        reject(store, study.output, decision)
        return "rejected"
    if study.retrain.require_approval:
        hold(store, study.output, decision)
        return answered(study.output, decision.key) or "held"
    move(store, study.output, decision)
    return "promoted"


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
