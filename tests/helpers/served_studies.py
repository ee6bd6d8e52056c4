"""`taucal serve` as its operator meets it: real servers and runs, in processes that end with the tests."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psutil

MARK = "TAUCAL_TEST_OF_SERVE"
PR_SET_PDEATHSIG = 1


class Served:
    """`taucal serve` in a process of its own, with everything it starts; it ends with this process."""

    all: ClassVar[list[Served]] = []

    def __init__(self, folder: Path, home: Path, *overrides: str) -> None:
        self.mark = uuid.uuid4().hex
        self.all.append(self)
        self.output = folder / f"said-{self.mark}.txt"
        environment = {
            **os.environ, MARK: self.mark, "PREFECT_HOME": str(home), "PREFECT_API_URL": "",
            "XDG_STATE_HOME": str(home / "state"),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        }  # fmt: skip
        taucal = str(Path(sys.executable).with_name("taucal"))
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [taucal, "serve", str(folder / "study.yaml"), *(x for o in overrides for x in ("--set", o))],
                stdout=out, stderr=out, env=environment, start_new_session=True,
                preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            )  # fmt: skip
        wait_for(lambda: "Serving" in self.said or self.process.poll() is not None, 600)
        assert self.process.poll() is None, self.said
        self.prefect, self.mlflow = (
            re.search(rf"{name}\D+(http://\S+)", self.said)[1] for name in ("Prefect", "MLflow")
        )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def living(self) -> list[psutil.Process]:
        """Every process that it has started, also one whose parent is gone."""
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            if marked:
                found.append(process)
        return found

    def end(self, number: signal.Signals) -> None:
        """Send a signal to this one process and wait until all that it started is gone too."""
        os.kill(self.process.pid, number)
        self.process.wait(300)
        wait_for(lambda: not self.living(), 300)

    @contextmanager
    def client(self) -> Iterator[Any]:
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: f"{self.prefect}/api"}), get_client(sync_client=True) as it:
            yield it

    def states(self) -> dict[str, str]:
        """State of the runs of the shift check."""
        with self.client() as client:
            names = {run.id: client.read_flow(run.flow_id).name for run in client.read_flow_runs()}
            return {
                names[run.id]: run.state_name
                for run in client.read_flow_runs()
                if "shift" in names.get(run.id, "") and run.state_name not in ("Scheduled", "Late")
            }

    def run(self, deployment: str, timeout: float, study: str = "tiny") -> Any:
        from prefect.deployments import run_deployment

        with self.client():
            return run_deployment(f"{deployment}/{study}", timeout=timeout, poll_interval=0.3)


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict]]]:
    notices: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            notices.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", notices
    server.shutdown()
    server.server_close()
