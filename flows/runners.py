"""Run jobs here, in worker processes or on a Dask cluster; one that fails does not stop the others."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flows.console import console
from pipeline.config import DaskSettings
from pipeline.errors import InputError, TaucalError
from pipeline.processes import worker_pool

Work = Callable[[Any], Any]
"""Does one order; it and its orders must be picklable. Called again where it failed."""


class WorkerKilled(TaucalError):  # noqa: N818 - told as "the worker was killed"
    """The process that did a job is gone: killed, out of memory, or crashed in foreign code."""


class JobFailed(TaucalError):  # noqa: N818 - told as "the job failed"
    """A job raised an error of no kind of ours."""


@dataclass(frozen=True)
class Runner:
    """Where jobs run.

    Parameters
    ----------
    kind : {"local", "processes", "dask"}
        In this process one after the other, in processes of this machine, or on a Dask cluster.
    workers : int
        Of `processes`, and of a cluster that is started.
    retries : int
        How often a job that failed is tried again; not where its input is wrong.
    dask : DaskSettings
    """

    kind: Literal["local", "processes", "dask"] = "local"
    workers: int = 1
    retries: int = 1
    dask: DaskSettings = field(default_factory=DaskSettings)


@dataclass(frozen=True)
class Outcome:
    """What became of the order at `index`: a result, or the error of its last try."""

    index: int
    result: Any = None
    error: TaucalError | None = None


def finished(work: Work, orders: Sequence[Any], runner: Runner) -> Iterator[Outcome]:
    """Run every order and yield outcomes as they come, in any order.

    A job that fails is tried again, also one whose worker was killed. Whatever ends the loop early, Ctrl-C
    too, ends the workers that this call started.

    Parameters
    ----------
    work : callable
        Of the top level of a module, so that workers can import it.
    orders : sequence
    runner : Runner
    """
    if not orders:
        return
    if runner.kind == "local":
        yield from _here(work, orders, runner.retries)
    elif runner.kind == "processes":
        yield from _on_processes(work, orders, runner)
    else:
        # Its import takes half a second, which only those who use it are to wait.
        from flows.clusters import on_dask

        yield from on_dask(work, orders, runner)


def attempt(work: Work, order: Any) -> tuple[Any, TaucalError | None]:
    """Return the result of a job or its error, as one that can be pickled."""
    try:
        return work(order), None
    except TaucalError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - whatever it is, the other jobs go on
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        return None, JobFailed(f"{type(error).__name__}: {error}", culprit=where)


def worth_another(error: TaucalError, tries: int, retries: int) -> bool:
    """Tell whether a job that failed is tried again: wrong input stays wrong."""
    return tries < retries and not isinstance(error, InputError)


def _here(work: Work, orders: Sequence[Any], retries: int) -> Iterator[Outcome]:
    for index, order in enumerate(orders):
        tries = 0
        result, error = attempt(work, order)
        while error is not None and worth_another(error, tries, retries):
            tries += 1
            result, error = attempt(work, order)
        yield Outcome(index, result, error)


def _on_processes(work: Work, orders: Sequence[Any], runner: Runner) -> Iterator[Outcome]:
    number = min(runner.workers, len(orders))
    todo = deque((index, 0) for index in range(len(orders)))
    idle = [_Slot(place) for place in places(number)]
    slots = tuple(idle)
    running: dict[Future[Any], tuple[_Slot, int, int]] = {}
    try:
        while todo or running:
            while todo and idle:
                index, tries = todo.popleft()
                slot = idle.pop(0)
                running[slot.submit(work, orders[index])] = (slot, index, tries)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot, index, tries = running.pop(future)
                result, error = slot.outcome(future)
                idle.append(slot)
                if error is not None and worth_another(error, tries, runner.retries):
                    todo.append((index, tries + 1))
                else:
                    yield Outcome(index, result, error)
    finally:
        for slot in slots:
            slot.end()


@dataclass(frozen=True)
class Place:
    """What a worker may use of its machine: cores, and one GPU where there are several."""

    cores: tuple[int, ...] = ()
    gpu: str | None = None

    def take(self) -> None:
        """Restrict this process to it; a GPU only counts while CUDA is not yet in use."""
        if self.cores:
            # Elsewhere than on Linux the system alone shares out the cores.
            os.sched_setaffinity(0, self.cores)
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu


def places(workers: int) -> list[Place]:
    """Share out the cores and GPUs that this process may use, evenly and as long as they last."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    gpus = _gpus()
    found = []
    for n in range(workers):
        mine = cores[n * len(cores) // workers : (n + 1) * len(cores) // workers]
        # More workers than cores: some share one.
        mine = mine or cores[n % len(cores) : n % len(cores) + 1] if cores else []
        found.append(Place(tuple(mine), gpus[n % len(gpus)] if len(gpus) > 1 else None))
    return found


def _gpus() -> list[str]:
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated is not None:
        return [name for name in stated.split(",") if name]
    return [str(n) for n in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def in_worker(place: Place, work: Work, order: Any) -> tuple[Any, TaucalError | None]:
    """Do a job in a worker process, which is to be silent: its parent tells what is to be told."""
    console.quiet = True
    place.take()
    return attempt(work, order)


class _Slot:
    """One worker process at a time, started when it is needed and again when it was killed.

    A pool of several breaks as a whole when one of its workers is killed, and does not tell whose job it was.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._open = contextlib.ExitStack()
        self._pool: Any = None
        self._pid: Future[int] | None = None

    def submit(self, work: Work, order: Any) -> Future[Any]:
        if self._pool is None:
            self._pool = self._open.enter_context(worker_pool(1))
            self._pid = self._pool.submit(os.getpid)
        future: Future[Any] = self._pool.submit(in_worker, self._place, work, order)
        return future

    def outcome(self, future: Future[Any]) -> tuple[Any, TaucalError | None]:
        try:
            result, error = future.result()
        except BrokenProcessPool:
            self.end()
            return None, WorkerKilled(
                "A worker process ended before its job was done",
                mend="see whether the machine is out of memory, or ask for fewer workers",
            )
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
