"""A series of 267 slices as DICOM to Bq/mL, beside dcm2niix: `python tests/benchmarks/dicom_reading.py`.

The series is a GE scanner's: a rescale slope for every slice, a bed join that is uneven by hundredths of a
millimetre. It is written twice: 192 x 192 pixels with lean headers, and 128 x 128 pixels with headers of real
size. All sides read the same files; dcm2niix writes an uncompressed NIfTI, which is the least it can do, and
is started anew for each run, as its users do; plain pydicom stacks the pixels of each file, without slopes or
order. Then both write a compressed one; ours holds 32-bit floats, its own 16-bit integers. Runs alternate.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

from pipeline.ingest.bids import write_scan
from pipeline.ingest.dicom import read_series


def write(folder: Path, slices: int, pixels: int, dressed: Callable[[Dataset], None]) -> None:
    """Write the series, each header changed by `dressed`."""
    rng = np.random.default_rng(0)
    series, study = generate_uid(), generate_uid()
    for z in range(slices):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, study + ".1"
        ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "PT", "GE MEDICAL SYSTEMS", "Discovery MI"
        ds.PatientID, ds.PatientName, ds.PatientWeight = "002_S_0001", "SYNTHETIC^PHANTOM", "70"
        ds.SeriesDescription, ds.ImageType, ds.SeriesNumber = "AV1451 PET", ["ORIGINAL", "PRIMARY"], 1
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = "20190510"
        ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = "102000"
        ds.Units, ds.DecayCorrection, ds.CorrectedImage = "BQML", "START", ["DECY", "ATTN", "SCAT"]
        ds.ActualFrameDuration, ds.FrameReferenceTime, ds.DecayFactor = "1200000", "590526", "1.0641"
        ds.NumberOfSlices, ds.SeriesType = slices, ["STATIC", "IMAGE"]
        drug = Dataset()
        drug.Radiopharmaceutical, drug.RadionuclideTotalDose = "Flortaucipir", "3.7e8"
        drug.RadiopharmaceuticalStartTime, drug.RadionuclideHalfLife = "090000", "6586.2"
        ds.RadiopharmaceuticalInformationSequence = Sequence([drug])
        ds.InstanceNumber = ds.ImageIndex = slices - z
        place = 3.27 * z + (0.02 if z > slices // 2 else 0.0)
        ds.ImagePositionPatient = ["-150", "-150", f"{place:.3f}"]
        ds.ImageOrientationPatient, ds.PixelSpacing = ["1", "0", "0", "0", "1", "0"], ["1.56", "1.56"]
        ds.SliceThickness = "3.27"
        ds.Rows = ds.Columns = pixels
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = f"{0.5 + 0.003 * z:.6g}", "0"
        ds.PixelData = rng.integers(0, 32000, (pixels, pixels), dtype=np.int16).tobytes()
        dressed(ds)
        ds.save_as(folder / f"{z:04d}.dcm", enforce_file_format=True)


def dress(ds: Dataset) -> None:
    """Give a header the size of a real one: 200 elements, code sequences without a length, private blocks."""
    sequences = (
        "EnergyWindowRange",
        "PatientOrientationCode",
        "ReferencedImage",
        "DeidentificationMethodCode",
    )
    for keyword in (f"{name}Sequence" for name in sequences):
        items = []
        for n in range(4):
            code = Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = f"11310{n}", "DCM", "A meaning"
            code.is_undefined_length_sequence_item = True
            items.append(code)
        setattr(ds, keyword, Sequence(items))
        ds[keyword].is_undefined_length = True
    for creator in ("GEMS_PETD_01", "GEMS_IDEN_01"):
        block = ds.private_block(0x0009, creator, create=True)
        for n in range(1, 40):
            block.add_new(n, ("LO", "DS", "SL", "FL")[n % 4], (f"text {n}", "1.25", n, n / 4)[n % 4])
    for n, keyword in enumerate(
        ("AccessionNumber", "StationName", "StudyDescription", "ProtocolName", "SoftwareVersions",
         "OperatorsName", "ReferringPhysicianName", "InstitutionName", "StudyID", "DeviceSerialNumber",
         "RandomsCorrectionMethod", "AttenuationCorrectionMethod", "ScatterCorrectionMethod", "CountsSource",
         "CollimatorType", "FieldOfViewShape", "PatientPosition", "ReconstructionMethod")
    ):  # fmt: skip
        setattr(ds, keyword, f"SYNTHETIC {n}")


def _processor_seconds(work: Callable[[], object]) -> float:
    """Return the processor time of this process and its children: a busy machine stretches the clock."""
    begun = _spent()
    work()
    return _spent() - begun


def _spent() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peer(source: Path, out: Path, packed: str) -> Callable[[], object]:
    program = str(Path(sysconfig.get_path("scripts")) / "dcm2niix")
    command = [program, "-z", packed, "-f", "theirs", "-w", "1", "-o", str(out), str(source)]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def _by_pydicom(source: Path) -> object:
    return np.stack([pydicom.dcmread(path).pixel_array for path in sorted(source.iterdir())])


def measure(folder: Path, slices: int, pixels: int, runs: int, dressed: Callable[[Dataset], None]) -> None:
    """Print the best processor times of one series, their ratios, and how far the images are apart."""
    source, out = folder / "dicom", folder / "out"
    source.mkdir(parents=True)
    out.mkdir()
    write(source, slices, pixels, dressed)
    volume = read_series(source)
    ways = {
        "taucal": lambda: read_series(source),
        "plain pydicom": lambda: _by_pydicom(source),
        "dcm2niix": _peer(source, out, "n"),
        "taucal, compressed": lambda: write_scan(read_series(source), volume.facts, out / "ours_pet.nii.gz"),
        "dcm2niix, compressed": _peer(source, out, "y"),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(runs):
        for label, work in ways.items():
            best[label] = min(best[label], _processor_seconds(work))
    elements = len(list(pydicom.dcmread(next(source.iterdir())).iterall()))
    print(f"{slices} slices of {pixels} x {pixels}, {elements} elements each, best of {runs} runs")
    for label, seconds in best.items():
        peer = best["dcm2niix, compressed" if label.endswith("compressed") else "dcm2niix"]
        print(f"{label}: {seconds:.3f} s of processor time, {seconds / peer:.2f} x dcm2niix")
    print(f"taucal over plain pydicom: {best['taucal'] / best['plain pydicom']:.2f} x")
    _compare(volume, nib.load(out / "theirs.nii.gz"))


def main() -> None:
    """Measure large slices with lean headers, then small slices with headers of real size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=267)
    parser.add_argument("--pixels", type=int, default=192)
    parser.add_argument("--runs", type=int, default=7)
    asked = parser.parse_args()
    print(f"dcm2niix {version('dcm2niix')}, pydicom {version('pydicom')}")
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name, "large"), asked.slices, asked.pixels, asked.runs, lambda ds: None)
        measure(Path(name, "small"), asked.slices, 128, asked.runs, dress)


def _compare(volume, theirs) -> None:
    """Bring dcm2niix's image, whose rows run the other way, onto our grid."""
    there = np.linalg.inv(theirs.affine) @ volume.affine
    values = np.asarray(theirs.dataobj, dtype=np.float64)
    for axis in range(3):
        if there[axis, axis] < 0:
            values = np.flip(values, axis)
    off = np.abs(values - volume.array) / np.maximum(np.abs(values), 1.0)
    print(f"largest relative difference of a voxel: {off.max():.1e}, {np.mean(off > 2e-6):.1e} beyond 2e-6")
    corners = np.array([[0, 0, 0, 1], [*(n - 1 for n in volume.array.shape), 1]]).T
    flipped = np.sort((volume.affine @ corners)[:3], axis=1) - np.sort((theirs.affine @ corners)[:3], axis=1)
    print(f"corners are {np.abs(flipped).max():.3f} mm apart")


if __name__ == "__main__":
    main()
