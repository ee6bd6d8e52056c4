"""Flow runs whose process is gone though Prefect still calls them running.

A process that is killed cannot tell Prefect. Its run stays Running and holds its place in every concurrency
limit. So each run carries the name of its process as a tag, and who finds the process gone ends the run.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Crashed

from pipeline.files import fingerprint

_UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_PAGE = 200
_PREFIX = "pid"


@dataclass(frozen=True)
class Process:
    """One process among all that ever ran on any machine.

    Parameters
    ----------
    host : str
        Stands for the machine's name, which could tell whose it is.
    boot : str
        Stands for the time since the machine was last started; empty where the system does not tell.
    pid : int
    started : str
        Clock ticks between boot and start of the process: numbers are used again, this pair is not.
    """

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def of_pid(cls, pid: int) -> Process | None:
        """Return the process that has this number now, or None."""
        started = _start_of(pid)
        return None if started is None else cls(_host(), _boot(), pid, started)

    @classmethod
    def from_tag(cls, tag: str) -> Process | None:
        """Read what `tag` wrote; None where the tag tells another thing.

        Examples
        --------
        >>> Process.from_tag("pid:0a1b:2c3d:47:100").pid
        47
        >>> Process.from_tag("nightly")
        """
        prefix, *parts = tag.split(":")
        if prefix != _PREFIX or len(parts) != 4 or not parts[2].isdigit():
            return None
        return cls(parts[0], parts[1], int(parts[2]), parts[3])

    @property
    def tag(self) -> str:
        """What stands at its flow runs."""
        return f"{_PREFIX}:{self.host}:{self.boot}:{self.pid}:{self.started}"

    def is_gone(self) -> bool:
        """Tell whether it has surely ended; of another machine's processes nothing is known."""
        return self.host == _host() and (self.boot != _boot() or self.started != _start_of(self.pid))


def process_tag() -> str:
    """Return the tag of this process."""
    this = Process.of_pid(os.getpid())
    assert this is not None, "a process that asks is alive"
    return this.tag


def end_orphans(flow_names: Sequence[str]) -> int:
    """Force runs of these flows to Crashed whose process is gone.

    Runs without a process at them, and those of other machines, are left alone.

    Parameters
    ----------
    flow_names : sequence of str
        As given to `flows.running.steps.as_flow`.

    Returns
    -------
    int
        How many were ended.
    """
    with get_client(sync_client=True) as client:
        orphans = [run for run in _unfinished(client, flow_names) if _is_orphan(run.tags)]
        for run in orphans:
            state: State[Any] = Crashed(message="The process of this run is gone.")
            client.set_flow_run_state(run.id, state, force=True)
    return len(orphans)


def _is_orphan(tags: Iterable[str]) -> bool:
    # A run that a schedule has started bears the tag of the process that serves, its parts their own.
    return any(process.is_gone() for tag in tags if (process := Process.from_tag(tag)) is not None)


def _unfinished(client: SyncPrefectClient, flow_names: Sequence[str]) -> Iterator[FlowRun]:
    unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED)))
    named = FlowFilter(name=FlowFilterName(any_=list(flow_names)))
    for offset in range(0, 100 * _PAGE, _PAGE):
        page = client.read_flow_runs(
            flow_filter=named, flow_run_filter=unfinished, limit=_PAGE, offset=offset
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


def _start_of(pid: int) -> str | None:
    """Return when a process was started, empty where the system does not tell, None where it is gone."""
    if not Path("/proc/self/stat").exists():
        return _alive_elsewhere(pid)
    try:
        # The name of the program stands in brackets and may hold anything; the state is what follows.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return None
    state, *rest = fields.split()
    return None if state in "ZX" else rest[18]


def _alive_elsewhere(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
