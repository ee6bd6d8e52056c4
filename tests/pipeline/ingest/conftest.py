"""Small PET series as scanners write them, with everything about them under the test's control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)


@dataclass(frozen=True)
class Series:
    """What was written, and what reading it must give."""

    folder: Path
    datasets: tuple[Dataset, ...]
    values: np.ndarray  # (x, y, z) or (x, y, z, t), after rescale
    affine: np.ndarray  # RAS+


def drug(name: str = "Flortaucipir F18", dose: float = 3.7e8, start: str = "20190510090000.00") -> Dataset:
    """A radiopharmaceutical item."""
    item = Dataset()
    item.Radiopharmaceutical = name
    item.RadiopharmaceuticalStartTime = start[8:]
    item.RadiopharmaceuticalStartDateTime = start
    item.RadionuclideTotalDose = str(dose)
    item.RadionuclideHalfLife = "6586.2"
    nuclide = Dataset()
    nuclide.CodeValue, nuclide.CodingSchemeDesignator, nuclide.CodeMeaning = "C-111A1", "SRT", "^18^Fluorine"
    item.RadionuclideCodeSequence = Sequence([nuclide])
    return item


def header(series_uid: str, syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    """The elements that all slices share."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    ds = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
    )
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.SeriesInstanceUID, ds.StudyInstanceUID = series_uid, generate_uid()
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "PT", "SIEMENS", "Biograph 64 mCT"
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientAge = "002_S_1234", "Doe^Jane", "F", "071Y"
    ds.PatientWeight = "70"
    ds.SeriesDescription, ds.ImageType = "AV1451 PET Brain", ["ORIGINAL", "PRIMARY"]
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = "20190510"
    ds.SeriesTime = ds.AcquisitionTime = "102000.00"
    ds.Units, ds.DecayCorrection, ds.CorrectedImage = "BQML", "START", ["DECY", "ATTN", "SCAT"]
    ds.ReconstructionMethod = "PSF+TOF 4i21s"
    ds.ActualFrameDuration, ds.FrameReferenceTime = "300000", "148000"
    ds.RadiopharmaceuticalInformationSequence = Sequence([drug()])
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    return ds


@pytest.fixture
def make_header():
    """The function that makes one header."""
    return header


@pytest.fixture
def make_drug():
    """The function that makes one radiopharmaceutical item."""
    return drug


def _rotation(angles: tuple[float, float, float]) -> np.ndarray:
    x, y, z = np.deg2rad(angles)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


@dataclass(frozen=True)
class Plan:
    """How a series is to be written."""

    shape: tuple[int, int, int] = (7, 6, 5)  # columns, rows, slices
    frames: int = 1
    spacing: tuple[float, float, float] = (2.0, 2.5, 3.0)
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    origin: tuple[float, float, float] = (-11.0, -17.0, 40.0)  # LPS
    backwards: bool = False  # instance numbers against z
    edit: Callable[[Dataset, int, int], None] | None = None  # dataset, slice, frame
    syntax: str = ExplicitVRLittleEndian
    seed: int = 0


def write_series(folder: Path, plan: Plan) -> Series:
    """Write a series slice by slice with a slope of its own for each."""
    rng = np.random.default_rng(plan.seed)
    columns, rows, slices = plan.shape
    turn = _rotation(plan.angles)
    uid, study = generate_uid(), generate_uid()
    values = np.empty((columns, rows, slices, plan.frames), np.float32)
    datasets = []
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(plan.frames):
        for k in range(slices):
            ds = header(uid, plan.syntax)
            ds.StudyInstanceUID, ds.FrameOfReferenceUID = study, study + ".1"
            number = t * slices + (slices - k if plan.backwards else k + 1)
            ds.InstanceNumber = ds.ImageIndex = number
            position = np.array(plan.origin) + turn[:, 2] * plan.spacing[2] * k
            ds.ImagePositionPatient = [f"{v:.9f}" for v in position]
            ds.ImageOrientationPatient = [f"{v:.9f}" for v in (*turn[:, 0], *turn[:, 1])]
            ds.PixelSpacing = [str(plan.spacing[1]), str(plan.spacing[0])]
            ds.Rows, ds.Columns = rows, columns
            ds.NumberOfSlices, ds.NumberOfTimeSlices = slices, plan.frames
            ds.RescaleSlope, ds.RescaleIntercept = f"{0.01 * (k + 1) * (t + 1):.6g}", "0"
            minutes, seconds = divmod(20 * 60 + 300 * t, 60)
            ds.AcquisitionTime = f"10{minutes:02d}{seconds:02d}.00"
            ds.FrameReferenceTime = str(148000 + 300000 * t)
            stored = rng.integers(0, 30000, (rows, columns), dtype=np.int16)
            ds.PixelData = stored.astype(">i2" if plan.syntax == ExplicitVRBigEndian else "<i2").tobytes()
            ds["PixelData"].VR = "OW"
            values[:, :, k, t] = (stored * float(ds.RescaleSlope)).T
            if plan.edit:
                plan.edit(ds, k, t)
            ds.save_as(folder / f"{generate_uid()}.dcm", enforce_file_format=True)
            datasets.append(ds)
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(plan.spacing)
    affine[:3, 3] = plan.origin
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return Series(folder, tuple(datasets), values if plan.frames > 1 else values[..., 0], ras)


@pytest.fixture
def make_series(tmp_path):
    """A function that writes a series and returns it: keywords as `Plan`, and `folder`."""

    def make(folder: Path | None = None, **how) -> Series:
        return write_series(folder or tmp_path / "series", Plan(**how))

    return make


def _enhanced_frame(position: np.ndarray, start: float, index: int) -> Dataset:
    place, content, groups = Dataset(), Dataset(), Dataset()
    place.ImagePositionPatient = [f"{v:.6f}" for v in position]
    content.FrameAcquisitionDateTime = (
        f"20190510{10 + int(start // 3600):02d}{20 + int(start // 60):02d}00.000000"
    )
    content.FrameAcquisitionDuration = 300000.0
    content.TemporalPositionIndex = index
    scale = Dataset()
    scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = str(0.5 * index), "0", "US"
    mapping, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "Bq/ml", "UCUM", "Becquerels/milliliter"
    mapping.MeasurementUnitsCodeSequence = Sequence([code])
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 0.5 * index, 0.0
    groups.PlanePositionSequence, groups.FrameContentSequence = Sequence([place]), Sequence([content])
    groups.PixelValueTransformationSequence = Sequence([scale])
    groups.RealWorldValueMappingSequence = Sequence([mapping])
    return groups


def write_enhanced(folder: Path) -> Series:
    """Write an enhanced PET image of two frames, its planes out of order."""
    rng = np.random.default_rng(1)
    ds = header(generate_uid())
    for keyword in ("Units", "DecayCorrection", "CorrectedImage", "AcquisitionTime", "FrameReferenceTime"):
        delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.130"
    ds.DecayCorrected, ds.AttenuationCorrected = "YES", "YES"
    ds.DecayCorrectionDateTime = "20190510102000.00"
    ds.Rows, ds.Columns, ds.NumberOfFrames = 4, 5, 6
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ["2.0", "3.0"], "4.0"
    orientation.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = (
        Sequence([measures]),
        Sequence([orientation]),
    )
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    values, groups, stored = np.empty((5, 4, 3, 2), np.float32), [], []
    for k, t in ((2, 1), (0, 0), (1, 0), (1, 1), (2, 0), (0, 1)):
        pixels = rng.integers(0, 3000, (4, 5), dtype=np.int16)
        values[:, :, k, t] = (pixels * 0.5 * (t + 1)).T
        groups.append(_enhanced_frame(np.array([10.0, 20 + 4.0 * k, 30]), 300.0 * t, t + 1))
        stored.append(pixels)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    ds.PixelData = np.stack(stored).tobytes()
    folder.mkdir(parents=True, exist_ok=True)
    ds.save_as(folder / "enhanced.dcm", enforce_file_format=True)
    affine = np.array([[-3, 0, 0, -10], [0, 0, -4, -20], [0, -2, 0, 30], [0, 0, 0, 1.0]])
    return Series(folder, (ds,), values, affine)


@pytest.fixture
def two(make_series, tmp_path):
    """Two series of equal geometry and different pixels, side by side."""
    return [make_series(folder=tmp_path / "in" / name, seed=n) for n, name in enumerate("ab")]


@pytest.fixture
def make_enhanced():
    """The function that writes an enhanced PET image into a folder."""
    return write_enhanced


@pytest.fixture
def rewrite():
    """Change every file of a folder in place."""

    def change(folder: Path, edit: Callable[[Dataset, int], None]) -> None:
        for n, path in enumerate(sorted(folder.glob("*.dcm"))):
            ds = pydicom.dcmread(path)
            edit(ds, n)
            ds.save_as(path)

    return change
