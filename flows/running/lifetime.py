"""The life of processes: what ends with whom, and which flow runs a killed process has left behind.

A process that is killed can neither stop what it started nor report to Prefect. So a watcher runs beside
every server and ends it when the starter is gone, and every flow run bears its process as a tag, by which a
later process finds it. Light to import: ``python -m flows.running.lifetime`` is such a watcher.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pipeline.files import fingerprint

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_LOOK_EVERY_SECONDS = 0.5
_GRACE_SECONDS = 8.0
_TAG = re.compile(r"pid:(?P<host>\w+):(?P<boot>\w*):(?P<pid>\d+):(?P<started>\d+)")
_SAME_START = 200
"""Hundredths of a second: the time of boot that the system reports may jump by a second."""
_PAGE = 200


def watched(command: Sequence[str]) -> list[str]:
    """Return a command that runs `command`, and ends it and all it started when standard input is closed.

    Start it with a pipe as standard input and write nothing: the system closes it when the starter is gone.
    """
    return [sys.executable, "-P", "-m", "flows.running.lifetime", *command]


def end_with_parent(parent: int) -> None:
    """End this process when its parent is gone: a killed parent cannot end it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def process_tag(pid: int | None = None) -> str:
    """Return a tag that names one process, this one by default, among all that ever ran on any machine.

    It holds fingerprints of the machine's name, which could identify its owner, and of its boot, then the
    process id and its start in hundredths of a second since the boot: ids are used again, this pair is not.

    Raises
    ------
    psutil.NoSuchProcess
        If there is no such process.
    """
    pid = os.getpid() if pid is None else pid
    return f"pid:{_host()}:{_boot()}:{pid}:{_start_of(pid)}"


def is_process_tag(tag: str) -> bool:
    """Whether a tag names a process.

    Examples
    --------
    >>> is_process_tag(process_tag()), is_process_tag("nightly")
    (True, False)
    """
    return _TAG.fullmatch(tag) is not None


def is_gone(tag: str) -> bool:
    """Whether `tag` names a process that has surely ended.

    Of the processes of other machines nothing is known.

    Examples
    --------
    >>> is_gone(process_tag()), is_gone("nightly")
    (False, False)
    """
    named = _TAG.fullmatch(tag)
    if named is None or named["host"] != _host():
        return False
    if named["boot"] != _boot():
        return True
    try:
        return abs(_start_of(int(named["pid"])) - int(named["started"])) > _SAME_START
    except psutil.NoSuchProcess:
        return True


def end_orphans(flow_names: Sequence[str]) -> int:
    """Force runs of these flows to Crashed whose process is gone.

    Prefect would call them running for ever, and they would fill every concurrency limit. Runs without a
    process tag, and those of other machines, are left alone.

    Parameters
    ----------
    flow_names : sequence of str
        Names of doors.

    Returns
    -------
    int
        How many were ended.
    """
    # Deferred: Prefect takes a second, and a watcher has no use for it.
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.states import Crashed

    with get_client(sync_client=True) as client:
        # A run that a schedule has started bears the tag of the process that serves, and its own.
        orphans = [run for run in _unfinished(client, flow_names) if any(map(is_gone, run.tags))]
        for run in orphans:
            state: State[Any] = Crashed(message="The process of this run is gone.")
            client.set_flow_run_state(run.id, state, force=True)
    return len(orphans)


def _unfinished(client: SyncPrefectClient, flow_names: Sequence[str]) -> Iterator[FlowRun]:
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter

    for offset in range(0, 100 * _PAGE, _PAGE):
        page = client.read_flow_runs(
            flow_filter=FlowFilter.model_validate({"name": {"any_": list(flow_names)}}),
            flow_run_filter=FlowRunFilter.model_validate(
                {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
            ),
            limit=_PAGE,
            offset=offset,
        )
        yield from page
        if len(page) < _PAGE:
            return


def _host() -> str:
    return fingerprint(platform.node())[:8]


def _boot() -> str:
    try:
        return fingerprint(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))[:8]
    except OSError:
        return ""


def _start_of(pid: int) -> int:
    process = psutil.Process(pid)
    if process.status() == psutil.STATUS_ZOMBIE:
        raise psutil.NoSuchProcess(pid)
    seconds: float = process.create_time() - psutil.boot_time()
    return round(100 * seconds)


def _run_and_end(command: Sequence[str]) -> int:
    """Run a command until it ends or standard input is closed; return its exit status."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as child:
        try:
            _wait_for_starter(lambda: child.poll() is None)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_GRACE_SECONDS)
                os.killpg(child.pid, signal.SIGKILL)
    return child.returncode


def _wait_for_starter(is_alive: Callable[[], bool]) -> None:
    while is_alive() and not select.select([sys.stdin], [], [], _LOOK_EVERY_SECONDS)[0]:
        pass


if __name__ == "__main__":
    # Ctrl-C, and the end of a whole group of processes or of their terminal, reach everybody: the starter
    # decides when to end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the command would inherit
    sys.exit(_run_and_end(sys.argv[1:]))
