"""Prefect's server for one process ends with it, also when that process is killed.

Where no server is named, Prefect starts one for the process at hand and stops it at its end; a killed process
stops nothing. So another one, started here, waits for both: ``python -m flows.running.ephemeral PID``
with a pipe as standard input, which the system closes when the starter is gone. Light to import.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

_GRACE_SECONDS = 8.0
_watchers: dict[int, subprocess.Popen[bytes]] = {}
"""Process id of a server to who waits beside it."""


def end_server_with_this_process() -> None:
    """Let somebody wait beside Prefect's server, if this process has started one; only on Linux."""
    started = sys.modules.get("prefect.server.api.server")
    if started is None or not hasattr(os, "pidfd_open"):
        return
    server = started.SubprocessASGIServer().server_process
    if server is None or server.pid in _watchers:
        return
    _watchers[server.pid] = subprocess.Popen(
        [sys.executable, "-m", "flows.running.ephemeral", str(server.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def end_with_starter(pid: int) -> None:
    """Wait until standard input is closed or the process has ended; end it where it has not."""
    # Ctrl-C reaches the whole group; the starter stops its server itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ProcessLookupError):
        # Unlike its number, this stands for no other process later.
        process = os.pidfd_open(pid)
        ended, _, _ = select.select([process, sys.stdin], [], [])
        if process not in ended:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            if not select.select([process], [], [], _GRACE_SECONDS)[0]:
                signal.pidfd_send_signal(process, signal.SIGKILL)


if __name__ == "__main__":
    end_with_starter(int(sys.argv[1]))
