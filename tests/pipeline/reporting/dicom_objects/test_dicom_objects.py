import json
import shutil
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.errors import ConfigError, InputError, RefusedScan, TaucalError
from pipeline.reporting.dicom_objects import parse_destination, read_source, send, write_dicom_objects
from pipeline.reporting.dicom_objects.codes import class_code, private
from pipeline.reporting.dicom_objects.segmentation import region_segments
from pipeline.reporting.scan.scan_build import build_scan_report

CREATED = datetime(2026, 11, 21, 9, 30)  # noqa: DTZ001 - DICOM dates are local
PDF = b"%PDF-1.7 nothing to see\n%%EOF "  # an odd number of bytes: DICOM wants an even one
PATIENT = {
    "PatientName": "Müller^Jörg",
    "PatientID": "MRN 0815",
    "PatientBirthDate": "19400903",
    "PatientSex": "M",
}
STUDY = {
    "AccessionNumber": "ACC0099",
    "StudyDate": "20190510",
    "StudyTime": "101500",
    "StudyDescription": "PET Hirn",
    "ReferringPhysicianName": "House^Gregory",
    "PatientWeight": "77.8",
}


def _slice(number: int, study: str, series: str, frame: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SpecificCharacterSet = "ISO_IR 100"
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    for keyword, value in (PATIENT | STUDY).items():
        setattr(image, keyword, value)
    image.StudyID = "longer than sixteen characters"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
    image.Modality, image.SeriesNumber, image.InstanceNumber = "PT", 1, number
    image.AcquisitionDate, image.AcquisitionTime = "20190510", "102000"
    image.Rows = image.Columns = 2
    image.PixelSpacing, image.SliceThickness = ["2", "2"], "3"
    image.ImagePositionPatient = ["0", "0", str(3 * number)]
    image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.PixelData = bytes(8)
    image.private_block(0x0009, "SECRET NOTES", create=True).add_new(1, "LO", "private, not to be copied")
    return image


@pytest.fixture
def series(tmp_path) -> Path:
    folder = tmp_path / "series"
    folder.mkdir()
    uids = [generate_uid() for _ in range(3)]
    for number in (3, 1, 2):
        _slice(number, *uids).save_as(folder / f"{number}.dcm", enforce_file_format=True)
    (folder / "readme.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def report(scan, context, prediction, at_clinic):
    return build_scan_report(scan, context, at_clinic(prediction, (0.3, 0.3, 0.4)))


@pytest.fixture
def pdf(tmp_path) -> Path:
    path = tmp_path / "report.pdf"
    path.write_bytes(PDF)
    return path


def _write(report, series, folder, pdf=None) -> dict[str, Path]:
    source = read_source(sorted(series.iterdir()))
    return write_dicom_objects(report, source, folder, pdf=pdf, created=CREATED)


@pytest.fixture(scope="module")
def brain(tmp_path_factory) -> Path:
    """A series of 12 slices of 4 mm through the brain, tilted, stored in another order."""
    folder = tmp_path_factory.mktemp("brain")
    uids = [generate_uid() for _ in range(3)]
    tilt = np.deg2rad(10)
    normal = np.array([0, -np.sin(tilt), np.cos(tilt)])
    for number in (5, 1, *range(2, 5), *range(6, 13)):
        image = _slice(number, *uids)
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


def _items(node, name: str) -> list:
    """Every content item below a node whose concept has this meaning."""
    found = []
    for item in node.get("ContentSequence", []):
        if item.ConceptNameCodeSequence[0].CodeMeaning == name:
            found.append(item)
        found += _items(item, name)
    return found


def _probabilities(found) -> list[tuple]:
    """Every probability with its value and the codes that qualify it."""
    told = []
    for item in _items(found, "Probability"):
        kinds = [c.ConceptCodeSequence[0].CodeValue for c in item.get("ContentSequence", [])]
        value = item.MeasuredValueSequence[0]
        assert value.MeasurementUnitsCodeSequence[0].CodeValue == "{ratio}"
        told.append((float(value.NumericValue), *kinds))
    return told


def test_both_objects_belong_to_the_patients_study(report, series, pdf, tmp_path):
    image = pydicom.dcmread(series / "1.dcm")
    written = _write(report, series, tmp_path / "out", pdf)
    objects = [pydicom.dcmread(path) for path in written.values()]
    assert set(written) == {"dicom_sr", "dicom_pdf"}
    for found in objects:
        for keyword, value in (PATIENT | STUDY).items():
            assert str(found[keyword].value) == value, keyword
        assert found.StudyInstanceUID == image.StudyInstanceUID
        assert found.FrameOfReferenceUID == image.FrameOfReferenceUID
        assert found.StudyID == "longer than sixt"
        assert found.SeriesDescription == "AI - research use only"
        assert found.VerificationFlag == "UNVERIFIED"
        assert "private, not" not in str(found)
    taken = {image.SeriesInstanceUID, image.SOPInstanceUID}
    assert len({o.SeriesInstanceUID for o in objects} | {o.SOPInstanceUID for o in objects} | taken) == 6


def test_the_pdf_is_inside_whole_and_refers_to_every_image(report, series, pdf, tmp_path):
    found = pydicom.dcmread(_write(report, series, tmp_path / "out", pdf)["dicom_pdf"])
    assert found.EncapsulatedDocument[: found.EncapsulatedDocumentLength] == PDF
    assert found.MIMETypeOfEncapsulatedDocument == "application/pdf"
    images = {pydicom.dcmread(p).SOPInstanceUID for p in series.glob("*.dcm")}
    assert {r.ReferencedSOPInstanceUID for r in found.SourceInstanceSequence} == images


def test_the_structured_report_holds_probabilities_and_their_ranges(report, series, tmp_path):
    found = pydicom.dcmread(_write(report, series, tmp_path / "out")["dicom_sr"])
    clinic, ad = "clinic-share", report.classes[-1]
    assert _probabilities(found)[-4:] == [
        (round(ad.shown, 4), clinic),
        (round(ad.lower, 4), clinic, "range-low"),
        (round(ad.upper, 4), clinic, "range-high"),
        (0.86, "training-share"),
    ]
    assert ad.lower < ad.shown < ad.upper
    assert len(_probabilities(found)) == 4 * len(report.classes)
    decision = _items(found, "Decision of the model")[0].ConceptCodeSequence[0]
    assert (decision.CodeValue, decision.CodingSchemeDesignator) == ("report", "99TAUCAL")
    in_set = [i.ConceptCodeSequence[0].CodeMeaning for i in _items(found, "In the conformal prediction set")]
    assert in_set == ["No", "No", "Yes"]
    (likeliest,) = _items(found, "Most likely class")
    assert likeliest.ConceptCodeSequence[0].CodeValue == "class-AD"


def test_without_a_clinics_prevalence_the_probabilities_need_no_method(scan, context, two, series, tmp_path):
    found = pydicom.dcmread(_write(build_scan_report(scan, context, two), series, tmp_path)["dicom_sr"])
    cn = [(0.72,), (0.58, "range-low"), (0.83, "range-high")]
    assert _probabilities(found)[:3] == cn
    assert len(_probabilities(found)) == 9


def test_a_referred_scan_has_no_most_likely_class(scan, context, doubtful, series, tmp_path):
    found = pydicom.dcmread(_write(build_scan_report(scan, context, doubtful), series, tmp_path)["dicom_sr"])
    assert _items(found, "Most likely class") == []
    assert _items(found, "Decision of the model")[0].ConceptCodeSequence[0].CodeValue == "refer"


def test_the_structured_report_holds_each_side_of_each_region(report, series, tmp_path):
    found = pydicom.dcmread(_write(report, series, tmp_path / "out")["dicom_sr"])
    sides = {}
    for item in _items(found, "Standardized uptake value ratio to inferior cerebellar grey"):
        if not (sites := _items(item, "Finding Site")):
            continue  # a composite, whose site stands in its group
        site = sites[0]
        side = [i.ConceptCodeSequence[0].CodeMeaning for i in _items(site, "Laterality")]
        value = float(item.MeasuredValueSequence[0].NumericValue)
        sides[(site.ConceptCodeSequence[0].CodeMeaning, *side)] = value
    assert sides["Precuneus", "Left"] == 2.5
    for row in report.regions:
        expected = {(row.title, "Left"): row.left, (row.title, "Right"): row.right, (row.title,): row.both}
        for where, value in expected.items():
            assert sides.get(where) == (None if value is None else pytest.approx(value, abs=1e-4))
    site = next(i for i in _items(found, "Finding Site") if "Amygdala" in str(i))
    assert (site.ConceptCodeSequence[0].CodeValue, site.ConceptCodeSequence[0].CodingSchemeDesignator) == (
        "4958002",
        "SCT",
    )


@pytest.mark.parametrize("enhanced", [False, True])
def test_images_without_a_place_of_their_own_are_evidence_alone(enhanced, report, series, tmp_path):
    """As an enhanced image, which states it in groups of its frames."""
    for path in series.glob("*.dcm"):
        image = pydicom.dcmread(path)
        del image.ImagePositionPatient
        if enhanced:
            image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.130"
            image.NumberOfFrames = 1
            del image.PixelSpacing, image.ImageOrientationPatient
        image.save_as(path)
    found = pydicom.dcmread(_write(report, series, tmp_path / "out")["dicom_sr"])
    (evidence,) = found.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(evidence.ReferencedSOPSequence) == 3
    assert {i.TextValue for i in _items(found, "Algorithm Name")} == {"taucal", "taucal regional SUVR"}


def test_the_structured_report_names_model_scheme_and_images(report, series, tmp_path):
    found = pydicom.dcmread(_write(report, series, tmp_path / "out")["dicom_sr"])
    names = {i.TextValue for i in _items(found, "Algorithm Name")}
    assert names == {"taucal", "taucal regional SUVR"}
    assert "3" in {i.TextValue for i in _items(found, "Algorithm Version")}
    assert "taucal: 0.1.0" in {i.TextValue for i in _items(found, "Algorithm Parameters")}
    assert found.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99TAUCAL"
    assert len(_items(found, "Source")) == 3
    evidence = found.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == 3
    assert found.PreliminaryFlag == "PRELIMINARY"


def test_evidence_names_every_image_of_a_long_series_and_the_library_some(report, series, tmp_path):
    uids = [pydicom.dcmread(series / "1.dcm")[k].value for k in ("StudyInstanceUID", "SeriesInstanceUID")]
    for number in range(4, 61):
        _slice(number, *uids, generate_uid()).save_as(series / f"{number}.dcm", enforce_file_format=True)
    found = pydicom.dcmread(_write(report, series, tmp_path / "out")["dicom_sr"])
    evidence = found.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == 60
    assert len(_items(found, "Source")) == 20


def test_a_refused_scan_holds_no_probability(scan, context, series, tmp_path):
    bare = replace(scan, regions=None, composites={}, findings=(), visits=())
    refused = build_scan_report(bare, context, None, RefusedScan("wrong-tracer", "The tracer is not AV1451"))
    found = pydicom.dcmread(_write(refused, series, tmp_path / "out")["dicom_sr"])
    assert _items(found, "Probability") == []
    assert _items(found, "Decision of the model")[0].ConceptCodeSequence[0].CodeValue == "refused"


def test_the_same_report_gives_the_same_bytes_and_another_another_uid(
    report, scan, context, doubtful, series, pdf, tmp_path
):
    first, second = (_write(report, series, tmp_path / name, pdf) for name in ("a", "b"))
    for kind, path in first.items():
        assert path.read_bytes() == second[kind].read_bytes(), kind
    other = _write(build_scan_report(scan, context, doubtful), series, tmp_path / "c")
    uids = {pydicom.dcmread(p).SOPInstanceUID for p in (first["dicom_sr"], other["dicom_sr"])}
    assert len(uids) == 2


def test_a_bare_anonymised_header_is_enough(report, series, pdf, tmp_path):
    for path in series.glob("*.dcm"):
        image = pydicom.dcmread(path)
        for keyword in (*PATIENT, *STUDY, "StudyID", "FrameOfReferenceUID", "AcquisitionDate"):
            del image[keyword]
        image.PatientSex, image.PatientBirthDate = "U", "1940"  # no DICOM values; not to be spread
        image.save_as(path)
    found = pydicom.dcmread(_write(report, series, tmp_path / "out", pdf)["dicom_sr"])
    assert (found.PatientSex, found.PatientBirthDate, found.PatientID) == ("", "", "")


def test_images_of_two_studies_or_none_are_refused(series, tmp_path):
    _slice(9, generate_uid(), generate_uid(), generate_uid()).save_as(
        series / "9.dcm", enforce_file_format=True
    )
    with pytest.raises(InputError, match=r"belong to 2 DICOM studies, expected one.*Point to the folder"):
        read_source(sorted(series.iterdir()))
    with pytest.raises(InputError, match="belong to 0 DICOM studies, expected one"):
        read_source([series / "readme.txt"])


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
    for group in _items(found, "Measurement Group"):
        for item in _items(group, "Referenced Segment"):
            (reference,) = item.ReferencedSOPSequence
            assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
            segment = segments[int(reference.ReferencedSegmentNumber)]
            assert segment.TrackingUID == _items(group, "Tracking Unique Identifier")[0].UID
            assert segment.TrackingID == _items(group, "Tracking Identifier")[0].TextValue
            code = segment.SegmentedPropertyTypeCodeSequence[0]
            site = _items(group, "Finding Site")[0]
            assert site.ConceptCodeSequence[0].CodeValue == code.CodeValue
            laterality = [i.ConceptCodeSequence[0].CodeMeaning for i in _items(site, "Laterality")]
            modifiers = code.get("SegmentedPropertyTypeModifierCodeSequence", [])
            assert laterality == [m.CodeMeaning for m in modifiers]
            referred += 1
    assert referred == len(segments)


def test_with_a_segmentation_the_report_holds_the_same_suvr(report, brain, segmented, tmp_path):
    def suvr(path):
        items = _items(pydicom.dcmread(path), "Standardized uptake value ratio to inferior cerebellar grey")
        return sorted(float(i.MeasuredValueSequence[0].NumericValue) for i in items)

    assert suvr(segmented["dicom_sr"]) == suvr(_write(report, brain, tmp_path / "b")["dicom_sr"])


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


def test_a_node_that_is_not_there_is_told(report, series, tmp_path):
    path = _write(report, series, tmp_path / "out")["dicom_sr"]
    with pytest.raises(TaucalError, match=r"^NOBODY@127.0.0.1:1: .* no association from TAUCAL. Check title"):
        send([path], parse_destination("NOBODY@127.0.0.1:1"))


@pytest.mark.parametrize(
    "text", ["", "host:104", "AET@host", "AET@host:0", "AET@host:70000", "A" * 17 + "@h:1"]
)
def test_what_names_no_node_is_refused(text):
    with pytest.raises(ConfigError, match=r"is no DICOM node\. Write it as AET@HOST:PORT"):
        parse_destination(text)


@pytest.mark.parametrize("name", ["CN", "<script>", "a\\b", "x" * 80, "健常"])
def test_codes_of_any_class_fit_dicom_and_stay_apart(name):
    code = class_code(name, "")
    assert len(code.value) <= 16
    assert len(code.meaning) <= 64
    assert "\\" not in code.value + code.meaning
    assert code != class_code(name + "'", "")
    assert private("a b", "x").value == "a_b"
