"""Seconds and memory of a static scan from DICOM to SUVR, and what a second worker brings.

    python tests/benchmarks/whole_way_speed.py --scans 40

Seconds are those of one process on one core, after its first scan, which also loads the atlas and the models.
Memory is the most that this process ever held. Workers: the same cohort is ingested by one worker process and
by two, each time into a new folder; seconds run until the dataset is complete, with the start of the workers.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from flows.ingestion.scan_jobs import ScanJob, ingest_scan
from pipeline.config import ImagingSettings, PhantomSettings
from pipeline.files import read_json
from pipeline.ingest.sources import find_scans
from pipeline.phantom import write_cohort
from pipeline.processes import worker_pool


def orders_for(source: Path, bids: Path) -> list:
    """Return what an ingest of the cohort would do, scan by scan."""
    scans = find_scans(source, "adni", "AV1451").scans
    return [ScanJob(scan, bids, bytes(32), "AV1451", 180, ImagingSettings()) for scan in scans]


def one_process(source: Path, bids: Path) -> list[tuple[bool, float, float]]:
    """Return, of each accepted scan, whether it is static, and its seconds by the clock and of the core."""
    rows = []
    for order in orders_for(source, bids):
        clock, core = time.perf_counter(), time.process_time()
        done = ingest_scan(order)
        took = time.perf_counter() - clock, time.process_time() - core
        record = {} if done.record is None else read_json(done.record)
        if "suvr" in record:
            told = read_json(order.bids / record["suvr"].replace(".nii.gz", ".json"))
            rows.append((told["Facts"]["frames_averaged"] == 1, *took))
    return rows


def with_workers(source: Path, bids: Path, workers: int) -> float:
    """Ingest by worker processes; return seconds."""
    begun = time.perf_counter()
    with worker_pool(workers) as pool:
        list(pool.map(ingest_scan, orders_for(source, bids), chunksize=2))
    return time.perf_counter() - begun


def main() -> None:
    """Print seconds, memory and the ratio of one worker to two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--anatomy", choices=("affine", "people"), default="affine", help="of the heads")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = PhantomSettings(
            subjects=asked.scans * 4 // 5, scans=asked.scans, spoiled=0.0, anatomy=asked.anatomy
        )
        source = write_cohort(settings, folder / "adni", seed=11)
        rows = one_process(source, folder / "alone")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        static = [row for row in rows[1:] if row[0]]
        clock, core = (np.array([row[k] for row in static]) for k in (1, 2))
        print(f"one process on one core; the first scan, which loads the atlas: {rows[0][1]:.2f} s")
        for what, seconds in (("by the clock", clock), ("of the core", core)):
            told = f"median {np.median(seconds):.2f} s, slowest {seconds.max():.2f} s {what}"
            print(f"{len(static)} static scans: {told}")
        print(f"peak memory of the process: {peak:.2f} GiB")
        lasted: dict[int, list[float]] = {1: [], 2: []}
        for run in range(asked.runs):
            for workers, runs in lasted.items():
                bids = folder / f"{workers}-{run}"
                runs.append(with_workers(source, bids, workers))
                shutil.rmtree(bids)
        one, two = (float(np.median(lasted[n])) for n in (1, 2))
        print(f"one worker {one:.1f} s, two workers {two:.1f} s: {one / two:.2f} x")


if __name__ == "__main__":
    main()
