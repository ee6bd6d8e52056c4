"""Two people never become one scan, and nobody is lost: both come out, or are refused by name."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from changed_series import are_both, change, read_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import RefusedScan
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.dicom import read_series
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.people import Person, are_two_people, conflicts, person_of
from pipeline.ingest.sources import find_scans

HERE = Pseudonymiser(b"k" * 32)
FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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


def test_wide_letters_spell_the_same_id(two):
    for series, number in zip(two, ("AB1", "\uff21\uff22\uff11"), strict=True):
        change(series, SpecificCharacterSet="ISO_IR 192", PatientID=number)
    assert len({scan.subject_label for scan in find_scans(two[0].folder.parent).scans}) == 1


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
