"""Serve: the schedules of a study, with Prefect's and MLflow's pages, until somebody ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.runner import Runner
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.running.console import say, show_table
from flows.running.notify import tell
from flows.running.orphans import end_orphans
from flows.serving import deployments as deployed
from flows.serving.schedules import INNER_FLOWS, SCHEDULES, Schedule, deployment_of, forget_schedules, planned
from flows.serving.servers import Endpoint, Server, mlflow_server, place_of, prefect_server, wait_until_ready
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import InputError, TaucalError
from pipeline.files import exclusive, not_writable
from pipeline.processes import environment

_SECONDS_TO_STOP = 60.0


def serve(study: Study) -> None:
    """Run the schedules of a study until Ctrl-C or SIGTERM; everything that was started ends with it.

    Prefect's server is the one that ``PREFECT_API_URL`` names, else one is started here; so is MLflow's
    where the study keeps its runs in a database. A schedule that is not in the study is paused.

    Raises
    ------
    ConfigError
        If a cron line is none, or nothing would be started.
    InputError
        If a port is in use, or the schedules of this study run already.
    TaucalError
        If a server does not start, or ends.
    """
    schedules = planned(study)
    folder = study.output.resolve() / ".serve"
    _make_private(folder)
    with (
        exclusive(folder / "lock", "schedules of this study", wait=False),
        environment(_for_children(_write_private(study, folder))),
        _servers(study, folder) as servers,
    ):
        orphans = end_orphans([*(flow.name for flow in SCHEDULES.values()), *INNER_FLOWS])
        if orphans:
            say(f"{orphans} runs of a process that was killed are ended.")
            tell(study, "failure", {"kind": "Crashed", "runs": orphans})
        asyncio.run(_run(study, schedules, servers))
    say("Ended; nothing is left running.")


def _for_children(study_file: Path) -> dict[str, str]:
    return {
        deployed.STUDY: str(study_file),
        deployed.SERVER: str(os.getpid()),
        "PYTHONSAFEPATH": "1",  # a folder `flows` where the command was typed is not ours
    }


@contextlib.contextmanager
def _servers(study: Study, folder: Path) -> Iterator[list[Server]]:
    """Start what is not there yet; yield what was started, with Prefect's address in force."""
    theirs = PREFECT_API_URL.value()
    store = tracking.store_of(study.tracking, study.output)
    remote = store.uri.startswith(("http://", "https://", "databricks"))
    # All is looked at before anything is started.
    if theirs:
        _check_reachable(theirs)
    prefect = None if theirs else _place(study, "prefect_port")
    mlflow = None if remote else _place(study, "mlflow_port")
    with contextlib.ExitStack() as stack:
        servers: list[Server] = []
        rows = []
        if prefect is not None:
            servers.append(stack.enter_context(prefect_server(prefect, folder)))
        if mlflow is not None:
            # A new SQLite file is made before two processes open it at once.
            store.client()
            servers.append(stack.enter_context(mlflow_server(mlflow, folder, store.uri, store.artifacts)))
        for server in servers:
            wait_until_ready(server, "/api/health" if server.name == "Prefect" else "/health")
            rows.append([server.name, server.url])
        rows += [["Prefect", theirs.removesuffix("/api")]] if theirs else []
        rows += [["MLflow", store.address]] if remote else []
        show_table("Pages", ["what", "where"], sorted(rows))
        api = theirs or f"{servers[0].url}/api"
        stack.enter_context(environment({"PREFECT_API_URL": api}))
        stack.enter_context(temporary_settings({PREFECT_API_URL: api}))
        try:
            yield servers
        finally:  # together: each takes seconds
            for server in servers:
                server.let_go()


def _check_reachable(api: str) -> None:
    with get_client(sync_client=True) as client:
        failure = client.api_healthcheck()
    if failure is not None:
        raise InputError(
            f"PREFECT_API_URL must name a Prefect server that answers, got {type(failure).__name__}",
            where=api,
            hint="start it, mend the address, or unset the variable: then a server is started here",
        )


def _place(study: Study, setting: str) -> Endpoint:
    place = place_of(study.serve.host, getattr(study.serve, setting), f"serve.{setting}")
    if not place.is_loopback:
        say(
            f"WARNING: port {place.port} is open to whoever reaches this machine, on {place.host}: these "
            "servers ask for no password, and all that is there can be read and changed."
        )
    return place


async def _run(study: Study, schedules: Sequence[Schedule], servers: Sequence[Server]) -> None:
    """Let Prefect's runner start what is due, until a signal comes or something ends."""
    await forget_schedules(study)
    runner = Runner(name="taucal", pause_on_shutdown=True)
    for schedule in schedules:
        await runner.aadd_deployment(await deployment_of(study, schedule))
    work = asyncio.create_task(runner.start())
    while not (runner.started or work.done()):
        await asyncio.sleep(0.05)
    stop = asyncio.Event()
    # After the runner's start, which takes SIGTERM for itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    show_table("Schedules, in UTC", ["what", "when"], [[s.flow.name, s.cron] for s in schedules])
    say("Serving; Ctrl-C ends it.")
    try:
        while not (stop.is_set() or work.done()):
            for server in servers:
                server.check()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)
        if work.done() and (error := work.exception()) is not None:
            raise TaucalError(
                f"Prefect must go on starting runs, it ended with {type(error).__name__}",
                where=str(PREFECT_API_URL.value()),
                hint="see that the server answers, then serve again",
            ) from error
    finally:
        await _stop(runner, work, deaf=any(server.process.poll() is not None for server in servers))


async def _stop(runner: Runner, work: asyncio.Task[None], *, deaf: bool) -> None:
    """End the runs and pause the schedules; a server that is gone cannot be told."""
    say("Ending what runs ...")
    deployed.ENDING.set()
    try:
        async with asyncio.timeout(_SECONDS_TO_STOP / 10 if deaf else _SECONDS_TO_STOP):
            if deaf:
                runner.pause_on_shutdown = False
                work.cancel()
            elif runner.started:
                await runner.astop()
            await work
    except asyncio.CancelledError:
        if not deaf:
            raise
    except Exception as error:  # noqa: BLE001 - children end with this process in any case
        say(f"Prefect could not be told of the end: {type(error).__name__}.")


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise not_writable(folder, error) from error


def _write_private(study: Study, folder: Path) -> Path:
    """Write the resolved study for the flows; it holds what `without_places` leaves out."""
    path = folder / "study.yaml"
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a handle, so that no moment is public
        stream.write(study.to_yaml())
    return path
