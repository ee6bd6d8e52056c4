"""Start Prefect's and MLflow's servers, on loopback unless the study names another host."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.running.console import say, show_table
from flows.running.doors import PLACE, check_reachable
from flows.running.environment import bypass_proxy
from flows.running.lifetime import process_tag, watched
from flows.running.task_runs import MLFLOW
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import InputError, TaucalError
from pipeline.files import write_json
from pipeline.processes import environment, import_places

_SECONDS_TO_START = 180.0


@contextlib.contextmanager
def servers_of(study: Study, folder: Path) -> Iterator[list[Server]]:
    """Start the servers that are not there yet; yield what was started, with Prefect's address in force."""
    theirs = PREFECT_API_URL.value()
    store = tracking.store_of(study.tracking, study.output)
    remote = store.uri.startswith(("http://", "https://", "databricks"))
    # All is checked before anything is started.
    if theirs:
        check_reachable(theirs)
    prefect = None if theirs else endpoint_of(study, "prefect_port")
    mlflow = None if remote else endpoint_of(study, "mlflow_port")
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
        pages = _show_runs(servers[-1].url, store) if mlflow is not None else {}
        stack.enter_context(_in_force(api, pages, folder.parent / PLACE))
        try:
            yield servers
        finally:  # together: each takes seconds
            for server in servers:
                server.begin_to_stop()


def _show_runs(base: str, store: tracking.Store) -> dict[str, str]:
    """Print where the runs are with their metrics; return the variable with the address of MLflow's pages."""
    tracking.describe_runs(store.client(), store.experiment_id())
    say(f"Runs with their metrics: {base}/{tracking.runs_page(store.experiment_id())}")
    return {MLFLOW: base}


@contextlib.contextmanager
def _in_force(api: str, pages: Mapping[str, str], place: Path) -> Iterator[None]:
    """Let flows that this process starts, and commands of the study, use the server at an address."""
    with environment({"PREFECT_API_URL": api, **pages}), temporary_settings({PREFECT_API_URL: api}):
        write_json(place, {"api": api, "process": process_tag()})
        try:
            yield
        finally:
            place.unlink(missing_ok=True)


def endpoint_of(study: Study, setting: str) -> Endpoint:
    """Return a free endpoint as a setting of section `serve` asks for; warn where others can reach it.

    Raises
    ------
    InputError
        As `free_endpoint` does.
    """
    endpoint = free_endpoint(study.serve.host, getattr(study.serve, setting), f"serve.{setting}")
    bypass_proxy(endpoint.host)
    if not endpoint.is_loopback:
        say(
            f"WARNING: port {endpoint.port} on {endpoint.host} is open to everybody who can reach this "
            "machine. The server has no password: everybody can read and change its data."
        )
    return endpoint


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address for a client on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, eq=False)
class Server:
    """A running server."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def begin_to_stop(self) -> None:
        """Let the server end, without waiting for that."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def check(self) -> None:
        """Raise if the server has ended.

        Raises
        ------
        TaucalError
            With the last line of its log.
        """
        if self.process.poll() is not None:
            raise TaucalError(
                f"The {self.name} server has ended: {_last_line(self.log)}",
                where=str(self.log),
                hint="read its log, then serve again",
            )


def free_endpoint(host: str, port: int, setting: str) -> Endpoint:
    """Return an endpoint that is free now.

    Parameters
    ----------
    port : int
        0 for any free port.
    setting : str
        Where the port comes from, for errors.

    Raises
    ------
    InputError
        If the port is in use or the host is no address of this machine.

    Examples
    --------
    >>> free_endpoint("127.0.0.1", 0, "serve.prefect_port").port > 0
    True
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As servers do: a port whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return Endpoint(host, probe.getsockname()[1])
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise InputError(
                f"{host} is not an address of this machine",
                where="serve.host",
                hint="use 127.0.0.1, which only this machine reaches, or one of its addresses",
            ) from error
        raise InputError(
            f"Port {port} on {host} is not free: {error.strerror}",
            where=setting,
            hint=f"end the program that uses it, or set {setting} to another port, or to 0 for any free port",
        ) from error


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], endpoint: Endpoint, folder: Path, variables: Mapping[str, str]
) -> Iterator[Server]:
    """Run a server for as long as the block runs; it ends too when this process is killed.

    Parameters
    ----------
    name : str
        For sentences and the name of the log.
    command : sequence of str
        Arguments of ``python -m``.
    folder : Path
        Where its log is written.
    variables : mapping
        Added to this process's environment.
    """
    log = folder / f"{name.lower()}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            watched([sys.executable, "-m", *command]),
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **import_places(), **variables},
        )
    server = Server(name, endpoint.url, process, log)
    try:
        yield server
    finally:
        server.begin_to_stop()
        process.wait()


def prefect_server(endpoint: Endpoint, folder: Path) -> contextlib.AbstractContextManager[Server]:
    """Run Prefect's server with its scheduler and pages."""
    where = ["--host", endpoint.host, "--port", str(endpoint.port)]
    # Its pages would ask port 4200 otherwise.
    pages = {"PREFECT_UI_API_URL": f"{endpoint.url}/api"}
    return running("Prefect", ["prefect", "server", "start", *where], endpoint, folder, pages)


def mlflow_server(
    endpoint: Endpoint, folder: Path, uri: str, artifacts: str | None
) -> contextlib.AbstractContextManager[Server]:
    """Run MLflow's server for a store in a database."""
    where = ["--host", endpoint.host, "--port", str(endpoint.port), "--workers", "1"]
    root = [] if artifacts is None else ["--default-artifact-root", artifacts]
    # The address can hold a password: everybody on a machine can read a command, not an environment.
    secret = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return running("MLflow", ["mlflow", "server", *where, *root], endpoint, folder, secret)


def wait_until_ready(server: Server, health: str) -> None:
    """Wait until a server answers.

    Raises
    ------
    TaucalError
        If it ends or does not answer in time.
    """
    # Never through a proxy: these servers are on this machine.
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    limit = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < limit:
        server.check()
        try:
            with browser.open(server.url + health, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TaucalError(
        f"The {server.name} server did not answer within {_SECONDS_TO_START:.0f} s: {_last_line(server.log)}",
        where=str(server.log),
        hint="read its log; serve again when the machine is less busy",
    )


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "its log is empty"
