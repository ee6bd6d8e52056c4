"""What lies beside tau PET in an ADNI download: an MR, a CT and an amyloid PET, of three slices each.

They show no anatomy. An ingest has to recognise that they are not tau PET.
"""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, MRImageStorage

from pipeline.phantom.cohort import PlannedScan
from pipeline.phantom.dicom_writer import (
    code,
    empty_dataset,
    pet_dataset,
    place_slice,
    series_id,
    study_dataset,
)
from pipeline.phantom.scanner import SCANNERS, Acquisition

DECOYS = {
    "MR": "Accelerated Sagittal MPRAGE",
    "CT": "CTAC HEAD",
    "PT": "FBB Coreg, Avg, Standardized Image and Voxel Size",
}
"""Modality to series name."""
_EVERY = 16
_SHAPE = (32, 32, 3)
_SPACING_MM = (8.0, 8.0, 6.0)


def has_decoys(scan: PlannedScan) -> bool:
    """Return whether other series lie beside a scan: one subject in sixteen, first visit."""
    return scan.visit == 0 and scan.subject.index % _EVERY == 1


def write_decoys(scan: PlannedScan, out: Path) -> None:
    """Write the series that lie beside a scan; each folder appears whole, and stays if it is there."""
    for number, (modality, name) in enumerate(DECOYS.items(), start=1):
        beside = replace(scan, image_id=scan.image_id + number, frames_s=(1200.0,), spoiled="")
        day = f"{beside.start:%Y-%m-%d_%H_%M_%S}.0"
        target = out / scan.subject.ptid / name.replace(" ", "_") / day / f"I{beside.image_id}"
        if target.is_dir():
            continue
        unfinished = target.with_name(f".tmp-{target.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _write(beside, modality, unfinished)
        unfinished.rename(target)


def _write(scan: PlannedScan, modality: str, folder: Path) -> None:
    dataset, acquisition = _MAKERS[modality](scan)
    dataset.SeriesDescription = DECOYS[modality]
    x, y = np.ogrid[-1:1:32j, -1:1:32j]
    disc = np.where(np.hypot(x, y) < 0.8, 1000, 0).astype("<i2" if dataset.PixelRepresentation else "<u2")
    stem = f"ADNI_{scan.subject.ptid}_{modality}_{DECOYS[modality].replace(' ', '_')}_Br_"
    for z in range(_SHAPE[2]):
        place_slice(dataset, scan, acquisition, z, z + 1)
        dataset.PixelData = disc.tobytes()
        name = f"{stem}{scan.start:%Y%m%d%H%M%S}_{z + 1}_S{series_id(scan)}_I{scan.image_id}.dcm"
        dataset.save_as(folder / name, enforce_file_format=True)


def _acquisition(scan: PlannedScan) -> Acquisition:
    scanner = replace(SCANNERS[scan.subject.vendor], shape=_SHAPE, spacing_mm=_SPACING_MM)
    affine = np.diag([-_SPACING_MM[0], -_SPACING_MM[1], _SPACING_MM[2], 1.0])
    return Acquisition(scanner, [], affine, [], 6.0)


def _amyloid(scan: PlannedScan) -> tuple[Dataset, Acquisition]:
    acquisition = _acquisition(scan)
    dataset = pet_dataset(scan, acquisition)
    drug = dataset.RadiopharmaceuticalInformationSequence[0]
    drug.Radiopharmaceutical = "Florbetaben"
    drug.RadiopharmaceuticalCodeSequence = Sequence([code("C-E0269", "Florbetaben F^18^", "SRT")])
    dataset.RescaleSlope = "0.5"
    dataset.AcquisitionDate, dataset.AcquisitionTime = dataset.SeriesDate, dataset.SeriesTime
    dataset.FrameReferenceTime, dataset.ActualFrameDuration, dataset.DecayFactor = "590526", "1200000", "1.06"
    return dataset, acquisition


def _magnetic(scan: PlannedScan) -> tuple[Dataset, Acquisition]:
    acquisition = _acquisition(scan)
    dataset = study_dataset(empty_dataset(MRImageStorage), replace(scan, start=_morning(scan)), acquisition)
    dataset.Modality, dataset.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.PatientPosition = "HFS"
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "GR", "SP", ""
    dataset.MRAcquisitionType, dataset.EchoTrainLength = "3D", "1"
    dataset.RepetitionTime, dataset.EchoTime = "2300", "2.98"
    dataset.MagneticFieldStrength = "3"
    dataset.PixelRepresentation = 0
    return dataset, acquisition


def _computed(scan: PlannedScan) -> tuple[Dataset, Acquisition]:
    acquisition = _acquisition(scan)
    dataset = study_dataset(empty_dataset(CTImageStorage), scan, acquisition)
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientPosition = "HFS"
    dataset.KVP, dataset.AcquisitionNumber = "120", "1"
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "1", "-1024", "HU"
    dataset.PixelRepresentation = 0
    return dataset, acquisition


def _morning(scan: PlannedScan) -> dt.datetime:
    return scan.start - dt.timedelta(hours=2)


_MAKERS = {"MR": _magnetic, "CT": _computed, "PT": _amyloid}
