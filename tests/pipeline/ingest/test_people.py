"""Two people never become one scan, and nobody is lost: both come out, or are refused by name."""

from __future__ import annotations

import shutil

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
