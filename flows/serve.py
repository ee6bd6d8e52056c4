"""Serve: the schedules of a study, with Prefect's and MLflow's pages, until it is ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from prefect.runner import Runner
from prefect.settings import PREFECT_API_URL

from flows.reports.read_desk import ReadDesk
from flows.running import doors, hangup
from flows.running.console import say, show_table
from flows.running.lifetime import end_orphans, process_tag
from flows.running.notify import send_notice
from flows.serving.reads_server import LOOPBACK, reads_served
from flows.serving.schedules import (
    APPROVE,
    NAMED_BEFORE,
    SCHEDULES,
    Schedule,
    check_name,
    deployment_of,
    forget_schedules,
    planned,
    remove_renamed,
)
from flows.serving.servers import Server, free_endpoint, servers_of
from pipeline.config import Study
from pipeline.errors import TaucalError
from pipeline.files import exclusive, not_writable
from pipeline.processes import environment, import_places

_SECONDS_TO_STOP = 60.0
_SERVED = "`taucal serve` or a worker already runs for this study: use its pages, or end it there"


def serve(study: Study) -> None:
    """Run the schedules of a study until Ctrl-C or SIGTERM; everything that was started ends with it.

    Prefect's server is the one that ``PREFECT_API_URL`` names, else one is started here; so is MLflow's
    where the study has its runs in a database. A schedule that is not in the study is paused.

    Raises
    ------
    ConfigError
        If a cron line is invalid, or nothing would be started.
    InputError
        If a port is in use, or another process serves this study.
    TaucalError
        If a server does not start, or ends.
    """
    schedules = planned(study)
    folder = study.output.resolve() / ".serve"
    _make_private(folder)
    with (
        exclusive(folder / "lock", "schedules of this study", wait=False, hint=_SERVED),
        environment({doors.SERVER: str(os.getpid()), **import_places()}),
        _reads_of(study),
        servers_of(study, folder) as servers,
    ):
        orphans = end_orphans([*(flow.name for flow in (*SCHEDULES.values(), APPROVE)), *NAMED_BEFORE])
        if orphans:
            runs = "flow run of a killed process is" if orphans == 1 else "flow runs of a killed process are"
            say(f"{orphans} {runs} marked as crashed.")
            send_notice(study, "failure", {"kind": "Crashed", "runs": orphans})
        check_name(study)
        remove_renamed(study)
        asyncio.run(_run(study, schedules, servers))
    say("Ended; nothing is left running.")


@contextlib.contextmanager
def _reads_of(study: Study) -> Iterator[None]:
    """Serve the form for readers, if the study wants it; scans alone are read."""
    port = study.serve.reads_port
    if port is None or study.cohort.kind != "bids":
        yield
        return
    endpoint = free_endpoint(LOOPBACK, port, "serve.reads_port")
    with reads_served(ReadDesk.of(study), endpoint):
        say(f"The form for readers: {endpoint.url}")
        yield


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise not_writable(folder, error) from error


async def _run(study: Study, schedules: Sequence[Schedule], servers: Sequence[Server]) -> None:
    """Let Prefect's runner start what is due, until a signal comes or something ends."""
    await forget_schedules(study)
    runner = Runner(name="taucal", pause_on_shutdown=True)
    path = doors.store_study(study)
    for schedule in [*schedules, Schedule(APPROVE, None)]:
        await runner.aadd_deployment(deployment_of(study, schedule, path, tags=[process_tag()]))
    work = asyncio.create_task(runner.start())
    while not (runner.started or work.done()):
        await asyncio.sleep(0.05)
    stop = asyncio.Event()
    # After the runner's start, which takes SIGTERM for itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if hangup.ends_this_process():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _hang_up, stop)
    show_table("Schedules, in UTC", ["what", "when"], [[s.flow.name, str(s.cron)] for s in schedules])
    say("Serving; Ctrl-C ends it.")
    try:
        while not (stop.is_set() or work.done()):
            for server in servers:
                server.check()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)
        if work.done() and (error := work.exception()) is not None:
            raise TaucalError(
                f"Prefect no longer starts runs: it ended with {type(error).__name__}",
                where=str(PREFECT_API_URL.value()),
                hint="check that the server answers, then serve again",
            ) from error
    finally:
        await _stop(runner, work, servers)


def _hang_up(stop: asyncio.Event) -> None:
    hangup.leave_terminal()
    stop.set()


async def _stop(runner: Runner, work: asyncio.Task[None], servers: Sequence[Server]) -> None:
    """End the runs and pause the schedules; without a server only the runs."""
    say("Ending the flows that run ...")
    doors.ENDING.append(True)
    ending = asyncio.create_task(_end_in_order(runner, work))
    limit = asyncio.get_running_loop().time() + _SECONDS_TO_STOP
    while not (ending.done() or _have_ended(servers)) and asyncio.get_running_loop().time() < limit:
        await asyncio.wait({ending}, timeout=0.2)
    if ending.done() and ending.exception() is None:
        return
    # Its runs end with this process in any case, and the next start marks them as crashed.
    why = "a server has ended" if _have_ended(servers) else type(_failed(ending)).__name__
    say(f"The end could not be reported to Prefect ({why}).")
    runner.pause_on_shutdown = False
    await _cancelled([ending, work])


async def _end_in_order(runner: Runner, work: asyncio.Task[None]) -> None:
    if runner.started:
        await runner.astop()
    await work


def _have_ended(servers: Sequence[Server]) -> bool:
    return any(server.process.poll() is not None for server in servers)


def _failed(ending: asyncio.Task[None]) -> BaseException:
    return (ending.exception() if ending.done() else None) or TimeoutError()


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait for that a few seconds: Prefect asks a server that is gone again and again."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_SECONDS_TO_STOP / 10)
