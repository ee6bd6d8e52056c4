"""A real Prefect server for a test, which leaves nothing in this process that talks to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.concurrency.services import ConcurrencySlotAcquisitionWithLeaseService
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.serving.servers import Server, free_endpoint, prefect_server, wait_until_ready


@contextlib.contextmanager
def recording_server(home: Path, *, in_force: bool = True) -> Iterator[Server]:
    """Start a server with its database in `home`; flows of this process are recorded there if `in_force`.

    Prefect keeps services with a connection each, which stay with the first server of a process: steps of a
    later flow never reach the second one. They are ended before, as other tests start them too, and after.
    """
    _end_services(seconds=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        with prefect_server(free_endpoint("127.0.0.1", 0, "here"), home) as started:
            wait_until_ready(started, "/api/health")
            with temporary_settings({PREFECT_API_URL: f"{started.url}/api"} if in_force else {}):
                yield started
                _end_services(seconds=20 if started.process.poll() is None else 1)


def _end_services(seconds: float) -> None:
    """Let Prefect's services of this process send what they hold, and end."""
    for service in (APILogWorker, EventsWorker, ConcurrencySlotAcquisitionWithLeaseService):
        service.drain_all(timeout=seconds, at_exit=False)
