"""How often Python searches for garbage: seldom while scans are reported, and not at the end.

By its own setting it would search again and again, for a quarter of the time that one report takes, and once
more, through all that torch and MLflow leave, before the process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator

NEW_OBJECTS = 100_000
"""New objects until Python searches again, in place of 700. Peak memory stays the same."""


@contextlib.contextmanager
def few_searches_for_garbage() -> Iterator[None]:
    """Let Python search for garbage rarely while the block runs; also a decorator."""
    before = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def no_search_for_garbage() -> Iterator[None]:
    """Import without collecting garbage, then or later, in what modules leave: it lives as long as we do."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def end_without_search_for_garbage() -> None:
    """Let the process end without a last search: what it holds goes with it, and no file waits for that."""
    atexit.register(gc.freeze)
