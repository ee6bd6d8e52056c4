"""The nouns are valid once constructed and survive the trip through a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import CohortError, InputError, LeakageError
from pipeline.scan import Cohort, Frame, Scan, Split, Volume

CLASSES = ("CN", "MCI", "AD")


def test_a_volume_cannot_be_changed_after_it_was_made():
    volume = Volume(np.zeros((2, 3, 4)), np.eye(4), "SUVR")
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0] = 1
    assert volume.array.dtype == np.float32


def test_spacing_is_the_length_of_the_affines_columns():
    rotated = np.array([[0, -3, 0, 5], [2, 0, 0, 1], [0, 0, 4, 0], [0, 0, 0, 1.0]])
    assert Volume(np.zeros((2, 2, 2)), rotated, "counts").spacing_mm == (2, 3, 4)


@pytest.mark.parametrize(
    ("array", "affine", "unit", "message"),
    [
        (np.zeros((2, 2)), np.eye(4), "SUV", r"The volume is 2D\. Expected 3D or 4D"),
        (np.zeros((2, 2, 2)), np.zeros((4, 4)), "SUV", "invertible"),
        (np.zeros((2, 2, 2)), np.full((4, 4), np.nan), "SUV", "finite"),
        (np.zeros((2, 2, 2)), np.eye(4), "BQML", "one of Bq/mL"),
    ],
)
def test_what_is_no_volume_is_refused(array, affine, unit, message):
    with pytest.raises(InputError, match=message):
        Volume(array, affine, unit)


def test_frames_must_match_the_array():
    with pytest.raises(InputError, match="times of 2 frames for a volume of shape"):
        Volume(np.zeros((2, 2, 2, 3)), np.eye(4), "Bq/mL", (Frame(0, 1), Frame(1, 1)))
    with pytest.raises(InputError, match="lasts 0 s"):
        Frame(0, 0)


def make(subject: str, session: str = "M000", **more) -> Scan:
    return Scan(subject, session, Path(f"/data/{subject}_{session}.nii.gz"), **more)


names = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789", min_size=1, max_size=8)


@given(
    st.lists(
        st.tuples(names, names, st.sampled_from([*CLASSES, None]), st.integers(20, 99), st.booleans()),
        unique_by=lambda row: row[:2],
        max_size=6,
    )
)
def test_a_cohort_comes_back_from_its_table_as_it_was(tmp_path_factory, rows):
    scans = tuple(
        make(s, v, diagnosis=d, facts={"age": age, "sex": "F"}, posterior=(0.2, 0.3, 0.5) if truth else None)
        for s, v, d, age, truth in rows
    )
    cohort = Cohort(scans, CLASSES)
    path = cohort.write_tsv(tmp_path_factory.mktemp("cohort") / "cohort.tsv")
    assert Cohort.read_tsv(path, CLASSES) == cohort


def test_paths_below_the_table_are_written_relative(tmp_path):
    inside = tmp_path / "sub" / "a.nii.gz"
    Cohort((Scan("a", "b", inside),), CLASSES).write_tsv(tmp_path / "cohort.tsv")
    assert str(tmp_path) not in (tmp_path / "cohort.tsv").read_text()
    assert Cohort.read_tsv(tmp_path / "cohort.tsv", CLASSES).scans[0].path == inside


def test_a_cohort_refuses_twins_and_strange_diagnoses():
    with pytest.raises(CohortError, match=r"^sub-a_ses-M000: Two scans have the same id"):
        Cohort((make("a"), make("a")), CLASSES)
    with pytest.raises(CohortError, match="FTD, but the classes are CN, MCI, AD"):
        Cohort((make("a", diagnosis="FTD"),), CLASSES)


def test_labels_need_every_diagnosis():
    cohort = Cohort((make("a", diagnosis="AD"), make("b")), CLASSES)
    with pytest.raises(CohortError, match=r"^sub-b_ses-M000: .* 1 of 2 have none"):
        _ = cohort.labels
    assert cohort.labelled().labels.tolist() == [2]


def test_a_missing_or_foreign_table_is_refused(tmp_path):
    with pytest.raises(CohortError, match="There is no cohort table"):
        Cohort.read_tsv(tmp_path / "none.tsv", CLASSES)
    (tmp_path / "other.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(CohortError, match="lacks the columns scan_id"):
        Cohort.read_tsv(tmp_path / "other.tsv", CLASSES)


def test_a_split_that_shares_a_subject_names_them():
    subject_of = {"a1": "anna", "a2": "anna", "b": "bert", "c": "carl"}
    with pytest.raises(LeakageError, match=r"^anna: Subjects in both train and test: 1\."):
        Split(("a1",), ("b",), ("c",), ("a2",), subject_of)
    assert Split(("a1", "a2"), ("b",), ("c",), (), subject_of).part("train") == ("a1", "a2")
