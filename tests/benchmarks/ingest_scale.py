"""A thousand phantom scans through ingest on Dask: time, and whether memory stays flat.

    taucal phantom data/scale/adni --subjects 800 --scans 1000 --seed 5
    python tests/benchmarks/ingest_scale.py data/scale/adni --workers 2

With `--out FOLDER` the dataset stays there, as `imaging_truth.py` reads it. Once a second the resident memory
of this process and of each worker is read. Flat means that the largest worker holds no more in the last
quarter of the run than in the second (the first loads atlas and models).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from flows.running.environment import set_quiet_defaults

set_quiet_defaults()

# The defaults must stand before Prefect is imported.
from flows.ingest import ingest_study  # noqa: E402
from flows.ingestion.ingest_tables import IngestResult  # noqa: E402
from pipeline.config import Study  # noqa: E402

PAGE = os.sysconf("SC_PAGE_SIZE")


def family(root: int) -> list[int]:
    """Return the process ids of a process and all below it."""
    below: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                parent = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            below.setdefault(parent, []).append(int(place.name))
    found = [root]
    for process in found:
        found += below.get(process, [])
    return found


def resident_mib(process: int) -> float:
    """Return the resident memory of a process, 0 where it is gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE / 2**20
    except OSError:
        return 0.0


class Watch(threading.Thread):
    """Reads memory once a second until told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own: list[float] = []
        self.largest_worker: list[float] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(1):
            me, *others = family(os.getpid())
            self.own.append(resident_mib(me))
            self.largest_worker.append(max((resident_mib(p) for p in others), default=0.0))


def quarter(values: list[float], number: int) -> float:
    """Return the largest value of a quarter of the run, counted from 0."""
    size = max(1, len(values) // 4)
    return max(values[number * size : (number + 1) * size])


def told(what: str, seconds: float, done: IngestResult, watch: Watch) -> None:
    """Print one run."""
    print(f"{what}: {seconds:.0f} s, {done.converted} converted, {done.refused} refused")
    if len(watch.own) > 8:
        for name, values in {"this process": watch.own, "largest worker": watch.largest_worker}.items():
            quarters = ", ".join(f"{quarter(values, n):.0f}" for n in range(4))
            print(f"  {name}, largest in each quarter: {quarters} MiB")


def main() -> None:
    """Ingest twice, the second time with nothing new."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="keep the dataset and the study there")
    asked = parser.parse_args()
    with nullcontext(asked.out) if asked.out else tempfile.TemporaryDirectory() as folder:
        study = Study.model_validate(
            {
                "name": "scale",
                "output": Path(folder) / "study",
                "cohort": {"path": Path(folder) / "bids", "classes": ["CN", "MCI", "AD"]},
                "ingest": {"source": asked.source, "workers": asked.workers, "runner": "dask"},
            }
        )
        for what in ("first", "again, nothing new"):
            watch, begun = Watch(), time.perf_counter()
            watch.start()
            done = ingest_study(study)
            watch.over.set()
            watch.join()
            told(what, time.perf_counter() - begun, done, watch)


if __name__ == "__main__":
    main()
