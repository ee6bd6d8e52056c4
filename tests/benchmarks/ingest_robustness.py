"""An ingest killed again and again, then run to its end: `python tests/benchmarks/ingest_robustness.py`.

A phantom of 40 scans is ingested undisturbed, by two workers. Then an ingest into another folder gets a
SIGKILL at a random moment and is started again, 20 times. After every kill, each file that stands under its
final name must be whole; at the end the dataset must equal the undisturbed one to the byte, hidden files
included. The steps run without Prefect, whose server takes ten seconds to start and would outlive its parent.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.config import PhantomSettings
from pipeline.phantom import write_cohort

_INGEST = """
import sys
from pathlib import Path
from flows.running.environment import set_quiet_defaults
set_quiet_defaults()
from flows import ingest
ingest.as_task = lambda name, work: work()
from pipeline.config import ImagingSettings, IngestSettings
source, bids, key = map(Path, sys.argv[1:4])
if __name__ == "__main__":
    settings = IngestSettings(key_file=key, workers=int(sys.argv[4]))
    print("begin", flush=True)
    ingest._ingest(source, bids, settings, ImagingSettings(), ("CN", "MCI", "AD"))
"""


def start(folder: Path, bids: Path, workers: int) -> subprocess.Popen:
    """Start an ingest in a process of its own; return when its imports are done."""
    script = folder / "ingest.py"
    script.write_text(_INGEST)
    arguments = [str(folder / "adni"), str(bids), str(folder / "key"), str(workers)]
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    process.stdout.readline()
    return process


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def half_written(folder: Path) -> list[str]:
    """Return files that stand under their final name and are not whole."""
    broken = []
    for path in folder.rglob("*"):
        if not path.is_file() or path.name.startswith(".tmp-"):
            continue
        content = path.read_bytes()
        try:
            if path.suffix == ".gz":
                gzip.decompress(content)
            elif path.suffix == ".json":
                json.loads(content)
            elif not content.endswith(b"\n"):
                broken.append(path.name)
        except (OSError, EOFError, ValueError):
            broken.append(path.name)
    return broken


def main() -> None:
    """Print a line a kill, then what differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    draw = random.Random(20261121)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cohort = PhantomSettings(subjects=asked.scans * 4 // 5, scans=asked.scans, spoiled=0.1)
        write_cohort(cohort, folder / "adni", seed=5)
        begun = time.monotonic()
        start(folder, folder / "undisturbed", asked.workers).communicate()
        lasted = time.monotonic() - begun
        wanted = digests(folder / "undisturbed")
        print(f"undisturbed: {len(wanted)} files in {lasted:.0f} s", flush=True)
        broken = sum(_kill(folder, draw.uniform(0, lasted / 4), asked.workers) for _ in range(asked.kills))
        start(folder, folder / "killed", asked.workers).communicate()
        found = digests(folder / "killed")
        differing = sorted({name for name, _ in found.items() ^ wanted.items()})
        print(f"half-written files after {asked.kills} kills: {broken}")
        print(f"files that differ from the undisturbed dataset in the end: {len(differing)} {differing[:5]}")


def _kill(folder: Path, after_s: float, workers: int) -> int:
    """Start an ingest and kill it; return how many files stand half-written."""
    bids = folder / "killed"
    process = start(folder, bids, workers)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        time.sleep(0.01)
    stood = list(digests(bids)) if bids.exists() else []
    images = sum(name.endswith(".nii.gz") and ".tmp-" not in name for name in stood)
    left = sum(Path(name).name.startswith(".tmp-") for name in stood)
    broken = half_written(bids) if bids.exists() else []
    print(
        f"killed after {after_s:4.1f} s: {images} images stood, {left} unfinished, {len(broken)} broken",
        flush=True,
    )
    return len(broken)


if __name__ == "__main__":
    main()
