"""The processes that share a training: started here for ``--gpus``, or by torchrun."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.running.console import chosen, say, warn
from pipeline.config import Study
from pipeline.errors import ConfigError
from pipeline.processes import environment, import_places

_LOOK_EVERY_SECONDS = 0.5
_GRACE_SECONDS = 30.0
"""How long a training may take to notice by itself that a process was lost."""


def follows() -> bool:
    """Whether this process was started to share the trainings of another one."""
    return _number() > 1 and int(os.environ.get("RANK", "0")) > 0


def follow_rank_zero() -> bool:
    """Share the trainings of rank 0 until it ends; return whether it ended well."""
    from pipeline.learning.rank_group import follow
    from pipeline.learning.training import train

    chosen.quiet, chosen.json = True, False
    return follow(train, _threads())


@contextlib.contextmanager
def sharing_ranks(study: Study, config: Path, gpus: int | None) -> Iterator[None]:
    """Share every training of the block among so many processes, or those that torchrun has started.

    Parameters
    ----------
    config : Path
        File of the study, by which the processes are known in the list of the system.
    gpus : int or None
        None or 1 is this process alone.

    Raises
    ------
    ConfigError
        If there are fewer GPUs, or torchrun has started the processes already.
    """
    if _number() == 1 and (gpus or 1) == 1:
        yield
        return
    from pipeline.learning.rank_group import leading

    with contextlib.ExitStack() as stack:
        if gpus is not None:
            _check_gpus(study, gpus)
            places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(gpus)}
            places["LOCAL_WORLD_SIZE"] = str(gpus)
            stack.enter_context(environment({**places, "RANK": "0", "LOCAL_RANK": "0"}))
            stack.enter_context(_other_ranks(config, gpus))
        say(f"{_number()} processes share every training step.")
        stack.enter_context(leading(_threads()))
        yield


def _number() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _threads() -> int:
    """Return the threads of each process, so that those of one machine share its cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _check_gpus(study: Study, gpus: int) -> None:
    from pipeline.learning.rank_group import gpu_count

    if _number() > 1:
        raise ConfigError(
            f"torchrun has started {_number()} processes already",
            where="--gpus",
            hint="leave it out, or start taucal without torchrun",
        )
    found = gpu_count()
    if study.training.device != "cpu" and gpus > found:
        raise ConfigError(
            f"{gpus} GPUs are asked for, found {found}",
            where="--gpus",
            hint=f"set it to {found} or less"
            if found
            else "leave it out; with --set training.device=cpu it shares the cores of this machine",
        )


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def _other_ranks(config: Path, number: int) -> Iterator[None]:
    """Run ranks 1 to `number` - 1 beside this process for as long as the block runs."""
    from flows.running.lifetime import watched  # loads psutil, which a wrong call need not wait for

    command = watched([sys.executable, "-m", "flows.cli", "train", str(config)])
    with environment(import_places()):
        children = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(1, number)
        ]
    over = threading.Event()
    threading.Thread(target=_end_without, args=(children, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        for child in children:
            assert child.stdin is not None
            child.stdin.close()  # ends it where it has not ended
        for child in children:
            child.wait()


def _end_without(children: Sequence[subprocess.Popen[bytes]], over: threading.Event) -> None:
    """End this process if another one is lost and nothing here notices: a GPU would wait for it for ever."""
    while not over.wait(_LOOK_EVERY_SECONDS):
        if any(child.poll() not in (None, 0) for child in children):
            if not over.wait(_GRACE_SECONDS):
                warn(
                    "taucal: One of the processes that share this training was lost. The same command again "
                    "resumes after the last finished epoch."
                )
                os._exit(1)
            return
