"""The flows that run on a schedule; Prefect starts each in a process of its own.

They take no parameters: Prefect stores those, and a folder's name can identify a patient. The study reaches
them through the environment, and errors reach Prefect as the name of their class alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import Flow, State, flow
from prefect.client.schemas.objects import FlowRun

from flows.running.console import say
from flows.running.lifetime import end_with_parent
from flows.running.notify import send_notice
from flows.running.steps import WorkFailed
from pipeline.config import Study, load_study
from pipeline.errors import ConfigError

STUDY = "TAUCAL_STUDY"
"""Environment variable that names the file of the resolved study."""
SERVER = "TAUCAL_SERVE_PID"
"""Environment variable with the id of the process that serves; a flow ends when it does."""

ENDING = threading.Event()
"""Set where serving ends: the runs that it ends itself have not crashed."""


def report_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Report that a flow's process was killed; Prefect calls this in the process that serves."""
    if ENDING.is_set():
        return
    say(f"{flow.name} crashed.")
    send_notice(_study(), "failure", {"flow": flow.name, "kind": "Crashed"})


@flow(name="nightly-ingest", on_crashed=[report_crash])
def nightly_ingest() -> None:
    """Take new scans of the study's source to SUVR."""
    _privately("nightly-ingest", _ingest)


@flow(name="new-reports", on_crashed=[report_crash])
def new_reports() -> None:
    """Write the report of every scan that has none."""
    _privately("new-reports", _report)


@flow(name="weekly-shift-check", on_crashed=[report_crash])
def weekly_shift_check() -> None:
    """Check whether the newest scans look like those the champion was trained on."""
    _privately("weekly-shift-check", _check_shift)


@flow(name="monthly-retrain", on_crashed=[report_crash])
def monthly_retrain() -> None:
    """Train a challenger where one is needed, and let the gate decide."""
    _privately("monthly-retrain", _retrain)


# Imports are deferred: a process runs one of these flows, and the one that serves none.
def _ingest(study: Study) -> None:
    from flows.ingest import ingest_study

    ingest_study(study)


def _report(study: Study) -> None:
    from flows.reports.new_reports import report_new_scans

    reports = report_new_scans(study)
    if reports.failed:
        facts = {"flow": "new-reports", "kind": "scans without a report", "scans": len(reports.failed)}
        send_notice(study, "failure", facts)


def _check_shift(study: Study) -> None:
    from flows.retraining.shift_check import check_shift

    check_shift(study)


def _retrain(study: Study) -> None:
    from flows.retrain import retrain

    retrain(study, who="schedule")


def _privately(name: str, work: Callable[[Study], object]) -> None:
    """Do the work of a flow; print an error here in full, give Prefect and notices its class alone."""
    if SERVER in os.environ:
        end_with_parent(int(os.environ[SERVER]))
    study = None
    try:
        study = _study()
        work(_that_waits(study))
    except Exception as error:  # noqa: BLE001 - raised again as its class, whatever it is
        say(f"{name} failed: {error}")
        kind = type(error).__name__
        if study is not None:
            send_notice(study, "failure", {"flow": name, "kind": kind})
        raise WorkFailed(kind) from None


def _study() -> Study:
    try:
        return load_study(Path(os.environ[STUDY]))
    except KeyError as error:
        raise ConfigError("A scheduled flow was not started by `taucal serve`", where=STUDY) from error


def _that_waits(study: Study) -> Study:
    """Return a study that waits for another process: refused, a retraining is lost for a month."""
    waits = {"wait": True}
    sections = {
        "ingest": study.ingest.model_copy(update=waits),
        "retrain": study.retrain.model_copy(update=waits),
    }
    return study.model_copy(update=sections)
