"""Several processes that share every step of a training: rank 0 leads, the others train what it hands out.

Rank 0 does all else by itself: it reads the study, writes files, calibrates and tests. So the others need
neither the study nor its output folder before the first training, and write nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from pipeline.config import Study
from pipeline.errors import TaucalError, TrainingError
from pipeline.learning.devices import join_ranks, ranks
from pipeline.learning.loading import LabelledVolumes
from pipeline.scan import Split

Order = tuple[LabelledVolumes, Split, Study, Path]
"""What `pipeline.learning.training.train` takes. Volumes that are mapped from a file travel as its path."""
_AS_LONG_AS_IT_TAKES = timedelta(days=30)
"""The others wait for an order while rank 0 prepares, calibrates and tests."""
_GRACE_SECONDS = 20.0
"""How long rank 0 may take to end after an error that all ranks have."""
_orders: list[Any] = []
"""The process group of the orders, while this process is rank 0 of several and leads them."""


def gpu_count() -> int:
    """Return how many GPUs torch can use here."""
    return torch.cuda.device_count()


@contextlib.contextmanager
def leading(threads: int | None = None) -> Iterator[None]:
    """Let the other ranks take part in every training of the block; for rank 0.

    An error leaves the others waiting: they end when this process does.

    Parameters
    ----------
    threads : int, optional
        Of torch, so that the ranks of one machine share its cores.
    """
    group = _joined(threads)
    _orders.append(group)
    try:
        yield
        _broadcast(None, group)
    finally:
        _orders.clear()
    distributed.destroy_process_group()


def follow(train: Callable[..., object], threads: int | None = None) -> bool:
    """Train what rank 0 hands out, until it is done; for every other rank.

    Parameters
    ----------
    train : callable
        `pipeline.learning.training.train`.

    Returns
    -------
    bool
        Whether rank 0 ended well.
    """
    group, failed = _joined(threads), None
    while True:
        try:
            with _rank_zero_fails_too(failed):
                order: Order | None = _broadcast(None, group)
        except RuntimeError:  # rank 0 is gone, and has reported why
            return False
        except FileNotFoundError as error:  # volumes that are mapped from a file travel as its path
            _report(_not_here(error))
            return False
        if order is None:
            distributed.destroy_process_group()
            return True
        try:
            train(*order)
        except TaucalError as error:
            failed = error


def _report(error: TaucalError) -> None:
    sys.stderr.write(f"taucal: rank {ranks().rank}: {error}\n")
    sys.stderr.flush()


def _not_here(error: FileNotFoundError) -> TrainingError:
    return TrainingError(
        "The prepared volumes of rank 0 are not on this machine",
        where=str(error.filename),
        hint="Put the study's output folder where every machine sees the same files, under the same path",
    )


@contextlib.contextmanager
def _rank_zero_fails_too(error: TaucalError | None) -> Iterator[None]:
    """End this process if the block, which waits for rank 0, goes on for long after an error.

    Mostly rank 0 has the same error, reports it and ends. If this process alone has it, as where its GPU is
    full, rank 0 would wait for its part of the step.
    """
    over = threading.Event()

    def watch(error: TaucalError) -> None:
        if not over.wait(_GRACE_SECONDS):
            _report(error)
            os._exit(1)

    if error is not None:
        threading.Thread(target=watch, args=(error,), daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def shared_with_ranks(order: Order) -> Iterator[None]:
    """Hand a training to the other ranks, where this process leads them, and take part in it.

    Raises
    ------
    TrainingError
        If a rank is lost.
    """
    try:
        if _orders:
            _broadcast(order, _orders[0])
        yield
    except RuntimeError as error:
        if ranks().number == 1 or not _of_communication(error):
            raise
        raise TrainingError(
            f"One of the {ranks().number} processes that share this training was lost",
            where=f"rank {ranks().rank}",
            hint="Its own output, or the system's log, may state why. The same command again resumes after "
            "the last finished epoch",
        ) from error


def check_same_epoch(epoch: int) -> None:
    """Refuse to go on where ranks resume after different epochs.

    Raises
    ------
    TrainingError
        Naming the epochs.
    """
    number = ranks().number
    if number == 1:
        return
    epochs: list[int] = [0] * number
    distributed.all_gather_object(epochs, epoch)
    if len(set(epochs)) > 1:
        raise TrainingError(
            f"The ranks found checkpoints of different epochs: {', '.join(map(str, epochs))}",
            where="checkpoint.pt",
            hint="Put the study's output folder where every machine sees the same files",
        )


def mean_over_ranks(value: torch.Tensor) -> float:
    """Return the mean of a number over the ranks; without ranks, the number itself."""
    value = value.detach().clone()
    if ranks().number > 1:
        distributed.all_reduce(value)
        value /= ranks().number
    return float(value)


def from_rank_zero(values: torch.Tensor) -> torch.Tensor:
    """Return the values of rank 0, where ranks may differ by rounding; without ranks, those given."""
    if ranks().number > 1:
        distributed.broadcast(values, src=0)
    return values


def _joined(threads: int | None) -> Any:
    if threads is not None:
        torch.set_num_threads(threads)
    join_ranks()
    return distributed.new_group(backend="gloo", timeout=_AS_LONG_AS_IT_TAKES)


def _broadcast(order: Order | None, group: Any) -> Order | None:
    sent: list[Order | None] = [order]
    distributed.broadcast_object_list(sent, src=0, group=group, device=torch.device("cpu"))
    return sent[0]


def _of_communication(error: RuntimeError) -> bool:
    text = str(error).lower()
    known = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")
    return isinstance(error, distributed.DistError) or any(word in text for word in known)
