"""The loader alone: memory and speed at 250, 1,000 and 4,000 scans of 2 mm, without a network.

    python tests/benchmarks/loader.py [--scans 250 1000 4000] [--batches 12]

Each size runs in a process of its own. Its volumes are a sparse file of the size that real ones have (4.1 MB
a scan), in which every 16th scan is written: so the disk takes part in a sixteenth of the reads only, and the
speed is that of copying and augmenting, not of a disk. Memory is the process's own (RssAnon), above that
before the training part was chosen.

    python tests/benchmarks/loader.py --prepare 200 --against CHECKOUT [--pairs 12]

compares the processor time of preparing so many volumes with that of another checkout of this repository, in
interleaved runs, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import stats
from scipy.ndimage import gaussian_filter

BATCH, WRITTEN = 32, 16


def own_mib() -> float:
    """Return this process's own memory in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def measure(scans: int, batches: int, path: Path) -> dict[str, float]:
    """Read the first batches of an epoch of four fifths of so many scans, plain and augmented."""
    from models.preprocessing import Preprocessing
    from pipeline.config import AugmentationSettings
    from pipeline.learning.batches import Batches
    from pipeline.learning.loading import LabelledVolumes

    preprocessing = Preprocessing(spacing_mm=2, suvr_max=4)
    stack = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float32, shape=(scans, *preprocessing.in_shape)
    )
    for row in range(0, scans, WRITTEN):
        stack[row] = np.random.default_rng(row).random(preprocessing.in_shape, dtype=np.float32)
    stack.flush()
    del stack
    ids = tuple(f"sub-{n:05d}_ses-M00" for n in range(scans))
    labels = np.arange(scans) % 3
    stored = np.load(path, mmap_mode="r")
    volumes = LabelledVolumes(ids, ids, stored, labels, ("CN", "MCI", "AD"), preprocessing, "sparse")
    before = own_mib()
    started = time.perf_counter()
    training = volumes.subset(ids[: scans * 4 // 5])
    found = {
        "scans": scans,
        "stored_gb": path.stat().st_size / 1e9,
        "subset_s": time.perf_counter() - started,
    }
    most = own_mib()
    for name, probability, number in (("plain", 0.0, batches), ("augmented", 0.2, max(2, batches // 3))):
        settings = AugmentationSettings(probability=probability)
        epoch = Batches(training, settings, BATCH, "natural", seed=1, workers=2).epoch(0)
        started, seen = time.perf_counter(), 0
        for _, batch in zip(range(number), epoch, strict=False):
            seen += len(batch.labels)
            most = max(most, own_mib())
        found[f"{name}_scans_per_s"] = seen / (time.perf_counter() - started)
        epoch.close()
    return {**found, "own_mib": most - before}


PREPARE = """
import resource, sys
from pathlib import Path
from pipeline.config import PreprocessingSettings
from pipeline.learning.loading import load_volumes
from pipeline.scan import Cohort
def used():
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
cohort, before = Cohort.read_tsv(Path(sys.argv[1]) / "cohort.tsv"), used()
load_volumes(cohort, PreprocessingSettings(spacing_mm=2, suvr_max=4), Path(sys.argv[1]) / "cache")
print(used() - before)
"""


def compare_preparing(scans: int, pairs: int, other: Path) -> None:
    """Print the processor time of preparing volumes as a multiple of another checkout's."""
    here = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as folder:
        write_suvr(Path(folder), scans)

        def seconds(checkout: Path) -> float:
            shutil.rmtree(Path(folder) / "cache", ignore_errors=True)
            command = [sys.executable, "-c", PREPARE, folder]
            settings = {**os.environ, "PYTHONPATH": str(checkout)}
            # Where it is started comes before PYTHONPATH: so in neither checkout.
            made = subprocess.run(
                command, check=True, capture_output=True, text=True, env=settings, cwd=folder
            )
            return float(made.stdout.splitlines()[-1])

        ratios = []
        for pair in range(pairs):
            order = (here, other) if pair % 2 else (other, here)
            found = {checkout: seconds(checkout) for checkout in order}
            ratios.append(np.log(found[here] / found[other]))
            print(f"{found[here]:.2f} s here, {found[other]:.2f} s there", flush=True)
    half = stats.t.ppf(0.975, pairs - 1) * stats.sem(ratios)
    low, middle, high = np.exp(np.mean(ratios) + half * np.array([-1, 0, 1]))
    print(f"{middle:.2f} [{low:.2f}, {high:.2f}] times the processor time, {pairs} pairs, {scans} volumes")


def write_suvr(folder: Path, scans: int) -> None:
    """Write a cohort of smooth noise on the template grid; ten volumes differ, the others are copies."""
    from pipeline.atlas import AFFINE, SHAPE
    from pipeline.files import write_sha256
    from pipeline.scan import Cohort, Scan

    rng, listed = np.random.default_rng(1), []
    for n in range(scans):
        path = folder / f"{n}.nii.gz"
        if n < 10:
            array = 1.2 + 8 * gaussian_filter(rng.standard_normal(SHAPE), 3)
            nib.save(nib.Nifti1Image(array.astype(np.float32), AFFINE), path)
        else:
            shutil.copy(folder / f"{n % 10}.nii.gz", path)
        write_sha256(path)
        listed.append(Scan(f"{n:03d}", "M00", path, diagnosis="CN"))
    Cohort(tuple(listed), ("CN", "AD")).write_tsv(folder / "cohort.tsv")


def main() -> None:
    """Measure each size in a process of its own and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scans", type=int, nargs="+", default=[250, 1000, 4000])
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", type=int, help="volumes to prepare, here and by --against")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--pairs", type=int, default=12)
    given = parser.parse_args()
    if (given.prepare is None) != (given.against is None):
        parser.error("--prepare and --against go together")
    if given.prepare is not None:
        compare_preparing(given.prepare, given.pairs, given.against.resolve())
        return
    if given.file is not None:
        print(json.dumps(measure(given.scans[0], given.batches, given.file)))
        return
    print("| scans | stored | subset | own memory | plain | augmented |\n|---|---|---|---|---|---|")
    for scans in given.scans:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--scans", str(scans), "--batches", str(given.batches)]
            command += ["--file", str(Path(folder) / "volumes.npy")]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        m = json.loads(answer.splitlines()[-1])
        print(
            f"| {scans:,} | {m['stored_gb']:.1f} GB | {m['subset_s']:.1f} s | {m['own_mib']:,.0f} MiB "
            f"| {m['plain_scans_per_s']:.0f} scans/s | {m['augmented_scans_per_s']:.1f} scans/s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
