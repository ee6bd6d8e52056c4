"""Run jobs here, in worker processes or on a Dask cluster; a failed job does not stop the others."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from flows.running.jobs import (
    JobFailed,
    Outcome,
    Runner,
    Started,
    Work,
    WorkerResources,
    attempt,
    in_worker,
    no_matter,
    share_resources,
    should_retry,
    worker_killed,
)
from pipeline.errors import TaucalError
from pipeline.processes import worker_pool


def finished(
    work: Work, orders: Sequence[Any], runner: Runner, started: Started = no_matter
) -> Iterator[Outcome]:
    """Do the job of every order and yield outcomes in the sequence in which jobs end.

    A job that fails is tried again, also one whose worker was killed. An early end of the loop, Ctrl-C
    too, ends the workers that this call started.

    Parameters
    ----------
    work : callable
        Of the top level of a module, so that workers can import it.
    started : callable
        Called with the index of each job that is handed to a worker.
    """
    if not orders:
        return
    if runner.kind == "local":
        yield from _here(work, orders, runner.retries, started)
    elif runner.kind == "processes":
        yield from _on_processes(work, orders, runner, started)
    else:
        # Deferred: the import takes half a second.
        from flows.running.clusters import on_dask

        yield from on_dask(work, orders, runner, started)


@contextlib.contextmanager
def beside(work: Work, order: Any) -> Iterator[None]:
    """Do one job in a worker process while the block runs, and wait for it; torch leaves it one core.

    Parameters
    ----------
    work : callable
        As in `finished`; its result is dropped, so it must write it to disk.

    Raises
    ------
    TaucalError
        The job's own, or if its worker was killed. An error of the block ends the job.
    """
    # Deferred: only training calls this, and has loaded torch.
    import torch

    threads = torch.get_num_threads()
    slot = _Slot(share_resources(2)[-1])
    try:
        job = slot.submit(work, order)
        torch.set_num_threads(max(1, threads - 1))
        yield
        _, error = slot.outcome(job)
        if error is not None:
            raise error
    finally:
        torch.set_num_threads(threads)
        slot.end()


def _here(work: Work, orders: Sequence[Any], retries: int, started: Started) -> Iterator[Outcome]:
    for index, order in enumerate(orders):
        started(index)
        tries = 0
        result, error = attempt(work, order)
        while error is not None and should_retry(error, tries, retries):
            tries += 1
            result, error = attempt(work, order)
        yield Outcome(index, result, error)


def _on_processes(work: Work, orders: Sequence[Any], runner: Runner, started: Started) -> Iterator[Outcome]:
    number = min(runner.workers, len(orders))
    todo = deque((index, 0) for index in range(len(orders)))
    idle = [_Slot(resources) for resources in share_resources(number)]
    slots = tuple(idle)
    running: dict[Future[Any], tuple[_Slot, int, int]] = {}
    try:
        while todo or running:
            while todo and idle:
                index, tries = todo.popleft()
                slot = idle.pop(0)
                started(index)
                running[slot.submit(work, orders[index])] = (slot, index, tries)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot, index, tries = running.pop(future)
                result, error = slot.outcome(future)
                idle.append(slot)
                if error is not None and should_retry(error, tries, runner.retries):
                    todo.append((index, tries + 1))
                else:
                    yield Outcome(index, result, error)
    finally:
        for slot in slots:
            slot.end()


class _Slot:
    """One worker process at a time, started when it is needed and again when it was killed.

    A pool of several workers breaks when one is killed, and does not report whose job that was.
    """

    def __init__(self, resources: WorkerResources) -> None:
        self._resources = resources
        self._open = contextlib.ExitStack()
        self._pool: Any = None
        self._pid: Future[int] | None = None

    def submit(self, work: Work, order: Any) -> Future[Any]:
        if self._pool is None:
            self._pool = self._open.enter_context(worker_pool(1))
            self._pid = self._pool.submit(os.getpid)
        future: Future[Any] = self._pool.submit(in_worker, self._resources, work, order)
        return future

    def outcome(self, future: Future[Any]) -> tuple[Any, TaucalError | None]:
        try:
            result, error = future.result()
        except BrokenProcessPool:
            self.end()
            return None, worker_killed()
        except Exception as error:  # noqa: BLE001 - a result that cannot be pickled, or an order
            return None, JobFailed(f"{type(error).__name__}: {error}")
        return result, error

    def end(self) -> None:
        """End the worker, in the middle of a job too."""
        if self._pool is None:
            return
        if self._pid is not None and self._pid.done() and self._pid.exception() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid.result(), signal.SIGTERM)
        self._open.close()
        self._pool, self._pid = None, None
