"""Tables of participants and sessions, as Clinica, OASIS and others write them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from pipeline.ingest.diagnosis_columns import diagnosis_columns, statement_in
from pipeline.ingest.sources import find_scans


@pytest.fixture
def tree(tmp_path):
    """The function that writes a dataset of one image a session, with these files beside."""

    def write(*sessions, **tables):
        for name in sessions:
            subject, session = name.split("/")
            path = tmp_path / f"sub-{subject}" / f"ses-{session}" / "pet"
            path.mkdir(parents=True, exist_ok=True)
            image = nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4))
            nib.save(image, path / f"sub-{subject}_ses-{session}_trc-18FAV1451_pet.nii.gz")
        (tmp_path / "dataset_description.json").write_text("{}")
        for name, text in tables.items():
            place = tmp_path / name.replace("__", "/").replace("_tsv", ".tsv").replace("_json", ".json")
            place = place.with_name(place.name.replace("sub01", "sub-01"))
            place.parent.mkdir(exist_ok=True)
            place.write_text(text)
        return {scan.session_label: scan for scan in find_scans(tmp_path).scans}

    return write


def sessions_file(tmp_path, text, subject="01"):
    folder = tmp_path / f"sub-{subject}"
    folder.mkdir(exist_ok=True)
    (folder / f"sub-{subject}_sessions.tsv").write_text(text)


@pytest.mark.parametrize("column", ["diagnosis", "dx", "group", "dx1", "Group", "DX", "clinical_diagnosis"])
@pytest.mark.parametrize(("word", "meaning"), [("HC", "CN"), ("MCI due to AD", "MCI"), ("AD dementia", "AD")])
def test_columns_and_words_of_participants(tree, column, word, meaning):
    (scan,) = tree("01/M00", participants_tsv=f"participant_id\t{column}\nsub-01\t{word}\n").values()
    assert (scan.diagnosis, scan.stated) == (meaning, word)


@pytest.mark.parametrize("column", ["diagnosis", "dx", "group", "dx1"])
def test_a_session_states_more_than_the_person(tree, tmp_path, column):
    sessions_file(tmp_path, f"session_id\t{column}\tage\nses-M000\tCN\t70\nses-M024\tLMCI\t72\n")
    scans = tree("01/M000", "01/M024", participants_tsv="participant_id\tdiagnosis_sc\nsub-01\tCN\n")
    assert [(s.diagnosis, s.stated, s.age) for s in scans.values()] == [
        ("CN", "CN", 70.0),
        ("MCI", "LMCI", 72.0),
    ]


def test_a_session_without_a_diagnosis_takes_the_nearest_one_with_its_distance(tree, tmp_path):
    sessions_file(
        tmp_path, "session_id\tdiagnosis\nses-M000\tCN\nses-M006\tn/a\nses-M009\tMCI\nses-M048\tAD\n"
    )
    (scan,) = tree("01/M006").values()
    assert (scan.diagnosis, scan.days_to_diagnosis) == ("MCI", 91)


def test_the_nearest_session_by_date(tree, tmp_path):
    rows = "ses-a\t2019-01-01\tCN\nses-b\t2019-06-01\t\nses-c\t2019-06-11\tAD\n"
    sessions_file(tmp_path, f"session_id\texamination_date\tdiagnosis\n{rows}")
    (scan,) = tree("01/b").values()
    assert (scan.diagnosis, scan.days_to_diagnosis) == ("AD", 10)


def test_one_sessions_table_that_cannot_be_read_refuses_its_subject_alone(tree, tmp_path):
    sessions_file(tmp_path, "session_id\tdiagnosis\nses-1\tCN\tMCI\tAD\n")
    found = {s.subject_label: s.refused for s in [*tree("01/1", "02/2").values()]}
    assert found["02"] is None
    assert "sessions.tsv of the subject cannot be read" in found["01"][1]


def test_codes_are_read_with_the_words_of_the_side_file(tree, tmp_path):
    (tmp_path / "participants.json").write_text('{"group": {"Levels": {"1": "Healthy control", "2": "AD"}}}')
    (scan,) = tree("01/1", participants_tsv="participant_id\tgroup\nsub-01\t1\n").values()
    assert (scan.diagnosis, scan.stated) == ("CN", "Healthy control")


def test_words_that_nobody_knows_are_stated_and_mean_nothing(tree):
    (scan,) = tree("01/1", participants_tsv="participant_id\tdx1\nsub-01\tuncertain dementia\n").values()
    assert (scan.diagnosis, scan.stated) == (None, "uncertain dementia")


def test_columns_that_contradict_each_other_state_nothing(tree, tmp_path):
    (scan,) = tree("01/1", participants_tsv="participant_id\tdiagnosis\tdx1\nsub-01\tCN\tAD\n").values()
    assert (scan.diagnosis, scan.stated) == (None, "")
    assert find_scans(tmp_path).ignored == {"scans whose columns of the diagnosis contradict each other": 1}


def test_reads_and_marker_status_are_taken_along(tree):
    table = "participant_id\tdiagnosis\tamyloid_status\tmmse\nsub-01\tCN\tpositive\t29\n"
    (scan,) = tree("01/1", participants_tsv=table).values()
    assert scan.reads == {"amyloid_status": "positive"}


@pytest.mark.parametrize(
    ("row", "meaning"),
    [
        ({"diagnosis": "n/a", "dx_bl": "SMC"}, "CN"),
        ({"diagnosis": "MCI", "DX_bl": "CN"}, "MCI"),
        ({"group": "site A", "dx": "AD"}, "AD"),
        ({"status": "completed"}, None),
        ({"tau_status": "normal"}, None),
        ({"Research Group": "Control"}, "CN"),
    ],
)
def test_which_column_counts(row, meaning):
    assert statement_in(row).meaning == meaning


def test_no_column_of_a_marker_is_one_of_the_diagnosis():
    assert diagnosis_columns(["amyloid_group", "age", "cdr", "tau_class", "participant_id"]) == []
