"""Ingests of small images, whose way to SUVR is replaced by a stub: what is tested is what stays on disk."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from flows import ingest as flow
from flows.ingestion import scan_jobs
from pipeline.atlas import SHAPE
from pipeline.config import ImagingSettings, IngestSettings
from pipeline.files import write_text

CLASSES = ("CN", "MCI", "AD")


@pytest.fixture
def put():
    """The function that writes one PET image of a subject into a BIDS source; returns the image.

    Each subject's session has an image of its own.
    """

    def write(
        source: Path, subject: str, session: str = "01", *, value: float | None = None, **sidecar
    ) -> Path:
        stem = f"sub-{subject}_ses-{session}_pet"
        folder = source / f"sub-{subject}" / f"ses-{session}" / "pet"
        folder.mkdir(parents=True, exist_ok=True)
        told = {"TracerName": "AV1451", "Units": "Bq/mL", "AttenuationCorrection": "CT", **sidecar}
        (folder / f"{stem}.json").write_text(json.dumps(told))
        shown = float(zlib.crc32(f"{subject} {session}".encode()) % 1000) if value is None else value
        array = np.arange(64, dtype=np.float32).reshape(4, 4, 4) + np.float32(shown)
        nib.save(nib.Nifti1Image(array, np.diag([40.0, 40, 40, 1])), folder / f"{stem}.nii.gz")
        return folder / f"{stem}.nii.gz"

    return write


@pytest.fixture
def run(monkeypatch):
    """The function that ingests in this process, without imaging."""

    def write(_normalised, folder, stem):
        return write_text(folder / f"{stem}_space-X_desc-suvr_pet.nii.gz", "suvr")

    suvr = SimpleNamespace(array=np.ones(SHAPE, np.float32))
    stub = SimpleNamespace(suvr=suvr, findings=(), region_values=lambda: {"composite_meta_roi": 1.25})
    monkeypatch.setattr(scan_jobs.process, "normalise", lambda *_: stub)
    monkeypatch.setattr(scan_jobs.process, "write_derivative", write)

    def ingest(source: Path, bids: Path, **settings):
        told = IngestSettings(**{"key_file": bids.parent / "key", "workers": 1, **settings})
        return flow._ingest(source, bids, told, ImagingSettings(), CLASSES)

    return ingest
