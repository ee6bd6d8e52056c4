"""The flows that run on a schedule; each in a process of its own, which `flows.serve` lets Prefect start.

They take no parameters: Prefect stores those, and a folder's name can identify a patient. The study reaches
them through the environment, and errors reach Prefect by their kind alone.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import Flow, State, flow
from prefect.client.schemas.objects import FlowRun

from flows.running.console import say
from flows.running.notify import tell
from flows.running.steps import WorkFailed
from pipeline.config import Study, load_study
from pipeline.errors import ConfigError

STUDY = "TAUCAL_STUDY"
"""Environment variable that names the file of the resolved study."""
SERVER = "TAUCAL_SERVE_PID"
"""Environment variable with the process that serves; a flow ends when it does."""

ENDING = threading.Event()
"""Set where serving ends: what it then ends itself has not crashed."""

_LOOK_EVERY_SECONDS = 0.5


def tell_of_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Tell that a flow's process was killed; Prefect calls this in the process that serves."""
    if ENDING.is_set():
        return
    say(f"{flow.name} crashed.")
    tell(_study(), "failure", {"flow": flow.name, "kind": "Crashed"})


@flow(name="nightly-ingest", on_crashed=[tell_of_crash])
def nightly_ingest() -> None:
    """Take new scans of the study's source to SUVR."""
    _privately("nightly-ingest", _ingest)


@flow(name="new-reports", on_crashed=[tell_of_crash])
def new_reports() -> None:
    """Write the report of every scan that has none."""
    _privately("new-reports", _report)


@flow(name="weekly-shift-check", on_crashed=[tell_of_crash])
def weekly_shift_check() -> None:
    """Ask whether the newest scans look like those the champion was made from."""
    _privately("weekly-shift-check", _check_shift)


@flow(name="monthly-retrain", on_crashed=[tell_of_crash])
def monthly_retrain() -> None:
    """Make a challenger where one is called for, and let the gate decide."""
    _privately("monthly-retrain", _retrain)


def _ingest(study: Study) -> None:
    from flows.ingest import ingest_study

    ingest_study(study)


def _report(study: Study) -> None:
    from flows.reports.new_reports import report_new_scans

    reports = report_new_scans(study)
    if reports.failed:
        facts = {"flow": "new-reports", "kind": "scans without a report", "scans": len(reports.failed)}
        tell(study, "failure", facts)


def _check_shift(study: Study) -> None:
    from flows.retraining.shift_check import check_shift

    check_shift(study)


def _retrain(study: Study) -> None:
    from flows.retrain import retrain

    retrain(study, who="schedule")


def _privately(name: str, work: Callable[[Study], object]) -> None:
    """Do the work of a flow; what goes wrong is told here in full, to Prefect and outside by its kind."""
    _end_with_server()
    study = None
    try:
        study = _study()
        work(_patient(study))
    except Exception as error:  # noqa: BLE001 - raised again by its kind, whatever it is
        say(f"{name} failed: {error}")
        kind = type(error).__name__
        if study is not None:
            tell(study, "failure", {"flow": name, "kind": kind})
        raise WorkFailed(kind) from None


def _study() -> Study:
    try:
        return load_study(Path(os.environ[STUDY]))
    except KeyError as error:
        raise ConfigError("A deployed flow must be started by `taucal serve`", where=STUDY) from error


def _patient(study: Study) -> Study:
    """Return a study that waits for what another process does: refused, a retraining is lost for a month."""
    waits = {"wait": True}
    sections = {
        "ingest": study.ingest.model_copy(update=waits),
        "retrain": study.retrain.model_copy(update=waits),
    }
    return study.model_copy(update=sections)


def _end_with_server() -> None:
    """End this process when the one that serves is gone: killed, it could not say so."""
    if SERVER in os.environ:
        threading.Thread(target=_watch, args=(int(os.environ[SERVER]),), daemon=True).start()


def _watch(server: int) -> None:
    while os.getppid() == server:
        time.sleep(_LOOK_EVERY_SECONDS)
    os._exit(1)
