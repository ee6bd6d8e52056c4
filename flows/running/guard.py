"""Run a command that ends with whoever started it, however that one ends.

``python -m flows.running.guard COMMAND...`` with a pipe as standard input, of which the starter holds
the other end and writes nothing: when the starter is gone, the system closes it, and the command and all it
started end.
Light to import: it stands beside every server.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

_LOOK_EVERY_SECONDS = 0.5
_GRACE_SECONDS = 8.0


def run_guarded(command: Sequence[str]) -> int:
    """Run the command until it ends or standard input is closed; return its exit status."""
    # Ctrl-C, and the end of a whole group of processes, reach everybody: the starter says when to end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _carry_on)  # not SIG_IGN, which the command would inherit
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as child:
        try:
            while child.poll() is None:
                readable, _, _ = select.select([sys.stdin], [], [], _LOOK_EVERY_SECONDS)
                if readable:
                    break
        finally:
            _end_group(child)
    return child.returncode


def _carry_on(*_: object) -> None:
    pass


def _end_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_SECONDS)
        os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(run_guarded(sys.argv[1:]))
