"""Series are valid PET DICOM, hold the pixels they were given, and spoiled ones break one rule each."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from pipeline.phantom import SPOILED_RULES, make_scan
from pipeline.phantom.dicom_writer import HALF_LIFE_S, series_description, write_series

KINDS = [(v, k) for v in ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips") for k in ("static", "dynamic")]
KINDS += list(SPOILED_RULES)


@pytest.fixture(scope="session")
def written(one_of_each, tmp_path_factory):
    """Return a function from kind to (plan, acquisition, folder), each written once."""
    done = {}

    def write(kind):
        if kind not in done:
            scan = one_of_each[kind]
            acquisition = make_scan(scan, seed=1)[1]
            folder = tmp_path_factory.mktemp("series")
            done[kind] = (scan, acquisition, write_series(scan, acquisition, folder))
        return done[kind]

    return write


def headers(folder):
    return [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted(folder.iterdir())]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_dciodvfy_finds_no_error(written, kind):
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed: it comes with Debian's package dicom3tools")
    *_, folder = written(kind)
    files = sorted(folder.iterdir())
    for path in (files[0], files[-1]):
        said = subprocess.run([program, path], capture_output=True, text=True, check=False).stderr
        assert "PETImage" in said
        assert "Error" not in said


@pytest.mark.parametrize("kind", KINDS[:6], ids=str)
def test_pixels_and_places_come_back(written, kind):
    scan, acquisition, folder = written(kind)
    frames = np.full((len(scan.frames_s), *acquisition.scanner.shape), np.nan)
    for path in folder.iterdir():
        d = pydicom.dcmread(path)
        lps_to_ras = np.array([-1, -1, 1])
        place = np.array(d.ImagePositionPatient) * lps_to_ras
        z = np.linalg.solve(acquisition.affine[:3, :3], place - acquisition.affine[:3, 3])
        assert z[:2] == pytest.approx([0, 0], abs=1e-3)
        seconds = np.concatenate([[0], np.cumsum(scan.frames_s)])
        frame = int(np.searchsorted(seconds, float(d.FrameReferenceTime) / 1000) - 1)
        values = d.pixel_array.astype(float).T * float(d.RescaleSlope) + float(d.RescaleIntercept)
        frames[frame, :, :, round(z[2])] = values
        row, column = np.array(d.ImageOrientationPatient).reshape(2, 3) * lps_to_ras
        assert row * float(d.PixelSpacing[1]) == pytest.approx(acquisition.affine[:3, 0])
        assert column * float(d.PixelSpacing[0]) == pytest.approx(acquisition.affine[:3, 1])
    for stored, given in zip(frames, acquisition.frames, strict=True):
        assert np.abs(stored - given).max() <= given.max() / 32000 * 0.51 + 1e-3


def test_slopes_are_the_vendors(written):
    for vendor, many in (("SIEMENS", True), ("GE MEDICAL SYSTEMS", True), ("Philips", False)):
        _, acquisition, folder = written((vendor, "static"))
        slopes = {d.RescaleSlope for d in headers(folder)}
        assert (len(slopes) > acquisition.scanner.shape[2] // 2) is many
        assert many or len(slopes) == 1


def test_ge_numbers_its_slices_downwards(written):
    *_, folder = written(("GE MEDICAL SYSTEMS", "static"))
    z = {d.InstanceNumber: float(d.ImagePositionPatient[2]) for d in headers(folder)}
    assert (np.diff([z[n] for n in sorted(z)]) < 0).all()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_file_says_that_it_is_synthetic(written, kind):
    *_, folder = written(kind)
    for d in headers(folder):
        for element in (
            d.PatientName,
            d.ImageComments,
            d.StudyDescription,
            d.InstitutionName,
            d.PatientComments,
        ):
            assert "SYNTHETIC" in str(element)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_identities_are_unique_and_shared_where_they_must_be(written, kind):
    *_, folder = written(kind)
    found = headers(folder)
    assert len({d.SOPInstanceUID for d in found}) == len(found)
    assert len({d.InstanceNumber for d in found}) == len(found)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({d[name].value for d in found}) == 1
    assert all(d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID for d in found)


def test_frames_tell_their_times_and_decay(written):
    scan, _, folder = written(("SIEMENS", "dynamic"))
    starts = np.concatenate([[0], np.cumsum(scan.frames_s)[:-1]])
    seen = {}
    for d in headers(folder):
        seen[d.AcquisitionTime] = (
            float(d.FrameReferenceTime) / 1000,
            float(d.DecayFactor),
            int(d.ActualFrameDuration),
        )
        assert d.DecayCorrection == "START"
        assert d.NumberOfTimeSlices == len(scan.frames_s)
        assert d.SeriesTime == f"{scan.start:%H%M%S}"
    assert len(seen) == len(starts)
    rate = np.log(2) / HALF_LIFE_S
    for start, clock in zip(starts, sorted(seen), strict=True):
        reference_s, factor, duration_ms = seen[clock]
        # The frame's mean activity, integrated numerically, is the activity at the reference time.
        t = np.linspace(start, start + 300, 20001)
        mean = np.exp(-rate * t).mean()
        assert np.exp(-rate * reference_s) == pytest.approx(mean, rel=1e-5)
        assert factor == pytest.approx(1 / mean, rel=1e-5)
        assert duration_ms == 300_000


def test_the_tracer_is_told_in_words_and_codes(written):
    scan, _, folder = written(("Philips", "static"))
    d = headers(folder)[0]
    (tracer,) = d.RadiopharmaceuticalInformationSequence
    assert tracer.Radiopharmaceutical == "18F-AV-1451"
    assert tracer.RadiopharmaceuticalCodeSequence[0].CodeValue == "879808000"
    assert float(tracer.RadionuclideHalfLife) == HALF_LIFE_S
    assert 333e6 <= float(tracer.RadionuclideTotalDose) <= 407e6
    assert d.Units == "BQML"
    assert d.SeriesDescription == series_description(scan)
    injected = pydicom.valuerep.DT(tracer.RadiopharmaceuticalStartDateTime)
    assert (scan.start - injected).total_seconds() == pytest.approx(scan.after_injection_s, abs=1)


@pytest.mark.parametrize("rule", SPOILED_RULES)
def test_a_spoiled_scan_breaks_its_rule_and_a_sound_one_does_not(written, rule):
    def breaks(kind):
        scan, _, folder = written(kind)
        first = headers(folder)[0]
        tracer = first.RadiopharmaceuticalInformationSequence[0]
        sizes = {p.stat().st_size // 1000 for p in folder.iterdir()}
        return {
            "missing-slices": len(list(folder.iterdir())) < first.NumberOfSlices * len(scan.frames_s),
            "wrong-tracer": tracer.Radiopharmaceutical == "Fluorodeoxyglucose",
            "truncated-file": max(sizes) - min(sizes) > 3,
            "not-attenuation-corrected": "ATTN" not in first.CorrectedImage,
            "outside-window": scan.after_injection_s < 1200,
        }

    assert [name for name, broken in breaks(rule).items() if broken] == [rule]
    assert not any(breaks(("SIEMENS", "static")).values())


def test_missing_slices_lie_within_the_head(written):
    *_, folder = written("missing-slices")
    z = sorted(float(d.ImagePositionPatient[2]) for d in headers(folder))
    gaps = np.diff(z)
    where = int(gaps.argmax())
    assert gaps.max() > 1.9 * np.median(gaps)
    assert 0.3 < where / len(z) < 0.8


def test_a_truncated_file_cannot_be_read_whole(written):
    *_, folder = written("truncated-file")
    broken = min(folder.iterdir(), key=lambda p: p.stat().st_size)
    with pytest.raises(ValueError, match="number of bytes"):
        _ = pydicom.dcmread(broken).pixel_array
