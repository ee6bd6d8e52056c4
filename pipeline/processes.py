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
    thread holds. Only the parent answers Ctrl-C; its workers finish their job. They end when it is killed.

    Parameters
    ----------
    workers : int
        Most that run at once; each is started when there is a job for it.
    """
    context = multiprocessing.get_context("forkserver")
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    # Python 3.11 does not hand its places to the fork server.
    with environment({**dict.fromkeys(threads, "1"), **import_places()}):
        forkserver.ensure_running()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def preload(*modules: str) -> None:
    """Load modules once for the workers of all pools; call it before the first pool is opened.

    Parameters
    ----------
    modules : str
        Where the jobs are defined. Otherwise each worker imports them, which takes a second or two.
    """
    multiprocessing.set_forkserver_preload(["__main__", *modules])


def import_places() -> dict[str, str]:
    """Return environment variables by which a child interpreter imports from where this one does.

    Not from the current folder first: it may hold a `models` or `flows` that is not ours.
    """
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


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
    """Return free memory to the system; a worker of many scans would hold the most it ever needed.

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
