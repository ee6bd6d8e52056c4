"""Jobs and the workers that do them: what every runner shares."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flows.running.console import console
from pipeline.config import DaskSettings
from pipeline.errors import InputError, TaucalError

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


def attempt(work: Work, order: Any) -> tuple[Any, TaucalError | None]:
    """Return the result of a job or its error, as one that can be pickled."""
    try:
        return work(order), None
    except TaucalError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - whatever it is, the other jobs go on
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        return None, JobFailed(f"{type(error).__name__}: {error}", where=where)


def worth_another(error: TaucalError, tries: int, retries: int) -> bool:
    """Tell whether a job that failed is tried again: wrong input stays wrong."""
    return tries < retries and not isinstance(error, InputError)


@dataclass(frozen=True)
class WorkerResources:
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


def places(workers: int) -> list[WorkerResources]:
    """Share out the cores and GPUs that this process may use, evenly and as long as they last."""
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


def in_worker(place: WorkerResources, work: Work, order: Any) -> tuple[Any, TaucalError | None]:
    """Do a job in a worker process, which is to be silent: its parent tells what is to be told."""
    console.quiet = True
    place.take()
    return attempt(work, order)
