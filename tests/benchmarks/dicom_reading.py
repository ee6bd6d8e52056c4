"""A series of 267 slices as DICOM to Bq/mL, beside dcm2niix: `python tests/benchmarks/dicom_reading.py`.

The series is a GE scanner's: 192 x 192 pixels, a rescale slope for every slice, a bed join that is uneven by
hundredths of a millimetre. Both sides read the same files; dcm2niix writes an uncompressed NIfTI, which is
the least it can do, and is started anew for each run, as its users do. Then both write a compressed one; ours
holds 32-bit floats, its own 16-bit integers. Runs alternate.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sysconfig
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

from pipeline.ingest.bids import write_scan
from pipeline.ingest.dicom import read_series

_LABELS = ("taucal", "taucal, compressed", "dcm2niix", "dcm2niix, compressed")


def write(folder: Path, slices: int, pixels: int) -> None:
    """Write the series."""
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
        ds.save_as(folder / f"{z:04d}.dcm", enforce_file_format=True)


def main() -> None:
    """Print medians, their ratio and how far values and geometry are apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=267)
    parser.add_argument("--pixels", type=int, default=192)
    parser.add_argument("--runs", type=int, default=7)
    asked = parser.parse_args()
    program = str(Path(sysconfig.get_path("scripts")) / "dcm2niix")
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name, "dicom"), Path(name, "out")
        source.mkdir()
        out.mkdir()
        write(source, asked.slices, asked.pixels)
        seconds: dict[str, list[float]] = {label: [] for label in _LABELS}
        for _ in range(asked.runs):
            begun = time.perf_counter()
            volume = read_series(source)
            seconds["taucal"].append(time.perf_counter() - begun)
            write_scan(volume, volume.facts, out / "ours_pet.nii.gz")
            seconds["taucal, compressed"].append(time.perf_counter() - begun)
            for label, packed in (("dcm2niix", "n"), ("dcm2niix, compressed", "y")):
                begun = time.perf_counter()
                command = [program, "-z", packed, "-f", "theirs", "-w", "1", "-o", str(out), str(source)]
                subprocess.run(command, check=True, capture_output=True)
                seconds[label].append(time.perf_counter() - begun)
        theirs = nib.load(out / "theirs.nii.gz")
        print(f"{asked.slices} slices of {asked.pixels} x {asked.pixels}, median of {asked.runs} runs")
        middle = {label: statistics.median(runs) for label, runs in seconds.items()}
        for label, peer in zip(_LABELS[:2], _LABELS[2:], strict=True):
            ratio = f"{middle[label] / middle[peer]:.2f} x"
            print(
                f"{label}: {middle[label]:.2f} s, {ratio} {peer} {version('dcm2niix')}: {middle[peer]:.2f} s"
            )
        _compare(volume, theirs)


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
