"""The Segmentation shows where each region lies, and other programs take it with the report."""

import json
import shutil
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_studies import CREATED, PATIENT, PDF, items_of, pet_slice, write_objects
from pydicom.uid import generate_uid

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.errors import RefusedScan
from pipeline.reporting.dicom_objects import read_source, write_dicom_objects
from pipeline.reporting.dicom_objects.segmentation import region_segments
from pipeline.reporting.scan.scan_build import build_scan_report


@pytest.fixture(scope="module")
def brain(tmp_path_factory) -> Path:
    """A series of 12 slices of 4 mm through the brain, tilted, stored in another order."""
    folder = tmp_path_factory.mktemp("brain")
    uids = [generate_uid() for _ in range(3)]
    tilt = np.deg2rad(10)
    normal = np.array([0, -np.sin(tilt), np.cos(tilt)])
    for number in (5, 1, *range(2, 5), *range(6, 13)):
        image = pet_slice(number, *uids)
        image.Rows = image.Columns = 48
        image.PixelSpacing, image.PixelData = ["4", "4"], bytes(2 * 48 * 48)
        image.ImageOrientationPatient = ["1", "0", "0", "0", f"{np.cos(tilt):.6f}", f"{np.sin(tilt):.6f}"]
        corner = np.array([-94, -80, -52]) + 4 * number * normal
        image.ImagePositionPatient = [f"{mm:.4f}" for mm in corner]
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def _labels_at(points_mm):
    """The regions of the atlas in a scan that lies as the template does."""
    voxels = np.rint((points_mm - AFFINE[:3, 3]) / 2).astype(int)
    inside = ((voxels >= 0) & (voxels < SHAPE)).all(axis=-1)
    return np.where(inside, load_atlas().labels[tuple(np.moveaxis(np.clip(voxels, 0, 95), -1, 0))], 0)


def _segmented(report, brain, folder, pdf=None) -> dict[str, Path]:
    source = read_source(sorted(brain.iterdir()))
    return write_dicom_objects(report, source, folder, pdf=pdf, created=CREATED, labels_at=_labels_at)


@pytest.fixture(scope="module")
def segmented(report, brain, tmp_path_factory) -> dict[str, Path]:
    """The objects of the report of that series, with the Segmentation."""
    folder = tmp_path_factory.mktemp("segmented")
    (folder / "report.pdf").write_bytes(PDF)
    return _segmented(report, brain, folder, folder / "report.pdf")


def test_a_segmentation_shows_where_each_region_lies(report, brain, segmented):
    written = segmented
    found = pydicom.dcmread(written["dicom_seg"])
    image = pydicom.dcmread(brain / "1.dcm")
    assert (found.Modality, found.SeriesDescription) == ("SEG", "AI - research use only")
    assert found.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert found.StudyInstanceUID == image.StudyInstanceUID
    assert str(found.PatientName) == PATIENT["PatientName"]
    labels = {s.SegmentNumber: s.SegmentLabel for s in found.SegmentSequence}
    assert {"Left amygdala", "Right amygdala", "Left entorhinal"} <= set(labels.values())
    assert len(set(labels.values())) == len(labels) > 40
    places = {i.SOPInstanceUID: i for i in map(pydicom.dcmread, brain.glob("*.dcm"))}
    names = load_atlas().names
    for item, pixels in zip(found.PerFrameFunctionalGroupsSequence, found.pixel_array, strict=True):
        label = labels[item.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        source = places[item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        corner = np.array(source.ImagePositionPatient, dtype=float)
        assert list(item.PlanePositionSequence[0].ImagePositionPatient) == pytest.approx(corner, abs=1e-3)
        turn = np.array(source.ImageOrientationPatient, dtype=float)
        for row, column in np.argwhere(pixels)[:3]:
            x, y, z = corner + 4 * column * turn[:3] + 4 * row * turn[3:]
            name = names[_labels_at(np.array([-x, -y, z]))]
            side, _, region = name.partition("_") if name[:5] in ("left_", "right") else ("", "", name)
            title = next(r.title for r in report.regions if r.region == region)
            assert label.lower() == f"{side} {title}".strip().lower()


def test_groups_of_the_report_refer_to_their_segments(report, brain, segmented):
    written = segmented
    seg, found = (pydicom.dcmread(written[k]) for k in ("dicom_seg", "dicom_sr"))
    segments = {s.SegmentNumber: s for s in seg.SegmentSequence}
    assert seg.SOPInstanceUID in str(found.CurrentRequestedProcedureEvidenceSequence[0])
    referred = 0
    for group in items_of(found, "Measurement Group"):
        for item in items_of(group, "Referenced Segment"):
            (reference,) = item.ReferencedSOPSequence
            assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
            segment = segments[int(reference.ReferencedSegmentNumber)]
            assert segment.TrackingUID == items_of(group, "Tracking Unique Identifier")[0].UID
            assert segment.TrackingID == items_of(group, "Tracking Identifier")[0].TextValue
            code = segment.SegmentedPropertyTypeCodeSequence[0]
            site = items_of(group, "Finding Site")[0]
            assert site.ConceptCodeSequence[0].CodeValue == code.CodeValue
            laterality = [i.ConceptCodeSequence[0].CodeMeaning for i in items_of(site, "Laterality")]
            modifiers = code.get("SegmentedPropertyTypeModifierCodeSequence", [])
            assert laterality == [m.CodeMeaning for m in modifiers]
            referred += 1
    assert referred == len(segments)


def test_with_a_segmentation_the_report_holds_the_same_suvr(report, brain, segmented, tmp_path):
    def suvr(path):
        items = items_of(pydicom.dcmread(path), "Standardized uptake value ratio to inferior cerebellar grey")
        return sorted(float(i.MeasuredValueSequence[0].NumericValue) for i in items)

    assert suvr(segmented["dicom_sr"]) == suvr(write_objects(report, brain, tmp_path / "b")["dicom_sr"])


def test_a_segmentation_is_the_same_bytes_again(report, brain, segmented, tmp_path):
    again = _segmented(report, brain, tmp_path)
    for kind in ("dicom_seg", "dicom_sr"):
        assert again[kind].read_bytes() == segmented[kind].read_bytes()


def test_a_region_without_sides_is_not_taken_for_one_with_them(report, brain):
    regions = tuple(r for r in report.regions if r.region in ("cerebellar_grey", "amygdala"))
    few = report.model_copy(update={"regions": regions})
    found = region_segments(few, read_source(sorted(brain.iterdir())), _labels_at)
    assert set(found.names) == {"cerebellar_grey", "left_amygdala", "right_amygdala"}


def test_of_a_dynamic_series_one_image_of_each_place_is_segmented(report, brain):
    source = read_source(sorted(brain.iterdir()))
    later = [deepcopy(image) for image in source]
    for image in later:
        image.SOPInstanceUID, image.InstanceNumber = generate_uid(), image.InstanceNumber + 12
    once, twice = (region_segments(report, images, _labels_at) for images in (source, [*later, *source]))
    assert len(twice.images) == 12
    np.testing.assert_array_equal(twice.pixels, once.pixels)
    assert twice.names == once.names


@pytest.mark.parametrize(
    "change",
    [
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": None},
        {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        {"PixelSpacing": None},
        {"PixelSpacing": [3, 3]},
        {"FrameOfReferenceUID": None},
        {"FrameOfReferenceUID": "1.2.3"},
    ],
)
def test_images_that_do_not_state_where_they_lie_together_have_no_segmentation(report, brain, change):
    source = [deepcopy(image) for image in read_source(sorted(brain.iterdir()))]
    assert region_segments(report, source, _labels_at) is not None
    for keyword, value in change.items():
        setattr(source[3], keyword, value)
    assert region_segments(report, source, _labels_at) is None


def test_a_scan_without_the_brain_or_without_regions_has_no_segmentation(
    report, series, brain, scan, context, tmp_path
):
    assert set(_segmented(report, series, tmp_path / "a")) == {"dicom_sr"}
    bare = replace(scan, regions=None, composites={}, findings=(), visits=())
    refused = build_scan_report(bare, context, None, RefusedScan("wrong-tracer", "The tracer is not AV1451"))
    assert set(_segmented(refused, brain, tmp_path / "b")) == {"dicom_sr"}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="no dciodvfy (Debian: dicom3tools)")
def test_dciodvfy_finds_no_error(segmented):
    for path in segmented.values():
        told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
        assert any(kind in told for kind in ("Comprehensive3DSR", "EncapsulatedPDF", "Segmentation"))
        assert [line for line in told.splitlines() if line.startswith("Error")] == []


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="no dsrdump (Debian: dcmtk)")
def test_dsrdump_reads_the_tree(segmented):
    path = segmented["dicom_sr"]
    ran = subprocess.run(["dsrdump", path], capture_output=True, text=True, check=True)
    assert "Verification Flag   : UNVERIFIED" in ran.stdout
    assert '(122157,DCM,"Probability")' in ran.stdout or '"Probability")="0.86"' in ran.stdout
    assert [line for line in ran.stderr.splitlines() if line.startswith(("E:", "F:"))] == []


def _own_network() -> bool:
    tools = all(shutil.which(tool) for tool in ("Orthanc", "unshare", "ip"))
    return (
        tools and subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.server
@pytest.mark.skipif(not _own_network(), reason="no Orthanc, or no right to a network namespace")
def test_orthanc_files_them_under_the_study_and_gives_them_back(brain, segmented, tmp_path):
    written = segmented
    image = brain / "1.dcm"
    call = ["unshare", "-n", "timeout", "500", sys.executable, Path(__file__).with_name("orthanc_round.py")]
    ran = subprocess.run(
        [*call, tmp_path, image, *written.values()], capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stderr
    (study,) = json.loads(ran.stdout)["studies"]
    assert study["uid"] == pydicom.dcmread(image).StudyInstanceUID
    assert sorted(s["Modality"] for s in study["series"]) == ["DOC", "PT", "SEG", "SR"]
    back = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, study["fetched"])}
    for path in (image, *written.values()):
        sent = pydicom.dcmread(path)
        assert back[sent.SOPInstanceUID] == sent
