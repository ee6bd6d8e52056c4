"""Wait for a lock that another process holds, and print whose it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flows.running.console import say
from pipeline.errors import InputError
from pipeline.files import exclusive


@contextlib.contextmanager
def locked(lock: Path, what: str, *, wait: bool) -> Iterator[bool]:
    """Hold a lock file as `pipeline.files.exclusive` does; print who holds it, yield whether it waited.

    Parameters
    ----------
    what : str
        What is locked, for the message.
    wait : bool
        Wait for the holder, or refuse at once.

    Raises
    ------
    InputError
        If another process holds it and `wait` is false, with its id, user, machine and start.
    """
    waited = False
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(lock, what, wait=False))
        except InputError as error:
            if not wait:
                raise
            say(f"Waiting. {error.problem}.")
            stack.enter_context(exclusive(lock, what))
            waited = True
        yield waited
