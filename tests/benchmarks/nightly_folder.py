"""How much of an old folder an ingest with nothing new reads: files opened, processor time.

    python tests/benchmarks/nightly_folder.py SCANS FOLDER

Each scan is a BIDS image of 4x4x4 voxels with a sidecar; the way to SUVR is replaced by a stub.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np

from flows import ingest as flow
from flows.ingestion import scan_jobs
from pipeline.config import ImagingSettings, IngestSettings
from pipeline.files import write_text


def write_source(source: Path, scans: int) -> None:
    """Write so many scans, an hour old."""
    facts = json.dumps({"TracerName": "AV1451", "Units": "Bq/mL", "AttenuationCorrection": "CT"})
    voxels = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    for n in range(scans):
        stem = source / f"sub-{n:05d}" / "ses-01" / "pet" / f"sub-{n:05d}_ses-01_pet"
        stem.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(voxels + n, np.diag([40.0, 40, 40, 1])), f"{stem}.nii.gz")
        Path(f"{stem}.json").write_text(facts)
    for path in source.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)


def main(scans: int, root: Path) -> None:
    """Ingest twice and print what each time cost."""
    write_source(root / "source", scans)
    process: Any = scan_jobs.process
    process.normalise = lambda *_: SimpleNamespace(findings=(), region_values=dict)
    process.write_derivative = lambda _, folder, stem: write_text(folder / f"{stem}_suvr.nii.gz", "suvr")
    opened: list[str] = []
    inside = str(root / "source")
    sys.addaudithook(
        lambda event, given: (
            opened.append(given[0]) if event == "open" and str(given[0]).startswith(inside) else None
        )
    )
    for which in ("first", "nothing new"):
        opened.clear()
        began, used = time.time(), time.process_time()
        settings = IngestSettings(key_file=root / "key", workers=1)
        flow._ingest(root / "source", root / "bids", settings, ImagingSettings(), ("CN", "MCI", "AD"))
        print(
            f"{which}: {len(opened)} times a file of {2 * scans} was opened, "
            f"{time.process_time() - used:.1f} s of processor, {time.time() - began:.0f} s"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
