"""Tables of diagnoses beside scans: taken by the usual names of columns; what is not taken is counted."""

from __future__ import annotations

import pytest

from pipeline.ingest.source_tables import CONTRADICTED, NAMELESS, OF_OTHERS, UNDATED, UNREAD
from pipeline.ingest.sources import find_scans
from tests.helpers.changed_series import setting


@pytest.fixture
def labelled(make_series, tmp_path):
    """The function that puts tables beside two people's scans; returns diagnoses and counts."""

    def find(*tables):
        for who in ("P1", "P2"):
            make_series(tmp_path / who, edit=setting(PatientID=who), seed=ord(who[1]))
        for n, text in enumerate(tables):
            (tmp_path / f"table{n}.csv").write_text(text, encoding="utf-8")
        found = find_scans(tmp_path)
        counted = {what: n for what, n in found.ignored.items() if what != "files that are not DICOM"}
        return {scan.subject_label: scan.diagnosis for scan in found.scans}, counted

    return find


@pytest.mark.parametrize(
    "table",
    [
        "MRN,Diagnosis\nP1,MCI\nP2,AD\n",
        "Patient;Datum;Diagnose\nP1;10.05.2019;MCI\nP2;11.05.2019;AD\n",
        "USUBJID\tDX\nP1\tMCI\nP2\tAD\n",
    ],
)
def test_columns_by_the_names_that_hospitals_and_trials_use(labelled, table):
    assert labelled(table) == ({"P1": "MCI", "P2": "AD"}, {})


@pytest.mark.parametrize(
    ("tables", "diagnoses", "counted"),
    [
        (["MRN,Diagnosis\nP1,MCI\nP1,AD\nP2,AD\n"], {"P1": None, "P2": "AD"}, {CONTRADICTED: 1}),
        (["AccessionNo,Diagnosis\nA1,MCI\n"], {"P1": None, "P2": None}, {NAMELESS: 1}),
        (["MRN,Diagnosis\nQ1,MCI\n"], {"P1": None, "P2": None}, {OF_OTHERS: 1}),
        (["MRN,Diagnosis\nP1,MCI\n", "MRN,Diagnosis\nP1,MCI\n"], {"P1": "MCI", "P2": None}, {}),
        (["MRN,Date,Diagnosis\nP1,2019-05-10,MCI\nP2,soon,AD\n"], {"P1": "MCI", "P2": "AD"}, {UNDATED: 1}),
        (["MRN,Date,Diagnosis\nP1,43595,MCI\n"], {"P1": None, "P2": None}, {UNREAD: 1}),
        (["scanner,status\nA1,ok\n"], {"P1": None, "P2": None}, {}),
    ],
)
def test_what_a_table_does_not_give_is_counted(labelled, tables, diagnoses, counted):
    assert labelled(*tables) == (diagnoses, counted)
