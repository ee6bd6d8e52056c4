"""Prefect's server for one process: it ends when that process is killed, and is left alone while it lives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of a process's end this way"),
]

SCRIPT = """
from flows.running.environment import set_quiet_defaults
set_quiet_defaults()
import time
from flows.running import ephemeral
from flows.running.steps import as_flow
def work():
    (server, watcher), = ephemeral._watchers.items()
    print(server, watcher.pid, flush=True)
    input()
as_flow("one", lambda: None)
as_flow("two", work)
"""


@pytest.fixture
def started():
    """A process in the middle of its second flow, its server and who watches that."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_API")}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=own,
    ) as process:  # fmt: skip
        server, watcher = map(int, process.stdout.readline().split())
        yield process, server, watcher
        process.kill()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for_the_end(*pids: int) -> None:
    limit = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < limit, "still alive"
        time.sleep(0.05)


def test_the_server_of_a_killed_process_ends(started):
    process, server, watcher = started
    assert is_alive(server)
    assert is_alive(watcher)
    process.kill()
    wait_for_the_end(server, watcher)


def test_at_the_usual_end_nobody_is_left(started):
    process, server, watcher = started
    process.communicate("\n", timeout=60)
    assert process.returncode == 0
    wait_for_the_end(server, watcher)
