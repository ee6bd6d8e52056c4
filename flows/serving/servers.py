"""Start the servers that `serve` needs: Prefect's and MLflow's, on loopback unless told otherwise."""

from __future__ import annotations

import contextlib
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

from pipeline.errors import InputError, TaucalError

_SECONDS_TO_START = 180.0


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens, and the setting that says so."""

    host: str
    port: int
    setting: str

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

    def let_go(self) -> None:
        """Let it end, without waiting for that."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def check(self) -> None:
        """Raise if it has ended.

        Raises
        ------
        TaucalError
            With what it said last.
        """
        if self.process.poll() is not None:
            raise TaucalError(
                f"The {self.name} server must run as long as the schedules, it ended: {_last_line(self.log)}",
                where=str(self.log),
            )


def place_of(host: str, port: int, setting: str) -> Endpoint:
    """Return a place that is free now; port 0 means any.

    Raises
    ------
    InputError
        If the port is in use or the host is none of this machine's.

    Examples
    --------
    >>> place_of("127.0.0.1", 0, "serve.prefect_port").port > 0
    True
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As servers do: a port whose last connections are still being wound up is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return Endpoint(host, probe.getsockname()[1], setting)
    except socket.gaierror as error:
        raise InputError(f"serve.host must be an address of this machine, got {host}") from error
    except OSError as error:
        raise InputError(
            f"A port to serve on must be free, got {port} on {host}: {error.strerror}",
            where=setting,
            hint=f"end what listens there, or set {setting} to another port or to 0 for any",
        ) from error


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], place: Endpoint, folder: Path, environment: Mapping[str, str]
) -> Iterator[Server]:
    """Run a server for as long as the block runs; it ends too when this process is killed.

    Parameters
    ----------
    name : str
        For sentences.
    command : sequence of str
        Arguments of ``python -m``.
    folder : Path
        What the server says is written there.
    environment : mapping
        Added to this process's.
    """
    log = folder / f"{name.lower()}.log"
    guarded = [sys.executable, "-m", "flows.running.guard", sys.executable, "-m", *command]
    with log.open("wb") as said:
        process = subprocess.Popen(
            guarded,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            env={**os.environ, **environment},
        )
    server = Server(name, place.url, process, log)
    try:
        yield server
    finally:
        server.let_go()
        process.wait()


def prefect_server(place: Endpoint, folder: Path) -> contextlib.AbstractContextManager[Server]:
    """Run Prefect's server with its scheduler and pages."""
    where = ["--host", place.host, "--port", str(place.port)]
    return running("Prefect", ["prefect", "server", "start", *where], place, folder, {})


def mlflow_server(
    place: Endpoint, folder: Path, uri: str, artifacts: str | None
) -> contextlib.AbstractContextManager[Server]:
    """Run MLflow's server for a store that is kept in a database."""
    where = ["--host", place.host, "--port", str(place.port), "--workers", "1"]
    root = [] if artifacts is None else ["--default-artifact-root", artifacts]
    # The address can hold a password: everybody on a machine can read a command, not an environment.
    secret = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return running("MLflow", ["mlflow", "server", *where, *root], place, folder, secret)


def wait_until_ready(server: Server, health: str) -> None:
    """Wait until a server answers.

    Raises
    ------
    TaucalError
        If it ends or stays silent.
    """
    # Never by way of a proxy: these servers are on this machine.
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
        f"The {server.name} server must answer within {_SECONDS_TO_START:.0f} s, it did not: "
        f"{_last_line(server.log)}",
        where=str(server.log),
    )


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
