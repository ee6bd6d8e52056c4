"""Worker processes: fresh, of one thread each, and gone when their parent is."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of worker processes; what has not begun when the block ends is dropped.

    Workers come from a fork server, which has one thread: one forked from here may inherit a lock that a
    thread holds. Ctrl-C is the parent's to answer, while the work at hand is finished. Workers of a parent
    that was killed end too.

    Parameters
    ----------
    workers : int
        Started as work is handed in.
    """
    context = multiprocessing.get_context("forkserver")
    with environment(_of_workers()):
        forkserver.ensure_running()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def preload(*modules: str) -> None:
    """Let workers begin with these modules loaded; for a process of many pools, before it opens the first.

    Parameters
    ----------
    modules : str
        Where the jobs are defined. Each worker would import them for itself, a second or two every time.
    """
    multiprocessing.set_forkserver_preload(["__main__", *modules])


def _of_workers() -> dict[str, str]:
    """Return the environment of the fork server: one thread, and the places this process imports from.

    Python 3.11 tells it none of these places, and the folder it is called in may hold a `models` of its own.
    """
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**dict.fromkeys(threads, "1"), "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for as long as the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def give_back_memory() -> None:
    """Hand memory that is free back to the system; a worker of many scans would hold the most it ever needed.

    Does nothing where the C library is not glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    """Wait for the parent's end; a pool's workers would wait for work from a killed parent for ever."""
    parent.join()
    os._exit(1)
