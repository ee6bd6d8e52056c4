"""A user's own table of labels, matched with pseudonymous scans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipeline.config import LabelSettings
from pipeline.errors import CohortError, InputError
from pipeline.ingest.label_table import with_labels
from pipeline.scan import Cohort, Scan

KNOWN = {
    "sub-P1_ses-1": {"subject": "011_S_4321", "date": "2019-05-10", "session": "", "series": "1.2.3",
                     "paths": ["/data/adni/011_S_4321/AV1451_Coreg/2019-05-10_09_00_00.0/I123456"]},
    "sub-P1_ses-2": {"subject": "011_S_4321", "date": "2021-05-10", "session": "", "series": "1.2.4",
                     "paths": ["/data/adni/011_S_4321/AV1451_Coreg/2021-05-10_09_00_00.0/I223456"]},
    "sub-P2_ses-M00": {"subject": "07", "date": "", "session": "M00", "series": "",
                       "paths": ["/data/b/sub-07/ses-M00/pet/sub-07_ses-M00_trc-18FAV1451_pet.nii.gz"]},
}  # fmt: skip


@pytest.fixture
def label(tmp_path):
    """The function that labels three scans by a table and returns their diagnoses."""
    key = tmp_path / "bids.key"
    key.with_name("bids.key.map.json").write_text(json.dumps(KNOWN))
    parts = [name.removeprefix("sub-").split("_ses-") for name in KNOWN]
    cohort = Cohort(tuple(Scan(p, s, Path("x")) for p, s in parts), ("CN", "MCI", "AD"))

    def read(text, target="diagnosis", **columns):
        table = tmp_path / "my.csv"
        table.write_text(text)
        return with_labels(cohort, LabelSettings(file=table, **columns), target, key, 180)

    return read


def diagnoses(found):
    return [scan.diagnosis for scan in found.cohort.scans]


@pytest.mark.parametrize(
    "text",
    [
        "scan,dx\nI123456,CN\nI223456,MCI\nsub-07_ses-M00,AD\n",
        "image_id;diagnosis\n123456;HC\n223456;MCI\nsub-07_ses-M00_trc-18FAV1451_pet.nii.gz;AD dementia\n",
        "file\tgroup\n011_S_4321/AV1451_Coreg/2019-05-10_09_00_00.0/I123456\tCN\n"
        "I223456\tMCI\npet/sub-07_ses-M00_trc-18FAV1451_pet.nii\tAD\n",
        "scan,dx\nsub-P1_ses-1,CN\nsub-P1_ses-2,MCI\nsub-P2_ses-M00,AD\n",
        "subject,date,dx\n011_S_4321,2019-06-01,CN\n011_S_4321,2021-04-01,MCI\n7,,AD\n",
        "RID,EXAMDATE,DX\n4321,2019-06-01,CN\n4321,2021-04-01,MCI\n07,,AD\n",
        "participant_id,session,dx\nsub-07,ses-M00,AD\nP1,1,CN\nP1,2,MCI\n",
    ],
)
def test_rows_name_scans_as_source_or_dataset_do(label, text):
    assert diagnoses(label(text)) == ["CN", "MCI", "AD"]


def test_columns_that_are_named_need_no_usual_name(label):
    found = label("wer,was\n011_S_4321,MCI\n07,CN\n", subject="wer", diagnosis="was")
    assert diagnoses(found) == ["MCI", "MCI", "CN"]


def test_a_row_far_from_the_scan_is_not_taken_and_is_counted(label):
    found = label("subject,date,dx\n011_S_4321,2019-06-01,CN\n07,,AD\n")
    assert diagnoses(found) == ["CN", None, "AD"]
    assert found.notes == ("1 of 3 scans have no row within 180 days; what the source states counts.",)


def test_rows_that_contradict_each_other_label_nobody(label):
    found = label("subject,dx\n011_S_4321,CN\n011_S_4321,AD\n07,AD\n")
    assert diagnoses(found) == [None, None, "AD"]
    assert "2 of 3 scans have rows that contradict each other" in found.notes[0]
    assert found.notes[0].endswith(
        "each other: sub-P1_ses-1 (lines 2 and 3), sub-P1_ses-2 (lines 2 and 3). The source states no "
        "diagnosis of them either: without one, they are left out."
    )


def test_lines_are_those_of_the_file(label):
    found = label('\nscan,dx,note\nI123456,CN,"two\nlines"\n\nsub-07_ses-M00,AD,\nI123456,AD,\n')
    assert "1 of 3 scans has rows that contradict each other: sub-P1_ses-1 (lines 4 and 7)." in found.notes[0]
    assert "no diagnosis of it either: without one, it is left out." in found.notes[0]


def test_rows_that_all_contradict_each_other_are_no_rows_of_other_people(label):
    with pytest.raises(CohortError, match=r"No scan has a label of this table\. 1 of 3 scans has rows"):
        label("subject,dx\n07,AD\n07,CN\n")


@pytest.mark.parametrize(
    ("text", "columns", "line"),
    [
        ("subject,dx\nI123456,CN\nI223456,MCI\n", {}, "scan: subject}, by which 2 of 3"),
        (
            "image,code,was\n1,011_S_4321,MCI\n2,07,CN\n",
            {"diagnosis": "was"},
            "subject: code}, by which 3 of 3",
        ),
    ],
)
def test_a_table_that_matches_by_another_column_is_advised_the_line_that_works(label, text, columns, line):
    with pytest.raises(CohortError, match=r"the first in line 2.*sub-P1\).*sub-P1_ses-1\)") as refused:
        label(text, **columns)
    hint = refused.value.hint
    assert line in hint
    advised = yaml.safe_load(hint.removeprefix("write ").partition(", by which")[0])["cohort.labels"]
    assert label(text, **{k: v for k, v in advised.items() if k != "file"}).matched == int(line[-6])


def test_another_target_becomes_a_column(label):
    found = label("subject,visual_read\n07,pos\n", target="visual_read")
    assert found.cohort.scans[2].facts["visual_read"] == "pos"
    assert diagnoses(found) == [None] * 3


def test_a_table_that_is_not_there_names_its_setting(tmp_path):
    labels = LabelSettings(file=tmp_path / "none.csv")
    told = r"none\.csv: There is no such file\. Correct cohort\.labels\.file"
    with pytest.raises(InputError, match=told):
        with_labels(Cohort((), ("CN", "AD")), labels, "diagnosis", tmp_path / "bids.key", 180)


def test_words_without_a_meaning_are_stated(label):
    found = label("subject,dx\n07,FTD\n")
    assert found.cohort.scans[2].facts["stated_diagnosis"] == "FTD"


def test_a_table_of_other_people_is_an_error_without_a_name_of_one(label):
    with pytest.raises(
        CohortError, match=r"None of 1 rows with a label is of one of 3 scans, by .*subject: who"
    ) as e:
        label("who,dx\nMiller,CN\n", subject="who")
    assert "Miller" not in str(e.value)


def test_a_column_that_matches_by_chance_is_not_advised(label):
    with pytest.raises(CohortError, match="None of 3 rows") as refused:
        label("subject,age,dx\nX,7,CN\nY,70,AD\nZ,71,AD\n")
    assert "subject: age" not in refused.value.hint


@pytest.mark.parametrize(
    ("text", "columns", "problem"),
    [
        ("a,b\n1,2\n", {}, "No column of the label"),
        ("a,dx\n1,CN\n", {}, "No column of scans or subjects"),
        ("subject,dx\n1,CN\n", {"date": "when"}, "no column when; it has subject, dx"),
    ],
)
def test_columns_that_are_not_there(label, text, columns, problem):
    with pytest.raises(InputError, match=problem):
        label(text, **columns)
