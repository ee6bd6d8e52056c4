"""Approval of a challenger in Prefect's page: a run of the flow `approve`, suspended until it is answered.

A retraining whose challenger waits starts that run. It does not suspend itself: only one retraining of a
study runs at a time, Prefect drops another, and with it an answer that comes while the next one runs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from prefect import State, flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed
from prefect.utilities.urls import url_for
from pydantic import Field

from flows.retraining.approval import HumanAnswer, NothingWaits, answer, what_happened
from flows.retraining.promotion import waiting
from flows.running.console import say
from flows.running.doors import api_of, deployment_name, opened, report_crash
from flows.running.notify import send_notice
from flows.running.task_runs import in_flow_run, log_shared, run_in_mlflow, show_rows, show_text
from pipeline import tracking
from pipeline.config import Study
from pipeline.evaluation.monitoring.verdict import Verdict

FLOW = "approve"
_KEY = re.compile(r"entry-(\d+)")
_SECONDS_TO_ANSWER = 366 * 86_400
PLACE = "Prefect's page"
_BUSY = "Should this page say that something went wrong, press Submit again: its database was busy."


class ApprovalForm(RunInput):
    """What Prefect's page asks for."""

    decision: Literal["approve", "reject"] = Field(description="Approve makes the version the champion.")
    name: str = Field(pattern=r"\S", description="Who decides; recorded in the audit log.")
    reason: str = Field(default="", description="Recorded in the audit log. No patient's name or number.")


@flow(name=FLOW, validate_parameters=False, on_crashed=[report_crash])
def approve(study: str) -> State[Any]:
    """Ask whether the version that waits becomes the champion; the run is suspended until it is answered.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """
    with opened(study) as resolved:
        return _ask(resolved)


def _ask(study: Study) -> State[Any]:
    store, output = tracking.store_of(study.tracking, study.output), study.output
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    number = _asked(context.flow_run)
    if number is None:
        held = waiting(store, output)
        if held is None:
            return _ended("NothingWaits", what_happened(output) or "No version has been held.")
        _show(store, held)
        log_shared(f"Version {held.version} passed the gate and waits: Resume asks to approve or reject it.")
        number = held.number
    form = suspend_flow_run(
        wait_for_input=ApprovalForm.with_initial_data(description=_question(output, number)),
        key=f"entry-{number}",
        timeout=_SECONDS_TO_ANSWER,
    )
    approved = form.decision == "approve"
    given = HumanAnswer(approved, form.name, form.reason, PLACE)
    try:
        held = waiting(store, output)
        if approved and held is not None and held.version is not None:
            tracking.check_stored(store, held.version)
        answer(store, output, given, asked=number, wait=True)
    except NothingWaits:
        return _ended("AnsweredBefore", f"{what_happened(output, number)}. This answer changes nothing.")
    sentence = f"{what_happened(output, number)}."
    facts = {"action": form.decision, "version": held and held.version, "reasons": [sentence]}
    send_notice(study, "promotion" if approved else "challenger", facts)
    return _ended("Approved" if approved else "Rejected", sentence)


def _ended(name: str, sentence: str) -> State[Any]:
    say(sentence)
    log_shared(sentence)
    return Completed(name=name, message=sentence)


def _asked(run: FlowRun) -> int | None:
    """Return the number of the entry that a run has asked about, or None where it has not asked yet."""
    keys = getattr(run.empirical_policy, "pause_keys", None) or ()
    found = [int(named[1]) for key in keys if (named := _KEY.fullmatch(key))]
    return max(found, default=None)


def _question(output: Path, number: int) -> str:
    entry = tracking.audit_of(output).entries()[number - 1]
    over = f"version {entry.over}, the champion" if entry.over else "no champion"
    reasons = "\n".join(f"- {reason}" for reason in entry.reasons)
    asked = f"Version {entry.version} passed the gate and waits. It would replace {over}."
    return f"{asked}\n\n{reasons}\n\n{_BUSY}"


def _show(store: tracking.Store, held: tracking.Entry) -> None:
    """Show the gate's checks and where the challenger's report is."""
    if "gate" in held.facts:
        checks = Verdict.from_dict(held.facts["gate"]).checks
        rows = [{"check": c.name, "outcome": c.outcome, "why": c.sentence} for c in checks]
        show_rows("gate", rows, f"The gate: version {held.version}")
    run_id = str(held.facts.get("run_id", ""))
    where = f"\n\n{run_in_mlflow(store.experiment_id(), run_id, held.version)}" if run_id else ""
    reasons = "\n".join(f"- {reason}" for reason in held.reasons)
    show_text("question", reasons + where, "What is asked, and why")


def ask_in_prefect(study: Study, held: tracking.Entry) -> str | None:
    """Start the run that asks about a version that was held; return the address of its page.

    One that asks already is not asked again. None where no flow run goes on, or neither `taucal serve` nor
    `taucal deploy` has registered the study.
    """
    if not in_flow_run():
        return None
    end_questions(study)
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"{FLOW}/{deployment_name(study)}")
        except ObjectNotFound:
            return None
        name = f"{study.name}: version {held.version} waits"
        run = client.create_flow_run_from_deployment(deployment.id, name=name, idempotency_key=held.sha256)
        if run.state is not None and run.state.is_final():  # as where its process was killed
            run = client.create_flow_run_from_deployment(deployment.id, name=name)
    return url_for("flow-run", obj_id=run.id)


def end_questions_of(study: Study) -> None:
    """As `end_questions`, from a command, wherever the server is; one that does not answer is left alone."""
    try:
        api = api_of(study)
        if api is not None:
            with temporary_settings({PREFECT_API_URL: api}):
                end_questions(study)
    except Exception as error:  # noqa: BLE001 - the decision itself is made
        say(f"Prefect's page may still ask ({type(error).__name__}); an answer there changes nothing.")


def end_questions(study: Study) -> None:
    """End the suspended runs that ask about what no longer waits; their last state states what happened."""
    store, output = tracking.store_of(study.tracking, study.output), study.output
    held = waiting(store, output)
    with get_client(sync_client=True) as client:
        for run in _suspended(client, deployment_name(study)):
            number = _asked(run)
            if held is None or number != held.number:
                sentence = f"{what_happened(output, number)}."
                state: State[Any] = Completed(name="AnsweredElsewhere", message=sentence)
                client.set_flow_run_state(run.id, state, force=True)


def _suspended(client: SyncPrefectClient, deployment: str) -> list[FlowRun]:
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment])),
        flow_run_filter=FlowRunFilter(state=state),
    )
