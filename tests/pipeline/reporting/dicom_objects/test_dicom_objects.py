"""The report as DICOM objects: they belong to the patient's study, and hold what the report holds."""

from dataclasses import replace

import pydicom
import pytest
from dicom_studies import PATIENT, PDF, STUDY, items_of, pet_slice, write_objects
from pydicom.uid import generate_uid

from pipeline.errors import ConfigError, InputError, RefusedScan, TaucalError
from pipeline.reporting.dicom_objects import parse_destination, read_source, send
from pipeline.reporting.dicom_objects.codes import class_code, private
from pipeline.reporting.scan.scan_build import build_scan_report


def _probabilities(found) -> list[tuple]:
    """Every probability with its value and the codes that qualify it."""
    told = []
    for item in items_of(found, "Probability"):
        kinds = [c.ConceptCodeSequence[0].CodeValue for c in item.get("ContentSequence", [])]
        value = item.MeasuredValueSequence[0]
        assert value.MeasurementUnitsCodeSequence[0].CodeValue == "{ratio}"
        told.append((float(value.NumericValue), *kinds))
    return told


def test_both_objects_belong_to_the_patients_study(report, series, pdf, tmp_path):
    image = pydicom.dcmread(series / "1.dcm")
    written = write_objects(report, series, tmp_path / "out", pdf)
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
    found = pydicom.dcmread(write_objects(report, series, tmp_path / "out", pdf)["dicom_pdf"])
    assert found.EncapsulatedDocument[: found.EncapsulatedDocumentLength] == PDF
    assert found.MIMETypeOfEncapsulatedDocument == "application/pdf"
    images = {pydicom.dcmread(p).SOPInstanceUID for p in series.glob("*.dcm")}
    assert {r.ReferencedSOPInstanceUID for r in found.SourceInstanceSequence} == images


def test_the_structured_report_holds_probabilities_and_their_ranges(report, series, tmp_path):
    found = pydicom.dcmread(write_objects(report, series, tmp_path / "out")["dicom_sr"])
    clinic, ad = "clinic-share", report.classes[-1]
    assert _probabilities(found)[-4:] == [
        (round(ad.shown, 4), clinic),
        (round(ad.lower, 4), clinic, "range-low"),
        (round(ad.upper, 4), clinic, "range-high"),
        (0.86, "training-share"),
    ]
    assert ad.lower < ad.shown < ad.upper
    assert len(_probabilities(found)) == 4 * len(report.classes)
    decision = items_of(found, "Decision of the model")[0].ConceptCodeSequence[0]
    assert (decision.CodeValue, decision.CodingSchemeDesignator) == ("report", "99TAUCAL")
    in_set = [
        i.ConceptCodeSequence[0].CodeMeaning for i in items_of(found, "In the conformal prediction set")
    ]
    assert in_set == ["No", "No", "Yes"]
    (likeliest,) = items_of(found, "Most likely class")
    assert likeliest.ConceptCodeSequence[0].CodeValue == "class-AD"


def test_without_a_clinics_prevalence_the_probabilities_need_no_method(scan, context, two, series, tmp_path):
    found = pydicom.dcmread(
        write_objects(build_scan_report(scan, context, two), series, tmp_path)["dicom_sr"]
    )
    cn = [(0.72,), (0.58, "range-low"), (0.83, "range-high")]
    assert _probabilities(found)[:3] == cn
    assert len(_probabilities(found)) == 9


def test_a_referred_scan_has_no_most_likely_class(scan, context, doubtful, series, tmp_path):
    found = pydicom.dcmread(
        write_objects(build_scan_report(scan, context, doubtful), series, tmp_path)["dicom_sr"]
    )
    assert items_of(found, "Most likely class") == []
    assert items_of(found, "Decision of the model")[0].ConceptCodeSequence[0].CodeValue == "refer"


def test_the_structured_report_holds_each_side_of_each_region(report, series, tmp_path):
    found = pydicom.dcmread(write_objects(report, series, tmp_path / "out")["dicom_sr"])
    sides = {}
    for item in items_of(found, "Standardized uptake value ratio to inferior cerebellar grey"):
        if not (sites := items_of(item, "Finding Site")):
            continue  # a composite, whose site stands in its group
        site = sites[0]
        side = [i.ConceptCodeSequence[0].CodeMeaning for i in items_of(site, "Laterality")]
        value = float(item.MeasuredValueSequence[0].NumericValue)
        sides[(site.ConceptCodeSequence[0].CodeMeaning, *side)] = value
    assert sides["Precuneus", "Left"] == 2.5
    for row in report.regions:
        expected = {(row.title, "Left"): row.left, (row.title, "Right"): row.right, (row.title,): row.both}
        for where, value in expected.items():
            assert sides.get(where) == (None if value is None else pytest.approx(value, abs=1e-4))
    site = next(i for i in items_of(found, "Finding Site") if "Amygdala" in str(i))
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
    found = pydicom.dcmread(write_objects(report, series, tmp_path / "out")["dicom_sr"])
    (evidence,) = found.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(evidence.ReferencedSOPSequence) == 3
    assert {i.TextValue for i in items_of(found, "Algorithm Name")} == {"taucal", "taucal regional SUVR"}


def test_the_structured_report_names_model_scheme_and_images(report, series, tmp_path):
    found = pydicom.dcmread(write_objects(report, series, tmp_path / "out")["dicom_sr"])
    names = {i.TextValue for i in items_of(found, "Algorithm Name")}
    assert names == {"taucal", "taucal regional SUVR"}
    assert "3" in {i.TextValue for i in items_of(found, "Algorithm Version")}
    assert "taucal: 0.1.0" in {i.TextValue for i in items_of(found, "Algorithm Parameters")}
    assert found.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99TAUCAL"
    assert len(items_of(found, "Source")) == 3
    evidence = found.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == 3
    assert found.PreliminaryFlag == "PRELIMINARY"


def test_evidence_names_every_image_of_a_long_series_and_the_library_some(report, series, tmp_path):
    uids = [pydicom.dcmread(series / "1.dcm")[k].value for k in ("StudyInstanceUID", "SeriesInstanceUID")]
    for number in range(4, 61):
        pet_slice(number, *uids, generate_uid()).save_as(series / f"{number}.dcm", enforce_file_format=True)
    found = pydicom.dcmread(write_objects(report, series, tmp_path / "out")["dicom_sr"])
    evidence = found.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == 60
    assert len(items_of(found, "Source")) == 20


def test_a_refused_scan_holds_no_probability(scan, context, series, tmp_path):
    bare = replace(scan, regions=None, composites={}, findings=(), visits=())
    refused = build_scan_report(bare, context, None, RefusedScan("wrong-tracer", "The tracer is not AV1451"))
    found = pydicom.dcmread(write_objects(refused, series, tmp_path / "out")["dicom_sr"])
    assert items_of(found, "Probability") == []
    assert items_of(found, "Decision of the model")[0].ConceptCodeSequence[0].CodeValue == "refused"


def test_the_same_report_gives_the_same_bytes_and_another_another_uid(
    report, scan, context, doubtful, series, pdf, tmp_path
):
    first, second = (write_objects(report, series, tmp_path / name, pdf) for name in ("a", "b"))
    for kind, path in first.items():
        assert path.read_bytes() == second[kind].read_bytes(), kind
    other = write_objects(build_scan_report(scan, context, doubtful), series, tmp_path / "c")
    uids = {pydicom.dcmread(p).SOPInstanceUID for p in (first["dicom_sr"], other["dicom_sr"])}
    assert len(uids) == 2


def test_a_bare_anonymised_header_is_enough(report, series, pdf, tmp_path):
    for path in series.glob("*.dcm"):
        image = pydicom.dcmread(path)
        for keyword in (*PATIENT, *STUDY, "StudyID", "FrameOfReferenceUID", "AcquisitionDate"):
            del image[keyword]
        image.PatientSex, image.PatientBirthDate = "U", "1940"  # no DICOM values; not to be spread
        image.save_as(path)
    found = pydicom.dcmread(write_objects(report, series, tmp_path / "out", pdf)["dicom_sr"])
    assert (found.PatientSex, found.PatientBirthDate, found.PatientID) == ("", "", "")


def test_images_of_two_studies_or_none_are_refused(series, tmp_path):
    pet_slice(9, generate_uid(), generate_uid(), generate_uid()).save_as(
        series / "9.dcm", enforce_file_format=True
    )
    with pytest.raises(InputError, match=r"belong to 2 DICOM studies, expected one.*Point to the folder"):
        read_source(sorted(series.iterdir()))
    with pytest.raises(InputError, match="belong to 0 DICOM studies, expected one"):
        read_source([series / "readme.txt"])


def test_a_node_that_is_not_there_is_told(report, series, tmp_path):
    path = write_objects(report, series, tmp_path / "out")["dicom_sr"]
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
