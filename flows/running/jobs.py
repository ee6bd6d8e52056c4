"""Jobs and the resources of their workers: what every runner shares."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flows.running.console import chosen
from pipeline.config import DaskSettings
from pipeline.errors import InputError, TaucalError

Work = Callable[[Any], Any]
"""Does the job of one order; both must be picklable. Called again where it failed."""


Started = Callable[[int], object]
"""Called with the index of a job when a worker gets it; again where it is tried again."""


def no_matter(_index: int) -> None:
    """Do nothing when a job starts."""


class WorkerKilled(TaucalError):  # noqa: N818 - reads as "the worker was killed"
    """The process of a job has ended: killed, out of memory, or crashed in foreign code."""


class JobFailed(TaucalError):  # noqa: N818 - reads as "the job failed"
    """A job raised an error that is no `TaucalError`."""


def worker_killed() -> WorkerKilled:
    """Return the error of a job whose worker process has ended."""
    return WorkerKilled(
        "The worker process ended before its job was done",
        hint="check whether the machine is out of memory, or set fewer workers",
    )


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
    """

    kind: Literal["local", "processes", "dask"] = "local"
    workers: int = 1
    retries: int = 1
    dask: DaskSettings = field(default_factory=DaskSettings)


@dataclass(frozen=True)
class Outcome:
    """The result of the order at `index`, or the error of its last try."""

    index: int
    result: Any = None
    error: TaucalError | None = None


def attempt(work: Work, order: Any) -> tuple[Any, TaucalError | None]:
    """Return the result of a job or its error, as one that can be pickled."""
    try:
        return work(order), None
    except TaucalError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - whatever it is, the other jobs go on
        line = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(line.filename).name}, line {line.lineno}"
        return None, JobFailed(f"{type(error).__name__}: {error}", where=where)


def should_retry(error: TaucalError, tries: int, retries: int) -> bool:
    """Whether a job that failed is tried again: wrong input stays wrong."""
    return tries < retries and not isinstance(error, InputError)


@dataclass(frozen=True)
class WorkerResources:
    """The cores that a worker may use, and its GPU where there are several."""

    cores: tuple[int, ...] = ()
    gpu: str | None = None

    def take(self) -> None:
        """Restrict this process to them; the GPU only while CUDA is not yet in use."""
        if self.cores:
            # On Linux only; other systems share out the cores themselves, and `cores` is empty.
            os.sched_setaffinity(0, self.cores)
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu


def share_resources(workers: int) -> list[WorkerResources]:
    """Share out the cores and GPUs that this process may use, evenly."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    gpus = _gpus()
    found = []
    for n in range(workers):
        mine = cores[n * len(cores) // workers : (n + 1) * len(cores) // workers]
        # More workers than cores: some share one.
        mine = mine or cores[n % len(cores) : n % len(cores) + 1] if cores else []
        found.append(WorkerResources(tuple(mine), gpus[n % len(gpus)] if len(gpus) > 1 else None))
    return found


def _gpus() -> list[str]:
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated is not None:
        return [name for name in stated.split(",") if name]
    return [str(n) for n in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def in_worker(resources: WorkerResources, work: Work, order: Any) -> tuple[Any, TaucalError | None]:
    """Do a job in a worker process, which prints nothing: its parent reports the outcome."""
    chosen.quiet = True
    resources.take()
    return attempt(work, order)
