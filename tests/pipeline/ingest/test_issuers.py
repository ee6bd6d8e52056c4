"""One number of several issuers: one person only where nothing else tells two apart."""

from __future__ import annotations

import numpy as np
import pytest
from changed_series import are_both, change, read_all

from pipeline.errors import RefusedScan
from pipeline.ingest.convert import read_found
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.sources import find_scans

HERE = Pseudonymiser(b"k" * 32)


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
