"""Rarer ways to write PET as DICOM: other codecs, converted multi-frame images, telling factors."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLossless, JPEGLosslessSV1

from pipeline.errors import RefusedScan
from pipeline.ingest.dicom import read_series
from pipeline.ingest.sources import find_scans
from pipeline.ingest.times import mean_count_time

HALF_LIFE_S = 6586.2


@pytest.mark.parametrize(
    ("option", "syntax"), [("+e1", JPEGLosslessSV1), ("+el", JPEGLossless)], ids=["SV1", "any predictor"]
)
def test_jpeg_lossless_as_dcmtk_writes_it_is_read_to_the_bit(make_series, option, syntax):
    program = shutil.which("dcmcjpeg")
    if program is None:
        pytest.skip("dcmcjpeg is not installed: it comes with Debian's package dcmtk")
    series = make_series(shape=(33, 31, 4))
    plain = read_series(series.folder).array
    for path in list(series.folder.iterdir()):
        subprocess.run([program, option, path, path], check=True, capture_output=True)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_series(series.folder).array, plain)


def test_jpeg_2000_lossless_keeps_the_sign_of_every_pixel(make_series, rewrite):
    pytest.importorskip("openjpeg", reason="pylibjpeg-openjpeg is not installed")

    def shifted(ds, _slice, _frame):
        ds.RescaleIntercept = "0"
        stored = np.frombuffer(ds.PixelData, "<i2") - np.int16(9000)
        ds.PixelData = stored.astype("<i2").tobytes()

    series = make_series(shape=(32, 32, 3), edit=shifted)
    plain = read_series(series.folder).array
    assert plain.min() < 0 < plain.max()
    rewrite(series.folder, lambda ds, _: ds.compress(JPEG2000Lossless))
    assert pydicom.dcmread(next(series.folder.iterdir())).file_meta.TransferSyntaxUID == JPEG2000Lossless
    np.testing.assert_array_equal(read_series(series.folder).array, plain)


SHARED_BY_ALL = (
    "Units", "DecayCorrection", "CorrectedImage", "ReconstructionMethod", "ActualFrameDuration",
    "RadiopharmaceuticalInformationSequence", "SeriesDate", "SeriesTime",
)  # fmt: skip


def legacy_converted(folder, series):
    """Join the slices of a series into one image as PS3.4 lets an archive convert them."""
    first = series.datasets[0]
    joined = pydicom.dcmread(next(folder.glob("*.dcm")))
    joined.SOPClassUID = joined.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128.1"
    shared, converted = Dataset(), Dataset()
    for keyword in SHARED_BY_ALL:
        setattr(converted, keyword, getattr(first, keyword))
    shared.UnassignedSharedConvertedAttributesSequence = Sequence([converted])
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, "3"
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    groups = []
    for ds in series.datasets:
        frame, place, values, own = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = ds.ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = ds.RescaleSlope, "0", "US"
        own.AcquisitionDate, own.AcquisitionTime = ds.AcquisitionDate, ds.AcquisitionTime
        own.FrameReferenceTime = ds.FrameReferenceTime
        frame.PlanePositionSequence = Sequence([place])
        frame.PixelValueTransformationSequence = Sequence([values])
        frame.UnassignedPerFrameConvertedAttributesSequence = Sequence([own])
        groups.append(frame)
    gone = (
        *(k for k in SHARED_BY_ALL if not k.startswith("Series")), "PixelSpacing", "ImagePositionPatient",
        "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "AcquisitionTime",
        "FrameReferenceTime", "InstanceNumber", "ImageIndex",
    )  # fmt: skip
    for keyword in gone:
        delattr(joined, keyword)
    joined.SharedFunctionalGroupsSequence = Sequence([shared])
    joined.PerFrameFunctionalGroupsSequence = Sequence(groups)
    joined.NumberOfFrames = len(groups)
    joined.PixelData = b"".join(ds.PixelData for ds in series.datasets)
    for path in folder.glob("*.dcm"):
        path.unlink()
    joined.save_as(folder / "joined.dcm", enforce_file_format=True)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_legacy_converted_image_equals_the_series_it_was_made_of(make_series, frames):
    series = make_series(frames=frames, angles=(10.0, -5.0, 3.0))
    before = read_series(series.folder)
    legacy_converted(series.folder, series)
    after = read_series(series.folder)
    np.testing.assert_array_equal(after.array, before.array)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-9)
    assert (after.unit, after.frames) == (before.unit, before.frames)
    for fact in ("tracer", "scan_after_injection_s", "decay_correction", "attenuation_corrected"):
        assert after.facts[fact] == before.facts[fact], fact
    assert len(find_scans(series.folder).scans) == 1


def _factors(reference_s):
    """Write the decay factors of 5-minute frames that are corrected to `reference_s(frame)`."""

    def edit(ds, _slice, t):
        middle = 300.0 * t + mean_count_time(300.0, HALF_LIFE_S)
        ds.DecayFactor = f"{2 ** ((middle - reference_s(t)) / HALF_LIFE_S):.6g}"

    return edit


def test_decay_factors_of_one_reference_are_accepted(make_series):
    series = make_series(frames=4, edit=_factors(lambda t: 0.0))
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)


@pytest.mark.parametrize(
    ("reference_s", "apart"),
    [(lambda t: 300.0 * t, "900 s apart"), (lambda t: 70.0 * (t == 2), "70 s apart")],
    ids=["each to its own start", "one differs"],
)
def test_decay_factors_that_lead_to_different_times_are_refused(make_series, reference_s, apart):
    series = make_series(frames=4, edit=_factors(reference_s))
    with pytest.raises(RefusedScan, match=r"corrected to different times: .*0054,1321") as refusal:
        read_series(series.folder)
    assert (refusal.value.rule, refusal.value.measured) == ("decay-reference-differs", apart)


def test_a_decay_factor_of_one_tells_nothing(make_series):
    series = make_series(frames=3, edit=lambda ds, *_: setattr(ds, "DecayFactor", "1"))
    assert read_series(series.folder).array.shape[3] == 3


def _philips(to_suv, to_activity):
    def edit(ds, *_):
        ds.Manufacturer, ds.Units = "Philips Medical Systems", "CNTS"
        block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", str(to_suv))
        block.add_new(0x09, "DS", str(to_activity))

    return edit


def test_philips_own_suv_factor_is_held_against_weight_and_dose(make_series):
    computed = 70_000 / (3.7e8 * 2 ** (-4800 / HALF_LIFE_S))
    agreeing = read_series(make_series(edit=_philips(f"{2 * computed:.9f}", 2.0)).folder).facts
    assert agreeing["suv_factor"] == pytest.approx(computed, rel=1e-6)
    assert agreeing["suv_note"] is None


def test_philips_own_suv_factor_that_contradicts_them_is_told(make_series):
    computed = 70_000 / (3.7e8 * 2 ** (-4800 / HALF_LIFE_S))
    facts = read_series(make_series(edit=_philips(f"{computed:.9f}", 2.0)).folder).facts
    assert facts["suv_note"] == "SUV by weight, dose and times is 100% off the vendor's own factor"


def test_philips_own_suv_factor_stands_in_for_an_unknown_weight(make_series):
    def edit(ds, *where):
        _philips(0.001, 2.0)(ds, *where)
        del ds.PatientWeight

    assert read_series(make_series(edit=edit).folder).facts["suv_factor"] == pytest.approx(0.0005)
