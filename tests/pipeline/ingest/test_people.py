"""Two people never become one scan, and nobody is lost: both come out, or are refused by name."""

from __future__ import annotations

import shutil
from copy import deepcopy

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import RefusedScan
from pipeline.ingest.convert import read_found
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.dicom import read_series
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.people import Person, are_two_people, conflicts, person_of
from pipeline.ingest.sources import find_scans

HERE = Pseudonymiser(b"k" * 32)
FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def change(series, **values):
    """Set elements of every slice of a series; a function is given the number of the slice."""
    for n, path in enumerate(
        sorted(series.folder.iterdir(), key=lambda p: pydicom.dcmread(p).InstanceNumber)
    ):
        ds = pydicom.dcmread(path)
        for keyword, value in values.items():
            setattr(ds, keyword, value(n) if callable(value) else value)
        ds.save_as(path)


@pytest.fixture
def two(make_series, tmp_path):
    """Two series of equal geometry and different pixels, side by side."""
    return [make_series(folder=tmp_path / "in" / name, seed=n) for n, name in enumerate("ab")]


def read_all(folder):
    """Return what each scan of a folder gives: values, or the rule that refused it."""
    read = []
    for scan in find_scans(folder).scans:
        try:
            read.append(read_found(scan).array)
        except RefusedScan as refusal:
            read.append(refusal.rule)
    return read


def are_both(read, two):
    return len(read) == 2 and all(
        any(not isinstance(one, str) and np.allclose(one, series.values, rtol=1e-6) for one in read)
        for series in two
    )


@pytest.mark.parametrize("same", ["instances", "series", "instances and series"])
def test_two_people_under_the_same_uids_are_two_scans(two, same):
    first = two[0].datasets[0]
    change(two[1], PatientID="003_S_9999", PatientName="Roe^Anna")
    if "instances" in same:
        change(two[1], SOPInstanceUID=lambda n: two[0].datasets[n].SOPInstanceUID)
    if "series" in same:
        change(two[1], SeriesInstanceUID=first.SeriesInstanceUID, StudyInstanceUID=first.StudyInstanceUID)
    scans = find_scans(two[0].folder.parent).scans
    assert len({scan.label(HERE) for scan in scans}) == len({scan.subject_label for scan in scans}) == 2
    assert are_both(read_all(two[0].folder.parent), two)
    with pytest.raises(RefusedScan, match="There are 2 PET series") as refusal:
        read_series(two[0].folder.parent)
    assert refusal.value.rule == "several-series"


def test_one_series_uid_in_two_studies_of_one_person_is_two_scans(two):
    change(two[1], SeriesInstanceUID=two[0].datasets[0].SeriesInstanceUID)
    scans = find_scans(two[0].folder.parent).scans
    assert len({scan.label(HERE) for scan in scans}) == 2
    assert are_both(read_all(two[0].folder.parent), two)


@pytest.mark.parametrize(
    ("change_to", "rule", "match"),
    [
        ({"PatientName": "Doe^John"}, "two-people", "Patient's Name"),
        ({"PatientBirthDate": "19400102"}, "two-people", "Birth Date"),
        ({"PatientSex": "M"}, "two-people", "Sex"),
        ({"PatientSize": "1.9"}, "two-people", "Size"),
        ({"PatientWeight": "95"}, "two-people", "Weight"),
        ({"FrameOfReferenceUID": "1.2.3"}, "mixed-geometry", "Frame of Reference"),
    ],
)  # fmt: skip
def test_a_series_that_disagrees_on_its_person_is_refused(make_series, change_to, rule, match):
    series = make_series()
    change(series, PatientBirthDate="19400101", PatientSize="1.6")
    path = sorted(series.folder.iterdir())[2]
    ds = pydicom.dcmread(path)
    for keyword, value in change_to.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    with pytest.raises(RefusedScan, match=match) as refusal:
        read_series(series.folder)
    assert refusal.value.rule == rule
    assert not any(str(value) in str(refusal.value) for value in ("Doe", "John", "1940", "95"))
    assert read_all(series.folder) == [rule]


def test_a_study_for_each_image_is_refused_once(make_series):
    series = make_series()
    change(series, StudyInstanceUID=lambda n: f"1.2.{n}")
    assert read_all(series.folder) == ["mixed-studies"]
    with pytest.raises(RefusedScan, match=r"5 different values of Study Instance UID \(0020,000D\)"):
        read_series(series.folder)


def test_images_without_study_join_the_only_one(make_series):
    series = make_series()
    change(series, StudyInstanceUID=lambda n: "" if n % 2 else "1.2.3")
    assert [type(one) for one in read_all(series.folder)] == [np.ndarray]


@pytest.mark.parametrize("blank", ["", "ANONYMOUS", "0000", None])
def test_a_slice_without_id_joins_the_person_it_fits(make_series, blank):
    series = make_series()
    change(series, PatientID=lambda n: blank if n == 1 else "002_S_1234")
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)
    assert [scan.subject_label for scan in find_scans(series.folder).scans] == ["002_S_1234"]


def test_two_people_without_id_are_told_apart_by_name(two):
    for series, name in zip(two, ("Doe^Jane", "Roe^Anna"), strict=True):
        change(series, PatientID="", PatientName=name, SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2")
    assert are_both(read_all(two[0].folder.parent), two)


def test_people_whom_a_deidentifier_gave_the_same_blank_are_not_one_subject(two):
    for series in two:
        change(series, PatientID="ANON", PatientName="Anonymous")
    assert len({scan.subject_label for scan in find_scans(two[0].folder.parent).scans}) == 2


@pytest.mark.parametrize(
    "other",
    [{"PatientName": "Roe^Anna"}, {"PatientBirthDate": "19500101"}, {"PatientSex": "M"}],
)
def test_one_id_at_two_sites_is_refused_with_both_scans(two, other):
    change(two[0], PatientID="001", PatientBirthDate="19400101" if "PatientBirthDate" in other else "")
    change(two[1], PatientID="001", **other)
    assert read_all(two[0].folder.parent) == ["whose-scan"] * 2


def test_a_new_surname_is_the_same_person(two):
    change(two[1], PatientName="Smith^Jane")
    assert are_both(read_all(two[0].folder.parent), two)


def test_a_copy_is_taken_once_and_another_image_of_one_uid_is_refused(make_series):
    series = make_series()
    path = sorted(series.folder.iterdir())[0]
    shutil.copy(path, series.folder / "copy.dcm")
    assert find_scans(series.folder).ignored == {"duplicates of an image": 1}
    ds = pydicom.dcmread(path)
    ds.ImageComments = "sent again"  # another header, the same image
    ds.save_as(series.folder / "copy.dcm")
    assert [type(one) for one in read_all(series.folder)] == [np.ndarray]
    ds.PixelData = ds.PixelData[:-2] + b"\1\2"
    ds.save_as(series.folder / "copy.dcm")
    assert read_all(series.folder) == ["conflicting-duplicates"]
    with pytest.raises(RefusedScan, match="Two different images have the same SOP Instance UID"):
        read_series(series.folder)


@pytest.mark.parametrize("numbers", ["001234", "ab 07"], ids=["zeros lost", "zeros in words stay"])
def test_an_id_that_lost_its_leading_zeros_is_the_same_person(two, numbers):
    change(two[0], PatientID=numbers)
    change(two[1], PatientID=numbers.lstrip("0") + " ", AcquisitionDate="20200510", SeriesDate="20200510")
    assert {scan.subject_label for scan in find_scans(two[0].folder.parent).scans} == {numbers}


def test_leading_zeros_tell_two_people_apart_who_differ_otherwise(two):
    change(two[0], PatientID="001", PatientName="Doe^Jane", PatientBirthDate="19400101")
    change(two[1], PatientID="1", PatientName="Roe^Karl", PatientBirthDate="19500101")
    assert {scan.subject_label for scan in find_scans(two[0].folder.parent).scans} == {"001", "1"}
    assert are_both(read_all(two[0].folder.parent), two)


@pytest.mark.parametrize("one", ["ANON001", "anon_2", "Subject 3"])
def test_a_number_after_a_placeholder_is_an_id(two, one):
    for n, series in enumerate(two):
        change(series, PatientID=f"{one}{n}", PatientName=f"{one}{n}")
    labels = [scan.subject_label for scan in find_scans(two[0].folder.parent).scans]
    assert labels == [f"{one}0", f"{one}1"]


@pytest.mark.parametrize("blank", ["Anonymous^Patient", "No^Name", "N/A", "***", "X^X", "De-identified"])
def test_people_named_by_the_same_placeholders_are_not_one_subject(two, blank):
    for series in two:
        change(series, PatientID="", PatientName=blank)
    assert len({scan.subject_label for scan in find_scans(two[0].folder.parent).scans}) == 2


def test_a_series_whose_halves_have_two_ids_is_refused_once(make_series):
    series = make_series()
    change(series, PatientID=lambda n: "001234" if n < 3 else "MRN9", PatientName="")
    assert read_all(series.folder) == ["two-people"]
    with pytest.raises(RefusedScan, match=r"disagree on Patient ID \(0010,0020\)"):
        read_series(series.folder)


@pytest.mark.parametrize(
    ("charset", "name", "other"),
    [
        ("ISO_IR 192", "Müller^Änne", "=Müller^Änne"),
        ("ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう", "=山田^太郎"),
        ("ISO_IR 192", "Yamada^Tarou=山田^太郎", "Yamada^Tarou"),
    ],
)
def test_one_person_in_several_scripts_is_one(make_series, charset, name, other):
    series = make_series()
    change(series, SpecificCharacterSet=charset, PatientName=lambda n: name if n < 3 else other)
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)


@pytest.mark.parametrize("claimed", [b"ISO_IR 100", b"ISO_IR 6  "])
def test_utf8_that_is_called_latin_1_is_the_same_name(make_series, claimed):
    series = make_series()
    change(series, SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Änne")
    for path in sorted(series.folder.iterdir())[:2]:
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", claimed))
    np.testing.assert_allclose(read_series(series.folder).array, series.values, rtol=1e-6)


def drugs(series, **values):
    """Set elements of the injection in slices from the third on."""
    item = series.datasets[0].RadiopharmaceuticalInformationSequence[0]
    other = deepcopy(item)
    for keyword, value in values.items():
        setattr(other, keyword, value)
    change(series, RadiopharmaceuticalInformationSequence=lambda n: [other if n > 2 else item])


def test_a_series_of_two_doses_is_refused(make_series):
    series = make_series()
    drugs(series, RadionuclideTotalDose="2.0e8")
    with pytest.raises(RefusedScan, match=r"disagree on Radionuclide Total Dose") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "two-people"


def test_a_series_of_two_units_is_refused(make_series):
    series = make_series()
    change(series, Units=lambda n: "GML" if n == 3 else "BQML")
    with pytest.raises(RefusedScan, match="different units or scale factors: Bq/mL, SUV") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "units-unknown"


def test_what_one_image_alone_states_is_found(make_series):
    series = make_series()
    whole = read_series(series.folder).facts
    for n, path in enumerate(sorted(series.folder.iterdir())):
        ds = pydicom.dcmread(path)
        if n != 3:
            del ds.PatientWeight, ds.RadiopharmaceuticalInformationSequence
        ds.save_as(path)
    assert read_series(series.folder).facts == whole


def exported_again(series, folder, **values):
    """Copy a series as an anonymiser writes it that is run once more: all UIDs are new."""
    shutil.copytree(series.folder, folder)
    for n, path in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(path)
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.SOPInstanceUID = "1.9", "1.8", f"1.7.{n}"
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        ds.save_as(path)


def test_a_scan_that_was_exported_twice_is_taken_once(make_series, tmp_path):
    series = make_series(folder=tmp_path / "in" / "a")
    exported_again(series, tmp_path / "in" / "b")
    found = find_scans(tmp_path / "in")
    assert len(found.scans) == 1
    assert found.ignored == {"copies of a scan that is taken": 1}
    np.testing.assert_allclose(read_all(tmp_path / "in")[0], series.values, rtol=1e-6)


def test_the_same_images_of_two_people_are_refused(make_series, tmp_path):
    series = make_series(folder=tmp_path / "in" / "a")
    exported_again(series, tmp_path / "in" / "b", PatientID="ANON7", PatientName="ANON7")
    assert read_all(tmp_path / "in") == ["whose-scan"] * 2


def test_the_same_images_on_another_day_are_taken_with_a_warning(make_series, tmp_path):
    series = make_series(folder=tmp_path / "in" / "a")
    exported_again(series, tmp_path / "in" / "b", AcquisitionDate="20200101", SeriesDate="20200101")
    notes = [scan.notes for scan in find_scans(tmp_path / "in").scans]
    assert sorted(notes) == [(), ("the same images are there with another date",)]


def converted(series, folder, uid="1.9", **values):
    """Write the slices of a series as one legacy converted enhanced image, as archives do."""
    slices = [pydicom.dcmread(path) for path in sorted(series.folder.iterdir())]
    ds = deepcopy(slices[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128.1"
    ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.NumberOfFrames = uid, f"{uid}.1", len(slices)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(ds, keyword)
    frames = []
    for one in slices:
        groups, place, turn, measures, scale, content = (pydicom.Dataset() for _ in range(6))
        place.ImagePositionPatient = one.ImagePositionPatient
        turn.ImageOrientationPatient = one.ImageOrientationPatient
        measures.PixelSpacing = one.PixelSpacing
        scale.RescaleSlope, scale.RescaleIntercept = one.RescaleSlope, one.RescaleIntercept
        content.FrameAcquisitionDateTime = f"{one.AcquisitionDate}{one.AcquisitionTime}"
        groups.PlanePositionSequence, groups.PlaneOrientationSequence = [place], [turn]
        groups.PixelMeasuresSequence, groups.PixelValueTransformationSequence = [measures], [scale]
        groups.FrameContentSequence = [content]
        frames.append(groups)
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.PixelData = b"".join(one.PixelData for one in slices)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    folder.mkdir(parents=True)
    ds.save_as(folder / "converted.dcm")


@pytest.mark.parametrize("frames", [1, 3])
def test_slices_and_the_enhanced_image_they_were_converted_to_are_one_scan(make_series, tmp_path, frames):
    series = make_series(folder=tmp_path / "in" / "a", frames=frames)
    converted(series, tmp_path / "in" / "b")
    found = find_scans(tmp_path / "in")
    assert len(found.scans) == 1
    assert found.ignored == {"copies of a scan that is taken": 1}


def test_slices_and_their_conversion_under_another_id_are_refused(make_series, tmp_path):
    series = make_series(folder=tmp_path / "in" / "a")
    converted(series, tmp_path / "in" / "b", PatientID="ANON7", PatientName="ANON7")
    assert read_all(tmp_path / "in") == ["whose-scan"] * 2


def test_an_enhanced_image_of_another_reconstruction_is_another_scan(make_series, tmp_path):
    one = make_series(folder=tmp_path / "in" / "a")
    other = make_series(folder=tmp_path / "other", seed=5)
    converted(other, tmp_path / "in" / "b")
    assert len(find_scans(tmp_path / "in").scans) == 2
    assert one.values.shape == other.values.shape


def test_images_sent_twice_under_new_uids_are_taken_once(make_series):
    series = make_series(frames=2)
    for n, path in enumerate(sorted(series.folder.iterdir())):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID, ds.InstanceNumber, ds.ImageIndex = f"1.7.{n}", 90 + n, 90 + n
        ds.save_as(series.folder / f"again{n}.dcm")
    volume = read_series(series.folder)
    np.testing.assert_allclose(volume.array, series.values, rtol=1e-6)
    assert len(volume.frames) == 2


def test_one_image_too_many_is_named(make_series):
    series = make_series()
    path = next(p for p in series.folder.iterdir() if pydicom.dcmread(p).InstanceNumber == 3)
    ds = pydicom.dcmread(path)
    ds.SOPInstanceUID, ds.InstanceNumber, ds.PixelData = "1.7", 90, bytes(len(ds.PixelData))
    ds.save_as(series.folder / "other.dcm")
    with pytest.raises(RefusedScan, match=r"more images than elsewhere at z = 46\.0 mm") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "mixed-geometry"


def test_an_enhanced_image_under_the_uid_of_slices_is_refused(make_series, make_enhanced):
    series = make_series()
    make_enhanced(series.folder)
    path = series.folder / "enhanced.dcm"
    ds = pydicom.dcmread(path)
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID"):
        setattr(ds, keyword, series.datasets[0][keyword].value)
    ds.save_as(path)
    with pytest.raises(RefusedScan, match=r"2 different values of SOP Class UID") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == "mixed-geometry"


@pytest.mark.parametrize(("name", "people"), [("", 2), ("Doe^Jane", 1)])
def test_one_id_of_two_issuers_is_one_person_only_if_the_name_agrees(two, name, people):
    for n, series in enumerate(two):
        change(series, PatientID="77", PatientName=name, IssuerOfPatientID=f"SITE {n}")
    assert are_both(read_all(two[0].folder.parent), two)
    scans = find_scans(two[0].folder.parent).scans
    assert len({HERE.subject(scan.subject_label) for scan in scans}) == people


def test_an_id_of_two_issuers_beside_one_without_is_refused_for_that_one_alone(make_series, tmp_path):
    for n, issuer in enumerate(("SITE 1", "SITE 2", "")):
        series = make_series(folder=tmp_path / "in" / str(n), seed=n)
        change(series, PatientID="77", PatientName="", IssuerOfPatientID=issuer)
    scans = find_scans(tmp_path / "in").scans
    assert len({scan.subject_label for scan in scans}) == 3
    assert [scan.doubt is None for scan in scans].count(True) == 2


@pytest.mark.parametrize(
    "left",
    [
        "NOID", "REDACTED", "dummy", "Pseudonymised", "noname", "HIDDEN", "TEST", "999999", "12345678",
        "masked", "[CONFIDENTIAL]", "undefined", "NO ID", "***", "Patient^Anonymous",
    ],
)  # fmt: skip
def test_what_a_deidentifier_left_for_everybody_is_nobodys_id(two, left):
    for series in two:
        change(series, PatientID=left, PatientName="NAME^NONE")
    assert are_both(read_all(two[0].folder.parent), two)
    scans = find_scans(two[0].folder.parent).scans
    assert len({scan.subject_label for scan in scans}) == 2
    assert all("each study is taken as a person of its own" in scan.notes[0] for scan in scans)


def test_one_id_of_a_young_and_an_old_person_is_refused(two):
    for series, age in zip(two, ("041Y", "077Y"), strict=True):
        change(series, PatientID="CASE", PatientName="", PatientAge=age)
    assert read_all(two[0].folder.parent) == ["whose-scan"] * 2


@pytest.mark.parametrize("broken", [b"", b"\0" * 600, b"\0" * 128 + b"DICM\x02\0"])
def test_a_broken_file_beside_whole_series_of_several_people_refuses_none(two, tmp_path, broken):
    flat = tmp_path / "flat"
    flat.mkdir()
    change(two[1], PatientID="003_S_9999", PatientName="Roe^Anna")
    for path in [path for series in two for path in series.folder.iterdir()]:
        shutil.copy(path, flat)
    (flat / "IM0001.dcm").write_bytes(broken)
    assert are_both(read_all(flat), two)
    assert find_scans(flat).ignored == {"broken DICOM files": 1}


def test_a_broken_file_beside_a_series_that_lacks_one_refuses_that_series_alone(two, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    change(two[1], PatientID="003_S_9999", PatientName="Roe^Anna")
    for path in [path for series in two for path in series.folder.iterdir()]:
        shutil.copy(path, flat)
    (flat / max(path.name for path in two[0].folder.iterdir())).write_bytes(b"\0" * 128 + b"DICM\x02\0")
    read = read_all(flat)
    assert sum(isinstance(one, str) and one == "truncated-file" for one in read) == 1
    assert any(not isinstance(one, str) and np.allclose(one, two[1].values, rtol=1e-6) for one in read)


def test_an_original_whose_header_states_its_tracer_is_no_level_of_another(two, make_drug):
    change(two[0], SeriesDescription="PET Brain AC")
    change(
        two[1],
        SeriesDescription="FDG Coreg, Avg",
        RadiopharmaceuticalInformationSequence=[make_drug("Fluorodeoxyglucose")],
    )
    scans = find_scans(two[0].folder.parent).scans
    assert {scan.tracer for scan in scans} == {"AV1451", "FDG"}


def test_wide_letters_spell_the_same_id(two):
    for series, number in zip(two, ("AB1", "\uff21\uff22\uff11"), strict=True):
        change(series, SpecificCharacterSet="ISO_IR 192", PatientID=number)
    assert len({scan.subject_label for scan in find_scans(two[0].folder.parent).scans}) == 1


def test_two_reconstructions_of_one_acquisition_are_one_scan_and_either_can_be_taken(two):
    change(two[1], StudyInstanceUID=two[0].datasets[0].StudyInstanceUID, ReconstructionMethod="FBP")
    for prefer, series in (((), two[0]), (("fbp",), two[1])):
        (scan,) = find_scans(two[0].folder.parent, prefer=prefer).scans
        np.testing.assert_allclose(read_found(scan).array, series.values, rtol=1e-6)


def test_two_reconstructions_under_one_series_uid_are_not_averaged(two):
    first = two[0].datasets[0]
    uids = {k: first[k].value for k in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")}
    change(two[1], **uids, ReconstructionMethod="FBP", InstanceNumber=lambda n: n + 6, ImageIndex=None)
    with pytest.raises(RefusedScan, match="2 images of each place at the same time") as refusal:
        read_series(two[0].folder.parent)
    assert refusal.value.rule == "overlapping-frames"


@pytest.mark.parametrize("spread", [False, True], ids=["twice", "in parts"])
def test_an_adni_series_in_two_folders_is_one_scan(make_series, tmp_path, spread):
    folder = tmp_path / "in" / "002_S_1234" / "AV1451" / "2019-05-10_10_00_00.0" / "I1"
    series = make_series(folder=folder)
    shutil.copytree(folder, folder.with_name("I2"))
    for n, path in enumerate(sorted(folder.iterdir())):
        if spread:
            (folder.with_name("I2") / path.name if n % 2 else path).unlink()
    assert find_scans(tmp_path / "in").layout == "adni"
    (read,) = read_all(tmp_path / "in")
    np.testing.assert_allclose(read, series.values, rtol=1e-6)


@st.composite
def spellings(draw):
    """A name and an ID as different systems spell them."""
    words = ["Doe", "Jane", "M"]
    case = draw(st.sampled_from([str.upper, str.lower, str.title]))
    gap, pad = draw(st.sampled_from(["^", " ", "^ ", ", "])), draw(st.sampled_from(["", " ", "^", "^^ "]))
    number = draw(st.sampled_from(["ab 12", "AB 12", " Ab  12 ", ""]))
    return gap.join(map(case, words[: draw(st.integers(2, 3))])) + pad, number


@FAST
@given(written=st.lists(spellings(), min_size=5, max_size=5))
def test_spellings_of_one_person_are_never_split(make_series, tmp_path_factory, written):
    folder = tmp_path_factory.mktemp("s")
    series = make_series(folder=folder)
    change(series, PatientName=lambda n: written[n][0], PatientID=lambda n: written[n][1])
    np.testing.assert_allclose(read_series(folder).array, series.values, rtol=1e-6)
    assert len(find_scans(folder).scans) == 1


@FAST
@given(data=st.data())
def test_no_mix_of_two_people_is_merged_or_lost(make_series, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("s")
    two = [make_series(folder=folder / name, seed=n) for n, name in enumerate("ab")]
    shared = data.draw(st.sets(st.sampled_from(["SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID"])))
    people = [
        {"PatientID": "1", "PatientName": "Doe^Jane", "PatientBirthDate": "19400101", "PatientSex": "F"},
        {"PatientID": "2", "PatientName": "Roe^Karl", "PatientBirthDate": "19500101", "PatientSex": "M"},
    ]
    unstated = data.draw(st.sets(st.sampled_from(sorted(people[0])), max_size=3))
    for series, person in zip(two, people, strict=True):
        change(series, **{k: "" if k in unstated else v for k, v in person.items()})
    change(two[1], **{k: lambda n, k=k: two[0].datasets[n][k].value for k in shared})
    read = read_all(folder)
    assert are_both(read, two) or (read and all(isinstance(one, str) for one in read))


def test_what_is_not_stated_agrees_with_everything():
    ds = pydicom.Dataset()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Doe^Jane", "A 1", "19000101", "O"
    one = person_of(SeriesHeader.of(ds))
    assert one == Person("a 1", frozenset({"doe", "jane"}), "", "")
    assert conflicts([one, Person("", frozenset(), "1940-01-01", "M")]) == []
    assert not are_two_people(one, Person("a 1", frozenset(), "1940-01-01", "M"))


@pytest.mark.parametrize("other", ["77^^^HOSP", "077^^^HOSP&1.2.3&ISO^MR"])
def test_an_id_with_and_without_its_issuer_is_one_person_and_named(two, other):
    change(two[0], PatientID="77")
    change(two[1], PatientID=other)
    scans = find_scans(two[0].folder.parent).scans
    assert {scan.subject_label for scan in scans} == {min("77", other)}
    assert all("with and without its issuer" in note for scan in scans for note in scan.notes)
    assert all(scan.notes and scan.doubt is None for scan in scans)


def test_one_number_of_two_issuers_is_two_people_unless_the_name_agrees(two):
    change(two[0], PatientID="77^^^NORTH", PatientName="Doe^Jane")
    change(two[1], PatientID="77^^^SOUTH", PatientName="Roe^Anna")
    scans = find_scans(two[0].folder.parent).scans
    assert len({scan.subject_label for scan in scans}) == 2
    assert not any(scan.doubt for scan in scans)
    change(two[1], PatientName="Doe^Jane")
    scans = find_scans(two[0].folder.parent).scans
    assert len({scan.subject_label for scan in scans}) == 1


def test_an_id_without_issuer_beside_the_same_of_two_issuers_is_refused(make_series, tmp_path):
    for name, number, person in (
        ("a", "77^^^NORTH", "Doe^Jane"),
        ("b", "77^^^SOUTH", "Roe^Anna"),
        ("c", "77", ""),
    ):
        series = make_series(folder=tmp_path / "in" / name, seed=ord(name))
        change(series, PatientID=number, PatientName=person)
    found = {scan.subject_label: scan for scan in find_scans(tmp_path / "in").scans}
    assert set(found) == {"77", "77^^^NORTH", "77^^^SOUTH"}
    assert [label for label, scan in found.items() if scan.doubt] == ["77"]
    with pytest.raises(RefusedScan, match=r"different issuers.*state the issuer"):
        read_found(found["77"])


def test_images_of_two_issuers_in_one_series_are_not_one_scan(make_series):
    series = make_series()
    change(series, PatientID=lambda n: f"77^^^{('NORTH', 'SOUTH')[n % 2]}")
    assert read_all(series.folder) == ["two-people"]
    change(series, PatientID=lambda n: ("77", "77^^^NORTH")[n % 2])
    (values,) = read_all(series.folder)
    assert np.allclose(values, series.values, rtol=1e-6)


@pytest.mark.parametrize(("tracer", "rule"), [("FDG", "mixed-tracers"), ("Florbetapir", "mixed-tracers")])
def test_a_series_whose_images_state_two_tracers_is_refused(make_series, make_drug, tracer, rule):
    series = make_series()
    other = [make_drug(tracer)]
    path = sorted(series.folder.iterdir())[3]
    ds = pydicom.dcmread(path)
    ds.RadiopharmaceuticalInformationSequence = other
    ds.save_as(path)
    with pytest.raises(RefusedScan, match=r"state 2 tracers: AV1451, |state 2 tracers: .*AV1451") as refusal:
        read_series(series.folder)
    assert refusal.value.rule == rule
    assert read_all(series.folder) == [rule]


def test_an_image_that_states_no_tracer_agrees_with_the_others(make_series, make_drug):
    series = make_series()
    path = sorted(series.folder.iterdir())[3]
    ds = pydicom.dcmread(path)
    ds.RadiopharmaceuticalInformationSequence = [make_drug("Solution")]
    ds.save_as(path)
    assert read_series(series.folder).facts["tracer"] == "AV1451"


def test_the_same_pixels_in_two_orientations_are_refused(make_series, tmp_path):
    for name, row in (("a", "1"), ("b", "-1")):
        series = make_series(folder=tmp_path / "in" / name)
        change(series, ImageOrientationPatient=[row, "0", "0", "0", "1", "0"])
    assert read_all(tmp_path / "in") == ["mixed-geometry"] * 2


@pytest.mark.parametrize("blank", ["19000101", "19010101", "18000101", "00010101", ""])
def test_a_date_that_a_deidentifier_left_is_none(make_series, blank):
    series = make_series()
    change(series, AcquisitionDate=blank, SeriesDate=blank)
    (scan,) = find_scans(series.folder).scans
    assert str(scan.scan_date) == "2019-05-10"
    change(series, StudyDate=blank)
    assert find_scans(series.folder).scans[0].scan_date is None


@pytest.mark.parametrize(
    ("written", "age"), [("071Y", 71), ("71Y", 71), ("71", 71), ("099Y", 89), ("", None)]
)
def test_ages_as_they_are_written(make_series, written, age):
    series = make_series()
    change(series, PatientAge=written)
    assert find_scans(series.folder).scans[0].age == age


def test_early_frames_beside_a_scan_are_left_alone_and_counted(two):
    change(two[0], SeriesDescription="AV1451 PET Early Frames")
    found = find_scans(two[0].folder.parent)
    assert [scan.description for scan in found.scans] == ["AV1451 PET Brain"]
    assert found.ignored == {"early-frame series": 1}


@pytest.mark.parametrize(("second", "rule"), [("Fluorodeoxyglucose", "mixed-tracers"), ("AV-1451", None)])
def test_a_second_injection_of_another_tracer_in_one_header_is_refused(make_series, make_drug, second, rule):
    series = make_series()
    change(series, RadiopharmaceuticalInformationSequence=[make_drug(), make_drug(second)])
    if rule is None:
        assert read_series(series.folder).array.size
        return
    with pytest.raises(RefusedScan, match="state 2 tracers: AV1451, FDG") as refused:
        read_series(series.folder)
    assert refused.value.rule == rule
