"""PET DICOM series as three vendors write them, each instance complete and marked SYNTHETIC.

References
----------
DICOM PS3.3, section A.21 (Positron Emission Tomography Image IOD) and section C.8.9 (its modules).
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

from pipeline.phantom.cohort import PlannedScan
from pipeline.phantom.scanner import Acquisition

HALF_LIFE_S = 6586.2
WATERMARK = "SYNTHETIC"
_STATIC_DESCRIPTIONS = (
    "AV1451 Coreg, Avg, Standardized Image and Voxel Size",
    "AV1451 Co-registered, Averaged",
)
_DYNAMIC_DESCRIPTION = "AV1451 Co-registered Dynamic"
_CORRECTIONS = ("NORM", "DTIM", "ATTN", "SCAT", "RADL", "DECY", "RAN")


def series_description(scan: PlannedScan) -> str:
    """Return the series name under which ADNI offers such an image.

    Examples
    --------
    >>> from pipeline.config import PhantomSettings
    >>> from pipeline.phantom.cohort import plan_cohort
    >>> series_description(plan_cohort(PhantomSettings(subjects=3, scans=3), seed=1)[0])[:6]
    'AV1451'
    """
    if len(scan.frames_s) > 1:
        return _DYNAMIC_DESCRIPTION
    return _STATIC_DESCRIPTIONS[scan.image_id % 4 == 0]


def series_id(scan: PlannedScan) -> int:
    """ADNI's series id of a scan."""
    return scan.image_id // 3


def folder_of(scan: PlannedScan) -> Path:
    """Where ADNI's download puts a scan, below the root."""
    series = series_description(scan).replace(" ", "_")
    return Path(scan.subject.ptid, series, f"{scan.start:%Y-%m-%d_%H_%M_%S}.0", f"I{scan.image_id}")


def write_series(scan: PlannedScan, acquisition: Acquisition, folder: Path) -> Path:
    """Write one instance a slice and frame into an existing, empty folder.

    Parameters
    ----------
    scan : PlannedScan
        Its `spoiled` rule decides what is missing or wrong.
    acquisition : Acquisition
        Bq/mL.

    Returns
    -------
    Path
        The folder.
    """
    dataset = pet_dataset(scan, acquisition)
    stem = f"ADNI_{scan.subject.ptid}_PT_{series_description(scan).replace(' ', '_')}_Br_"
    stem += f"{scan.start:%Y%m%d%H%M%S%f}"[:-3]
    starts_s = np.concatenate([[0.0], np.cumsum(scan.frames_s)[:-1]])
    slices = acquisition.scanner.shape[2]
    # GE numbers from the top of the head downwards.
    order = range(slices)[::-1] if acquisition.scanner.vendor.startswith("GE") else range(slices)
    left_out = _missing_slices(scan, slices)
    number = 0
    for k, frame in enumerate(acquisition.frames):
        pixels, slopes = _quantise(frame, acquisition)
        _set_frame(dataset, scan, float(starts_s[k]), scan.frames_s[k])
        for z in order:
            number += 1
            if z in left_out:
                continue
            place_slice(dataset, scan, acquisition, z, number)
            dataset.RescaleSlope = slopes[z]
            dataset.PixelData = pixels[z].tobytes()
            path = folder / f"{stem}_{number}_S{series_id(scan)}_I{scan.image_id}.dcm"
            dataset.save_as(path, enforce_file_format=True)
    if scan.spoiled == "truncated-file":
        _truncate(sorted(folder.iterdir())[slices // 2])
    return folder


def _missing_slices(scan: PlannedScan, slices: int) -> frozenset[int]:
    if scan.spoiled != "missing-slices":
        return frozenset()
    first = slices // 2 + scan.image_id % 7
    return frozenset(range(first, first + 1 + scan.image_id % 3))


def _truncate(path: Path) -> None:
    """Cut a file in the middle of its pixels, as a broken download leaves it."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def _quantise(frame: NDArray[np.float32], acquisition: Acquisition) -> tuple[NDArray[np.generic], list[str]]:
    """Return 16-bit pixels indexed (slice, row, column) and the rescale slope of each slice as text."""
    by_slice = np.ascontiguousarray(frame.transpose(2, 1, 0))
    signed = acquisition.scanner.signed
    peaks = by_slice.max(axis=(1, 2))
    if not acquisition.scanner.per_slice_slope:
        peaks = np.full_like(peaks, peaks.max())
    # A header holds a slope as text of at most 16 characters: the pixels must fit the slope as written.
    slopes = [f"{max(float(p), 1.0) / 32000:.8g}" for p in peaks]
    scaled = by_slice / np.array([float(s) for s in slopes], dtype=np.float32)[:, None, None]
    return np.rint(scaled).astype("<i2" if signed else "<u2"), slopes


def _set_frame(dataset: Dataset, scan: PlannedScan, start_s: float, duration_s: float) -> None:
    start = scan.start + dt.timedelta(seconds=start_s)
    decay = np.log(2) / HALF_LIFE_S
    lost = decay * duration_s / (1 - np.exp(-decay * duration_s))
    # The moment at which activity equals its mean over the frame.
    mean_s = np.log(lost) / decay
    dataset.AcquisitionDate, dataset.AcquisitionTime = f"{start:%Y%m%d}", f"{start:%H%M%S}"
    dataset.FrameReferenceTime = f"{1000 * (start_s + mean_s):.3f}"
    dataset.ActualFrameDuration = str(round(1000 * duration_s))
    dataset.DecayFactor = f"{np.exp(decay * (start_s + mean_s)):.8g}"


def place_slice(dataset: Dataset, scan: PlannedScan, acquisition: Acquisition, z: int, number: int) -> None:
    """Make a data set the instance of one slice: its identity, number and place."""
    affine = acquisition.affine
    position = affine[:3, 3] + z * affine[:3, 2]
    dataset.SOPInstanceUID = _uid(scan, "instance", number)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.InstanceNumber = dataset.ImageIndex = number
    # DICOM's patient axes point to the left and the back, RAS to the right and the front.
    lps = (-position[0], -position[1], position[2])
    dataset.ImagePositionPatient = [f"{float(p) + 0.0:.3f}" for p in lps]
    dataset.SliceLocation = f"{position[2]:.3f}"


def _uid(scan: PlannedScan, *what: object) -> str:
    return str(
        generate_uid(entropy_srcs=["taucal phantom", scan.subject.ptid, str(scan.image_id), *map(str, what)])
    )


def empty_dataset(sop_class: UID) -> Dataset:
    """Return a data set of a SOP class, without other attributes."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = generate_uid(entropy_srcs=["taucal phantom"])
    dataset.file_meta.ImplementationVersionName = "TAUCAL_PHANTOM"
    return dataset


def study_dataset(dataset: Dataset, scan: PlannedScan, acquisition: Acquisition) -> Dataset:
    """Fill in what series of every modality have: patient, study, series, equipment, pixels' layout."""
    _patient(dataset, scan)
    _study_and_series(dataset, scan, acquisition)
    _pixels(dataset, acquisition)
    return dataset


def pet_dataset(scan: PlannedScan, acquisition: Acquisition) -> Dataset:
    """Return everything that all instances of a PET series share."""
    dataset = study_dataset(empty_dataset(PositronEmissionTomographyImageStorage), scan, acquisition)
    _pet(dataset, scan, acquisition)
    dataset.RadiopharmaceuticalInformationSequence = Sequence([_radiopharmaceutical(scan)])
    return dataset


def _patient(dataset: Dataset, scan: PlannedScan) -> None:
    subject = scan.subject
    age = int((scan.start.date() - subject.birth).days / 365.25)
    dataset.PatientName = f"{WATERMARK}^PHANTOM"
    dataset.PatientID = subject.ptid
    dataset.PatientBirthDate = f"{subject.birth:%Y%m%d}"
    dataset.PatientSex = "M" if subject.male else "F"
    dataset.PatientAge = f"{age:03d}Y"
    dataset.PatientSize = f"{subject.height_m:.2f}"
    dataset.PatientWeight = f"{subject.weight_kg:.1f}"
    dataset.PatientComments = f"{WATERMARK} phantom, no person"


def _study_and_series(dataset: Dataset, scan: PlannedScan, acquisition: Acquisition) -> None:
    scanner, day, clock = acquisition.scanner, f"{scan.start:%Y%m%d}", f"{scan.start:%H%M%S}"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.StudyInstanceUID = _uid(scan, "study")
    dataset.SeriesInstanceUID = _uid(scan, "series")
    dataset.FrameOfReferenceUID = _uid(scan, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = clock
    dataset.StudyID = f"{series_id(scan)}"
    dataset.AccessionNumber = f"SYN{scan.image_id}"
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = 1
    dataset.StudyDescription = f"{WATERMARK} TAU PET"
    dataset.SeriesDescription = series_description(scan)
    dataset.ImageComments = f"{WATERMARK}: made by taucal, not measured on a person"
    dataset.InstitutionName = f"{WATERMARK} SITE {scan.subject.ptid[:3]}"
    dataset.BodyPartExamined = "BRAIN"
    dataset.Manufacturer = scanner.vendor
    dataset.ManufacturerModelName = scanner.model
    dataset.SoftwareVersions = scanner.software
    dataset.DeviceSerialNumber = f"SYN{scan.subject.ptid[:3]}"


def _pet(dataset: Dataset, scan: PlannedScan, acquisition: Acquisition) -> None:
    scanner = acquisition.scanner
    dynamic = len(scan.frames_s) > 1
    corrected = scan.spoiled != "not-attenuation-corrected"
    dataset.Modality, dataset.ImageType = "PT", ["ORIGINAL", "PRIMARY"]
    lying = code("102538003", "recumbent")
    lying.PatientOrientationModifierCodeSequence = Sequence([code("40199007", "supine")])
    dataset.PatientOrientationCodeSequence = Sequence([lying])
    dataset.PatientGantryRelationshipCodeSequence = Sequence([code("102540008", "headfirst")])
    dataset.RescaleIntercept = "0"
    dataset.Units = "BQML"
    dataset.CountsSource = "EMISSION"
    dataset.SeriesType = ["DYNAMIC" if dynamic else "STATIC", "IMAGE"]
    dataset.NumberOfSlices = scanner.shape[2]
    if dynamic:
        dataset.NumberOfTimeSlices = len(scan.frames_s)
    dataset.CorrectedImage = [c for c in _CORRECTIONS if corrected or c not in ("ATTN", "SCAT")]
    if corrected:
        dataset.AttenuationCorrectionMethod = "measured,CT"
        dataset.ScatterCorrectionMethod = "Model-based"
    dataset.RandomsCorrectionMethod = "DLYD"
    dataset.DecayCorrection = "START"
    dataset.ReconstructionMethod = scanner.reconstruction
    dataset.ConvolutionKernel = scanner.filter_name
    dataset.ReconstructionDiameter = f"{scanner.shape[0] * scanner.spacing_mm[0]:.2f}"
    dataset.CollimatorType = "NONE"
    dataset.EnergyWindowRangeSequence = Sequence([_energy_window()])
    dataset.LossyImageCompression = "00"


def _energy_window() -> Dataset:
    window = Dataset()
    window.EnergyWindowLowerLimit, window.EnergyWindowUpperLimit = "435", "650"
    return window


def _radiopharmaceutical(scan: PlannedScan) -> Dataset:
    injected = scan.start - dt.timedelta(seconds=scan.after_injection_s)
    glucose = scan.spoiled == "wrong-tracer"
    tracer = Dataset()
    tracer.Radiopharmaceutical = "Fluorodeoxyglucose" if glucose else "18F-AV-1451"
    tracer.RadiopharmaceuticalVolume = ""
    tracer.RadiopharmaceuticalRoute = "Intravenous route"
    tracer.RadiopharmaceuticalStartTime = f"{injected:%H%M%S}"
    tracer.RadiopharmaceuticalStartDateTime = f"{injected:%Y%m%d%H%M%S}"
    tracer.RadionuclideTotalDose = f"{scan.dose_bq:.0f}"
    tracer.RadionuclideHalfLife = f"{HALF_LIFE_S}"
    tracer.RadionuclidePositronFraction = "0.97"
    tracer.RadionuclideCodeSequence = Sequence([code("77004003", "^18^Fluorine")])
    tracer.RadiopharmaceuticalCodeSequence = Sequence(
        [code("35321007", "Fluorodeoxyglucose F^18^") if glucose else code("879808000", "Flortaucipir F^18^")]
    )
    return tracer


def code(value: str, meaning: str, scheme: str = "SCT") -> Dataset:
    """Return a coded term."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _pixels(dataset: Dataset, acquisition: Acquisition) -> None:
    columns, rows, _ = acquisition.scanner.shape
    spacing = acquisition.scanner.spacing_mm
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.PixelSpacing = [f"{spacing[1]}", f"{spacing[0]}"]
    dataset.SliceThickness = f"{spacing[2]}"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(acquisition.scanner.signed)
