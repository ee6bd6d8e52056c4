"""Doors: Prefect flows whose only parameter is the path of a resolved study file.

Prefect stores parameters and the text of errors in its database, and a folder's name can identify a patient.
So the file lies in a folder of the user that is named by the study alone, and Prefect gets the class of an
error in place of its text. A command records its run where a Prefect server is: the one that
``PREFECT_API_URL`` or Prefect's profile names, or that `taucal serve` runs for the study; else a door is a
plain function, and no server is started.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from prefect import Flow, State, tags
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import CancelledRun, Pause, TerminationSignal
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)

from flows.running.console import say, warn
from flows.running.environment import SERVED, state_folder
from flows.running.lifetime import end_orphans, end_with_parent, is_gone, process_tag
from flows.running.notify import send_notice
from flows.running.task_runs import Attempt, WorkFailed, privately
from pipeline.config import Study, load_study
from pipeline.errors import InputError
from pipeline.files import fingerprint, read_json, written_whole

T = TypeVar("T")
SERVER = "TAUCAL_SERVE_PID"
"""Environment variable with the id of the process that serves; a flow ends when it does."""
PLACE = SERVED
_SECONDS_TO_ANSWER = 5


class _Command(NamedTuple):
    """A study that a command of this process runs, and the path that its door gets."""

    path: str
    study: Study


_commands: list[_Command] = []


def run_door(door: Flow[[str], T], study: Study) -> T:
    """Run a door for a command, which gets the error itself where it fails.

    Raises
    ------
    InputError
        If a server is named that does not answer.
    """
    api = api_of(study)
    path = store_study(study)
    _commands.append(_Command(path, study))
    try:
        return door.fn(path) if api is None else _recorded(door, path, api)
    except WorkFailed as failed:
        raise failed.error from None
    finally:
        _commands.pop()


def _recorded(door: Flow[[str], T], path: str, api: str) -> T:
    with contextlib.ExitStack() as stack:
        stack.enter_context(temporary_settings({PREFECT_API_URL: api}))
        if "heartbeat_frequency" not in get_current_settings().flows.model_fields_set:
            # Its end takes a second.
            stack.enter_context(temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}))
        end_orphans([door.name])
        stack.enter_context(tags(process_tag()))
        done = Attempt(functools.partial(door.fn, path))
        shown = door.with_options()
        shown.fn = functools.wraps(door.fn)(lambda _path: done.tried())
        try:
            return shown(path)
        except WorkFailed:
            raise
        except TerminationSignal:
            raise KeyboardInterrupt from None
        except CancelledRun:
            raise
        except Exception as error:  # noqa: BLE001 - Prefect's own
            warn(f"Prefect cannot show the run of {door.name!r} ({type(error).__name__}); it goes on.")
            return done.whatever_prefect_says()


@contextlib.contextmanager
def opened(path: str) -> Iterator[Study]:
    """Read the study of a door's run; an error leaves as the name of its class alone.

    Where no command of this process waits for the result, start, end and error are printed here, and an error
    is sent to those whom the study notifies.

    Raises
    ------
    WorkFailed
        If the work raised an error: Prefect stores the name of its class, not its text.
    """
    command = next((c for c in reversed(_commands) if c.path == path), None)
    if command is not None:
        with _quickly_after_interruption(), privately():
            yield command.study
        return
    if SERVER in os.environ:
        end_with_parent(int(os.environ[SERVER]))
    name, started = _name_of_run(), time.monotonic()
    _report(f"{name} started.")
    study = None
    try:
        study = _patient(load_study(Path(path).expanduser()))
        yield study
    except Exception as error:  # noqa: BLE001 - raised again as its class, whatever it is
        error = error.error if isinstance(error, WorkFailed) else error
        _report(f"{name} failed after {time.monotonic() - started:.0f} s: {error}")
        if study is not None:
            send_notice(study, "failure", {"flow": name, "kind": type(error).__name__})
        raise WorkFailed(error) from None
    except Pause:
        _report(f"{name} waits for an answer in Prefect's page.")
        raise
    _report(f"{name} ended after {time.monotonic() - started:.0f} s.")


def _report(sentence: str) -> None:
    say(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {sentence}")


def _name_of_run() -> str:
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return "flow" if context is None or context.flow is None else context.flow.name


def deployment_name(study: Study) -> str:
    """Return the name that the deployments of a study have in Prefect.

    Examples
    --------
    >>> deployment_name(Study(name="Tau/2026", output="x", cohort={"path": "x"}))
    'Tau-2026'
    """
    return study.name.replace("/", "-").replace("%", "-")


def name_run() -> str:
    """Return the name of a flow run in Prefect: its study, and when it began.

    Given to Prefect as `flow_run_name`.
    """
    from prefect.runtime import flow_run

    path = str((flow_run.parameters or {}).get("study", ""))
    return f"{Path(path).stem.rpartition('-')[0] or Path(path).stem} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


ENDING: list[bool] = []
"""Not empty once serving ends: the runs that it ends itself have not crashed."""


def report_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Report that a flow's process was killed; Prefect calls this in the process that serves."""
    if ENDING or _commands:
        return
    _report(f"{flow.name} crashed.")
    study = load_study(Path(str(flow_run.parameters["study"])).expanduser())
    send_notice(study, "failure", {"flow": flow.name, "kind": "Crashed"})


@contextlib.contextmanager
def _quickly_after_interruption() -> Iterator[None]:
    """After an interruption, let Prefect not wait for a server that may have been ended too."""
    try:
        yield
    except (KeyboardInterrupt, TerminationSignal):
        # Until this process ends, which is now.
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}).__enter__()
        raise


def _patient(study: Study) -> Study:
    """Return a study that waits for another process: refused, a retraining is lost for a month."""
    waits = {"wait": True}
    sections = {
        "ingest": study.ingest.model_copy(update=waits),
        "retrain": study.retrain.model_copy(update=waits),
    }
    return study.model_copy(update=sections)


def store_study(study: Study) -> str:
    """Write a study with all its settings to a private file; return the path, from ``~`` where it is there.

    The same settings have the same file, which is named by the study and a fingerprint.
    """
    text = _absolute(study).to_yaml()
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in study.name)
    path = state_folder() / "studies" / f"{name}-{fingerprint(text)[:12]}.yaml"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not path.is_file():  # nobody else may look into its folder
        with written_whole(path) as beside:
            beside.write_text(text, encoding="utf-8")
        path.chmod(0o600)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - never raises
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _absolute(study: Study) -> Study:
    """Return a study whose folders do not depend on where a process is started."""
    ingest: dict[str, Any] = {
        key: found.resolve() for key in ("source", "key_file") if (found := getattr(study.ingest, key))
    }
    ingest["more_sources"] = tuple(folder.resolve() for folder in study.ingest.more_sources)
    return study.model_copy(
        update={
            "output": study.output.resolve(),
            "cohort": study.cohort.model_copy(update={"path": study.cohort.path.resolve()}),
            "ingest": study.ingest.model_copy(update=ingest),
        }
    )


def api_of(study: Study) -> str | None:
    """Return the address of the Prefect server that records runs of a study; None where there is none.

    Raises
    ------
    InputError
        If a server is named that does not answer.
    """
    named = PREFECT_API_URL.value()
    if named:
        check_reachable(named)
        return str(named)
    try:
        stored = read_json(study.output / PLACE)
    except (OSError, ValueError):
        return None
    return None if is_gone(stored["process"]) else str(stored["api"])


def check_reachable(api: str) -> None:
    """Ask a Prefect server for its health once, for a few seconds.

    Raises
    ------
    InputError
        If it does not answer.
    """
    try:
        with urllib.request.urlopen(f"{api.rstrip('/')}/health", timeout=_SECONDS_TO_ANSWER):
            return
    except urllib.error.HTTPError as error:
        if error.code != 404:
            return  # it asks for a password, or is busy: Prefect itself knows what to do
        found = "the answer is 404, Not Found"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        found = (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
    raise InputError(
        f"The Prefect server that PREFECT_API_URL names does not answer ({found})",
        where=api,
        hint="start it, correct it to end in /api, or unset it; `prefect config view` shows where it is set",
    )
