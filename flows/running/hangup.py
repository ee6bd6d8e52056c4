"""A terminal that is closed, as when a connection is lost, ends a command as Ctrl-C does.

By default it would kill the command alone, and the servers that it started would stay with their ports.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from types import FrameType


def ends_this_process() -> bool:
    """Whether this process ends with its terminal; under ``nohup`` it does not."""
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle the signal as that of Ctrl-C.

    Raises
    ------
    KeyboardInterrupt
        Always.
    """
    leave_terminal()
    signal.default_int_handler(number, frame)


def leave_terminal() -> None:
    """Let what is still printed go nowhere: an error that a terminal is gone would stop the tidying up."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        # Of a terminal that is gone, `isatty` does not know that it was one.
        if stream is not None and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
