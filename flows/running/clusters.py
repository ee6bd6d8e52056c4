"""Run jobs on a Dask cluster: one that is running, one of a job queue, or workers on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

# We report a killed worker once. Workers inherit this; set the variable to "info" to see more.
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
# A worker would keep a profile of every second of the last hour, a tenth of a megabyte each.
os.environ.setdefault("DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED", "False")
# The scheduler would keep the last thousand messages, each with the orders of a job, for Dask's developers.
os.environ.setdefault("DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH", "10")

import dask
from distributed import Client, LocalCluster, as_completed, get_worker
from distributed.scheduler import KilledWorker

from flows.running.jobs import (
    JobFailed,
    Outcome,
    Runner,
    Started,
    Work,
    WorkerKilled,
    WorkerResources,
    in_worker,
    no_matter,
    share_resources,
    should_retry,
    worker_killed,
)
from pipeline.config import DaskSettings
from pipeline.errors import ConfigError, TaucalError

_SECONDS_TO_CONNECT = 20
_SECONDS_TO_RESTART = 60
_SECONDS_TO_REPLACE = 180
_LOOK_EVERY_SECONDS = 0.1
for _name in ("distributed", "distributed.client", "distributed.scheduler"):
    logging.getLogger(_name).setLevel(os.environ["DASK_LOGGING__DISTRIBUTED"].upper())


def on_dask(
    work: Work, orders: Sequence[Any], runner: Runner, started: Started = no_matter
) -> Iterator[Outcome]:
    """Run every order on the cluster that the settings name; outcomes as `runners.finished` yields them.

    Jobs go through Dask alone: their orders, which hold paths, stay out of Prefect's database.
    """
    number = min(runner.workers, len(orders))
    with _client(runner.dask, number) as (client, shared):
        todo = deque((index, 0) for index in range(len(orders)))
        # Our own workers get one job at a time: Dask blames every job of a killed worker.
        idle: list[int | None] = [*range(len(shared))] if shared else [None] * len(orders)
        running: dict[Any, tuple[int | None, int, int]] = {}
        coming = as_completed(loop=client.loop)

        def hand_out() -> None:
            while todo and idle:
                index, tries = todo.popleft()
                name = idle.pop(0)
                started(index)
                only = {} if name is None else {"workers": [name]}
                future = client.submit(
                    _in_dask_worker, tuple(shared), work, orders[index], pure=False, **only
                )
                running[future] = (name, index, tries)
                coming.add(future)

        hand_out()
        for future in coming:
            name, index, tries = running.pop(future)
            result, error = _outcome(future)
            if shared and isinstance(error, WorkerKilled):
                _wait_for_workers(client, number)
            idle.append(name)
            again = error is not None and should_retry(error, tries, runner.retries)
            if again:
                todo.append((index, tries + 1))
            hand_out()
            if not again:
                yield Outcome(index, result, error)


def _wait_for_workers(client: Any, number: int) -> None:
    """Wait until all workers of our own are there again, and replace those that do not come back.

    Not `client.wait_for_workers`: it exchanges the cluster's list of workers for a newer one. If the message
    that a worker has left comes after that, the cluster does not find the worker in its list, stops watching,
    and raises the `KeyError` of the worker's address when it is closed.
    """
    if _come_back(client, number, _SECONDS_TO_RESTART):
        return
    _replace_lost(client, number)
    if not _come_back(client, number, _SECONDS_TO_REPLACE):
        raise TaucalError(
            f"Dask workers were killed, and some did not start again within {_SECONDS_TO_REPLACE} s",
            hint="check whether the machine is out of memory, or set fewer workers",
        )


def _come_back(client: Any, number: int, seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while len(_running_workers(client)) < number:
        if time.monotonic() > limit:
            return False
        time.sleep(_LOOK_EVERY_SECONDS)
    return True


def _running_workers(client: Any) -> list[Any]:
    """Return the names of the workers that can take a job now."""

    def names(dask_scheduler: Any) -> list[Any]:
        return [worker.name for worker in dask_scheduler.running]

    found: list[Any] = client.run_on_scheduler(names)
    return found


def _replace_lost(client: Any, number: int) -> None:
    """Start workers in place of those that Dask has given up.

    It forgets one that takes more than 15 s to come back, and does not restart one that was killed before it
    had wholly started.
    """
    cluster = client.cluster
    for name in set(cluster.workers) - set(_running_workers(client)):
        cluster.sync(cluster.workers.pop(name).close)
    cluster.scale(number)


def _in_dask_worker(
    shared: Sequence[WorkerResources], work: Work, order: Any
) -> tuple[Any, TaucalError | None]:
    name = get_worker().name
    # Workers of this machine are numbered; elsewhere a queue has given each its cores.
    resources = shared[name] if isinstance(name, int) and name < len(shared) else WorkerResources()
    # In a worker of several threads, two trainings would draw from the same random numbers.
    with _one_at_a_time:
        return in_worker(resources, work, order)


_one_at_a_time = threading.Lock()


def _outcome(future: Any) -> tuple[Any, TaucalError | None]:
    try:
        result, error = future.result()
    except KilledWorker:
        return None, worker_killed()
    except Exception as error:  # noqa: BLE001 - whatever Dask raises, the other jobs go on
        return None, JobFailed(f"{type(error).__name__}: {error}")
    return result, error


@contextlib.contextmanager
def _client(settings: DaskSettings, workers: int) -> Iterator[tuple[Any, Sequence[WorkerResources]]]:
    with contextlib.ExitStack() as held:
        shared: Sequence[WorkerResources] = ()
        if settings.address is not None:
            where: Any = settings.address
        elif settings.jobqueue is not None:
            where = held.enter_context(queue_cluster(settings))
            where.scale(workers)
        else:
            shared = share_resources(workers)
            where = held.enter_context(_this_machine(workers))
        yield held.enter_context(_connected(where)), shared


def _connected(where: Any) -> Any:
    try:
        return Client(where, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except OSError as error:
        raise ConfigError(
            f"No Dask scheduler answers at {where} ({type(error).__name__})",
            where="dask.address",
            hint="start one with `dask scheduler`, correct the address, or remove it to start a cluster here",
        ) from error


def _this_machine(workers: int) -> Any:
    # We count retries; Dask must report a killed worker the first time.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            # Any port for its metrics: another cluster may have the usual one.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=0,  # Dask cannot see what torch needs
            silence_logs=logging.CRITICAL,
        )


def queue_cluster(settings: DaskSettings) -> Any:
    """Return the cluster of a job queue, without a worker yet.

    Raises
    ------
    ConfigError
        If dask-jobqueue is not installed or refuses the options.
    """
    try:
        import dask_jobqueue  # an extra
    except ImportError as error:
        raise ConfigError(
            f"{settings.jobqueue} needs dask-jobqueue, which is not installed",
            where="dask.jobqueue",
            hint="pip install 'taucal[slurm]'",
        ) from error
    options = {"cores": 1, "processes": 1, "memory": "8GB", **settings.options}
    # A worker does one job at a time: the cores are asked for, but not as so many threads of Dask.
    options = {"job_cpu": options["cores"], **options, "cores": options["processes"]}
    # No page of the scheduler: it would listen on every address of the machine.
    options["scheduler_options"] = {"dashboard": False, **options.get("scheduler_options", {})}
    try:
        return getattr(dask_jobqueue, f"{settings.jobqueue}Cluster")(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{settings.jobqueue}Cluster does not accept these options: {error}",
            where="dask.options",
            hint="the documentation of dask-jobqueue lists its options",
        ) from error
