"""How much of an old folder is read to find what is new: files opened and seconds, beside a plain walk.

    python tests/benchmarks/nightly_folder.py FILES FOLDER

For DICOM (slices of 100 a scan), BIDS and NIfTI (an image of 4x4x4 voxels with a sidecar), each in a folder
of its own with so many files: the first night and the second, with nothing new. Then one ingest of the DICOM
folder and one with nothing new, with a stub in place of the way to SUVR. The peer is ``os.walk`` with a
``stat`` of each file, in the same run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage

from flows import ingest as flow
from flows.ingestion import scan_jobs
from flows.running.console import chosen
from pipeline.config import ImagingSettings, IngestSettings
from pipeline.files import write_text
from pipeline.ingest.known_headers import remembered_headers
from pipeline.ingest.sources import find_scans

SLICES = 100
_VOXELS = np.arange(64, dtype=np.float32).reshape(4, 4, 4)


def _slice(scan: int, number: int) -> bytes:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{scan}.{number}"
    ds.SeriesInstanceUID, ds.StudyInstanceUID = f"1.2.3.{scan}", f"1.2.4.{scan}"
    ds.FrameOfReferenceUID, ds.Modality, ds.SeriesDescription = f"1.2.5.{scan}", "PT", "AV1451"
    ds.Units, ds.CorrectedImage, ds.DecayCorrection = "BQML", ["DECY", "ATTN", "SCAT"], "START"
    ds.ActualFrameDuration, ds.FrameReferenceTime = "300000", "148000"
    ds.PatientID, ds.AcquisitionDate, ds.AcquisitionTime = f"P{scan:05d}", "20200101", "102000"
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 16, 16, 15
    ds.PixelRepresentation, ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 1, "MONOCHROME2"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, float(number)], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept = [2, 2], 1 + scan / 1000, 0
    ds.PixelData = np.full((8, 8), number + scan % 100, np.int16).tobytes()
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()


def _files(layout: str, count: int) -> Iterator[tuple[str, bytes]]:
    if layout == "dicom":
        for n in range(count):
            scan, number = divmod(n, SLICES)
            yield f"P{scan:05d}/{number:04d}.dcm", _slice(scan, number)
        return
    facts = json.dumps({"TracerName": "AV1451", "Units": "Bq/mL", "AttenuationCorrection": "CT"}).encode()
    image = nib.Nifti1Image(_VOXELS, np.diag([40.0, 40, 40, 1])).to_bytes()
    for n in range(count // 2):
        stem = f"sub-{n:05d}/ses-01/pet/sub-{n:05d}_ses-01_pet" if layout == "bids" else f"s{n:05d}/pet_tau"
        yield f"{stem}.nii", image
        yield f"{stem}.json", facts


def write_source(source: Path, layout: str, count: int) -> None:
    """Write so many files, an hour old."""
    for name, content in _files(layout, count):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (time.time() - 3600,) * 2)


def _walk(source: Path) -> None:
    for place, _, names in os.walk(source):
        for name in names:
            os.stat(os.path.join(place, name))  # noqa: PTH116, PTH118 - the peer at its fastest


def _measured(what: str, source: Path, work: Callable[[], object]) -> None:
    opened.clear()
    began, used = time.perf_counter(), time.process_time()
    work()
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    inside = sum(str(path).startswith(str(source)) for path in opened)
    print(
        f"{what}: {seconds:.2f} s, {processor:.2f} s of processor, {inside} times a file opened", flush=True
    )


opened: list[Any] = []


def main() -> None:
    """Print what each layout and each night cost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=int, help="of each layout")
    parser.add_argument("folder", type=Path, help="a new folder")
    asked = parser.parse_args()
    count, root = asked.files, asked.folder
    sys.addaudithook(lambda event, given: opened.append(given[0]) if event == "open" else None)
    (root / "finds").mkdir(parents=True)
    (root / "finds" / "key").write_text("key")

    def find(source: Path) -> None:
        with remembered_headers(root / "finds" / "key"):
            find_scans(source)

    for layout in ("dicom", "bids", "nifti"):
        source = root / layout
        write_source(source, layout, count)
        _walk(source)  # the names are in the cache of the system for everybody
        _measured(f"{layout}, walk and stat", source, lambda source=source: _walk(source))
        for night in ("first night", "nothing new"):
            _measured(f"{layout}, {night}", source, lambda source=source: find(source))
    chosen.quiet = True
    process: Any = scan_jobs.process
    process.normalise = lambda *_: SimpleNamespace(
        findings=(), region_values=dict, suvr=SimpleNamespace(array=_VOXELS)
    )
    process.write_derivative = lambda _, folder, stem: write_text(folder / f"{stem}_suvr.nii.gz", "suvr")
    scan_jobs.write_outline = lambda *_: None
    settings, source = IngestSettings(key_file=root / "key", workers=1), root / "dicom"
    for night in ("first night", "nothing new"):
        work = lambda: flow._ingest(source, root / "out", settings, ImagingSettings(), ("CN", "MCI", "AD"))  # noqa: E731
        _measured(f"ingest of dicom, {night}", source, work)


if __name__ == "__main__":
    main()
