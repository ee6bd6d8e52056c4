"""Jobs that workers import: a test module cannot be imported by a spawned process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pipeline.errors import InputError


def do(order: tuple[str, Path]) -> dict[str, object]:
    """Do what the order says; each try leaves a file."""
    what, folder = order
    tries = len(list(folder.glob(f"{what}.*")))
    (folder / f"{what}.{os.getpid()}-{tries}").touch()
    if what == "fails" or (what == "fails once" and not tries):
        raise RuntimeError("on purpose")
    if what == "is killed" or (what == "is killed once" and not tries):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "wrong input":
        raise InputError("This is wrong", where="here")
    if what.startswith("sleeps"):
        time.sleep(300)
    return {
        "pid": os.getpid(),
        "cores": sorted(os.sched_getaffinity(0)),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


if __name__ == "__main__":
    import sys

    from worker_jobs import do as job

    from flows.running.jobs import Runner
    from flows.running.runners import finished

    orders = [(f"sleeps {n}", Path(sys.argv[2])) for n in range(3)]
    for _ in finished(job, orders, Runner(sys.argv[1], workers=2)):
        pass
