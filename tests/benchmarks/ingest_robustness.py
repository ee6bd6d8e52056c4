"""An ingest killed again and again, and mutated input: `python tests/benchmarks/ingest_robustness.py`.

A phantom of 40 scans in two source folders is ingested undisturbed, by two workers. Then an ingest into
another folder gets a SIGKILL and is started again, 20 times: at a random moment after none, one or two more
images are there, so that a slow machine is interrupted in all parts of the work too. After every kill, each
file under its final name must be whole; at the end the dataset must equal the undisturbed one to the byte,
hidden files included. The steps run without Prefect, whose server takes ten seconds to start and would
outlive its parent.

With ``--mutants N``, N sidecars, N tables, N headers of NIfTI and of ECAT, N archives of each kind, N packed
slices and N directories of a medium are mutated instead, or those that ``--kinds`` names: whatever their
bytes are, they must be read or refused by name, within a second, in 100 kB and 16 times the file; archives in
4 MB more. What an archive holds is read to the last pixel.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

from pipeline.config import PhantomSettings
from pipeline.errors import TaucalError
from pipeline.ingest.adni import read_tables
from pipeline.ingest.archives import opened
from pipeline.ingest.convert import read_found
from pipeline.ingest.ecat import read_ecat
from pipeline.ingest.nifti import read_nifti
from pipeline.ingest.sidecar import read_sidecar, understand
from pipeline.ingest.sources import find_scans, scans_at
from pipeline.phantom import write_cohort

_INGEST = """
import sys
from pathlib import Path
from flows.running.environment import set_quiet_defaults
set_quiet_defaults()
from flows import ingest
from pipeline.config import ImagingSettings, IngestSettings
bids, key, workers, *sources = sys.argv[1:]
if __name__ == "__main__":
    settings = IngestSettings(key_file=Path(key), workers=int(workers))
    print("begin", flush=True)
    for source in map(Path, sources):
        ingest._ingest(source, Path(bids), settings, ImagingSettings(), ("CN", "MCI", "AD"))
"""


def start(folder: Path, bids: Path, workers: int) -> subprocess.Popen:
    """Start an ingest in a process of its own; return when its imports are done."""
    script = folder / "ingest.py"
    script.write_text(_INGEST)
    sources = [str(folder / name) for name in ("first", "second")]
    arguments = [str(bids), str(folder / "key"), str(workers), *sources]
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
            elif path.suffix == ".png":
                Image.open(io.BytesIO(content)).load()
            elif not content.endswith((b"\n", b"</html>")):
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
    parser.add_argument("--mutants", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", help="names of files, as a.zip or a.v; all if not given")
    asked = parser.parse_args()
    if asked.mutants:
        mutate(asked.mutants, asked.kinds)
        return
    draw = random.Random(20261121)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cohort = PhantomSettings(subjects=asked.scans * 4 // 5, scans=asked.scans, spoiled=0.1)
        write_cohort(cohort, folder / "adni", seed=5)
        subjects = sorted(p.name for p in (folder / "adni").iterdir() if p.name[0].isdigit())
        for name, left_out in (("first", subjects[1::2]), ("second", subjects[::2])):
            shutil.copytree(folder / "adni", folder / name, ignore=shutil.ignore_patterns(*left_out))
        begun = time.monotonic()
        start(folder, folder / "undisturbed", asked.workers).communicate()
        lasted = time.monotonic() - begun
        wanted = digests(folder / "undisturbed")
        print(f"undisturbed: {len(wanted)} files in {lasted:.0f} s", flush=True)
        broken = sum(
            _kill(folder, draw.randint(0, 2), draw.uniform(0, 2), asked.workers) for _ in range(asked.kills)
        )
        start(folder, folder / "killed", asked.workers).communicate()
        found = digests(folder / "killed")
        differing = sorted({name for name, _ in found.items() ^ wanted.items()})
        print(f"half-written files after {asked.kills} kills: {broken}")
        print(f"files that differ from the undisturbed dataset in the end: {len(differing)} {differing[:5]}")


def _kill(folder: Path, more: int, after_s: float, workers: int) -> int:
    """Kill an ingest some time after so many more images; return how many files are half-written."""
    bids = folder / "killed"
    wanted = _images(bids) + more
    process = start(folder, bids, workers)
    while process.poll() is None and _images(bids) < wanted:
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    if process.poll() is not None:  # done already: nothing was left to interrupt
        print("ended by itself", flush=True)
        return 0
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        time.sleep(0.01)
    left = sum(1 for path in bids.rglob(".tmp-*") if path.is_file()) if bids.exists() else 0
    broken = half_written(bids) if bids.exists() else []
    print(
        f"killed {after_s:.1f} s after {wanted} images: {_images(bids)} images, {left} unfinished files, "
        f"{len(broken)} broken",
        flush=True,
    )
    return len(broken)


def _images(bids: Path) -> int:
    """Return how many images are there under their final names."""
    return sum(".tmp-" not in str(path) for path in bids.rglob("*.nii.gz")) if bids.exists() else 0


def mutate(number: int, chosen: list[str] | None = None) -> None:
    """Print for each kind of file how many mutants were read and refused, the slowest and the hungriest."""
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        times = {"FrameTimesStart": [0, 300], "FrameDuration": [300, 300], "ScanStart": 0, "Units": "Bq/mL"}
        table = "PTID;VISCODE;EXAMDATE;DIAGNOSIS\n" + "".join(
            f"011_S_{n:04d};bl;{n % 28 + 1:02d}.{n % 12 + 1:02d}.2017;{n % 3 + 1}\n" for n in range(40)
        )
        array = np.random.default_rng(1).normal(size=(20, 20, 20)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.diag([2, 2, 2, 1.0])), folder / "seed.nii")
        kinds = {
            "a.json": (json.dumps(times).encode(), lambda p: understand(read_sidecar(p), frames=2), None),
            "DXSUM.csv": (table.encode(), lambda p: read_tables(p.parent), None),
            "a.nii": ((folder / "seed.nii").read_bytes(), read_nifti, 352),
        }
        kinds["a.v"] = (
            Path(nib.__file__).parent.joinpath("tests/data/tinypet.v").read_bytes(),
            read_ecat,
            2048,
        )
        series = _series(folder / "series")
        for suffix in ("zip", "tar", "tar.gz"):
            content = _archive(series, suffix)
            kinds[f"a.{suffix}"] = (content, _read_in, len(content))
        (folder / "packed").mkdir()
        for path in series[1:]:
            (folder / "packed" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        first = gzip.compress(series[0].read_bytes())
        kinds["packed/0.dcm.gz"] = (first, lambda p: _read_in(p.parent), len(first))
        medium = FileSet()
        for path in series:
            medium.add(path)
        medium.write(folder / "medium")
        index = (folder / "medium" / "DICOMDIR").read_bytes()
        kinds["medium/DICOMDIR"] = (index, lambda p: list(map(read_found, scans_at(p))), len(index))
        for file, (content, read, header) in kinds.items():
            if chosen and file not in chosen:
                continue
            print(f"{file}: {_mutants(folder / file, content, read, header, number)}", flush=True)
            (folder / file).unlink()


def _series(folder: Path) -> list[Path]:
    """Write a series of five small slices."""
    folder.mkdir()
    uid, study = generate_uid(), generate_uid()
    for n in range(5):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.StudyID = study, uid, "PT", "1"
        ds.PatientID, ds.PatientName, ds.SeriesNumber, ds.InstanceNumber = "011_S_4321", "Doe^Jane", 1, n + 1
        ds.AcquisitionDate = ds.SeriesDate = ds.StudyDate = "20190510"
        ds.AcquisitionTime = ds.SeriesTime = ds.StudyTime = "102000"
        ds.Units, ds.DecayCorrection, ds.CorrectedImage = "BQML", "START", ["DECY", "ATTN"]
        ds.SeriesDescription, ds.ActualFrameDuration, ds.FrameReferenceTime = "AV1451", 300000, 148000
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 3 * n], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.Rows, ds.Columns, ds.NumberOfSlices = [2, 2], 8, 8, 5
        ds.RescaleSlope, ds.RescaleIntercept, ds.SamplesPerPixel = "0.5", "0", 1
        ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "MONOCHROME2", 16, 16, 15
        ds.PixelRepresentation, ds.PixelData = 0, np.arange(64, dtype="<u2").tobytes()
        ds.save_as(folder / f"{n}.dcm", enforce_file_format=True)
    return sorted(folder.iterdir())


def _archive(files: list[Path], suffix: str) -> bytes:
    target = io.BytesIO()
    if suffix == "zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in files:
                packed.write(path, f"series/{path.name}")
    else:
        with tarfile.open(fileobj=target, mode="w:gz" if suffix == "tar.gz" else "w") as packed:
            for path in files:
                packed.add(path, f"series/{path.name}")
    return target.getvalue()


def _read_in(source: Path) -> None:
    with opened(source) as view:
        for scan in find_scans(source, view=view).scans:
            read_found(scan)


def _mutants(
    path: Path, content: bytes, read: Callable[[Path], object], header: int | None, number: int
) -> str:
    draw = random.Random(20261128)
    counts: Counter[str] = Counter()
    slowest = most = 0.0
    for n in range(number):
        data = bytearray(content)
        for _ in range(draw.randint(1, 8)):
            place = draw.randrange(header or len(data))
            size = 1 if header else draw.randint(0, 3)
            data[place : place + size] = draw.randbytes(size if header else draw.randint(0, 3))
        path.write_bytes(data)
        watched = n % 10 == 0  # watching memory takes ten times as long
        if watched:
            tracemalloc.start()
        begun = time.perf_counter()
        try:
            read(path)
            counts["read"] += 1
        except TaucalError as error:
            counts["refused by name"] += 1
            if not str(error):
                counts["without a reason"] += 1
        except Exception as error:  # noqa: BLE001 - what is counted here
            counts[f"crashed: {type(error).__name__}"] += 1
        if watched:
            most = max(most, (tracemalloc.get_traced_memory()[1] - 100_000) / len(data))
            tracemalloc.stop()
        else:
            slowest = max(slowest, time.perf_counter() - begun)
    return f"{dict(counts)}, slowest {1000 * slowest:.0f} ms, memory 100 kB and {most:.1f} times the file"


if __name__ == "__main__":
    main()
