"""Reads as labels: which count, what they may change, and that they never test."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import ReadLabelSettings, SplitSettings
from pipeline.evaluation.monitoring.challenger import scans_of_others
from pipeline.evaluation.monitoring.read_labels import (
    LABEL_FROM,
    ReadLabels,
    diagnosed,
    labels_from,
    labels_sentence,
    trained_on_reads,
    with_read_labels,
)
from pipeline.evaluation.monitoring.reads import AnsweredRead, Read, RecordedRead
from pipeline.learning.split import development, split_subjects
from pipeline.scan import Cohort, Scan, Split

CLASSES = ("CN", "MCI", "AD")
ON = ReadLabelSettings(from_reads=True)
ALL = ReadLabelSettings(from_reads=True, blind_only=False)


def read(number: int, scan: str, diagnosis: str | None, reader: str = "AB", *, blind=True, superseded=False):
    found = Read(reader, "positive", "temporal", "good", diagnosis, blind=blind)
    return AnsweredRead(scan, "1", {}, RecordedRead(found, "", "tr", "2026", number, superseded))


def test_a_class_about_which_all_readers_agree_is_a_label_with_its_source():
    reads = [read(1, "sub-A_ses-1", "AD"), read(2, "sub-A_ses-1", "AD", "CD"), read(3, "sub-B_ses-1", "CN")]
    found = labels_from(reads, CLASSES, ON)
    assert {scan: label.diagnosis for scan, label in found.by_scan.items()} == {
        "sub-A_ses-1": "AD", "sub-B_ses-1": "CN",
    }  # fmt: skip
    label = found.by_scan["sub-A_ses-1"]
    assert (label.readers, label.entries, label.blind) == (("AB", "CD"), (1, 2), True)
    assert label.source == "read by AB, CD (audit log 1, 2)"


def test_a_scan_about_which_readers_disagree_has_no_label():
    found = labels_from([read(1, "a", "AD"), read(2, "a", "MCI", "CD")], CLASSES, ON)
    assert (dict(found.by_scan), found.contested) == ({}, ("a",))


def test_reads_with_the_answer_in_view_count_only_where_the_study_wants_it():
    reads = [read(1, "a", "AD", blind=False), read(2, "b", "CN")]
    assert set(labels_from(reads, CLASSES, ON).by_scan) == {"b"}
    assert labels_from(reads, CLASSES, ON).seen == 1
    every = labels_from(reads, CLASSES, ALL)
    assert {scan: label.blind for scan, label in every.by_scan.items()} == {"a": False, "b": True}


def test_the_last_read_of_a_reader_counts_and_one_without_a_class_of_the_study_does_not():
    reads = [
        read(1, "a", "AD"), read(2, "a", "CN"), read(3, "b", "AD", superseded=True), read(4, "b", None),
        read(5, "c", "LBD"),
    ]  # fmt: skip
    found = labels_from(reads, CLASSES, ON)
    assert {scan: label.diagnosis for scan, label in found.by_scan.items()} == {"a": "CN"}


def test_a_blind_read_that_was_changed_after_the_answer_was_seen_does_not_count():
    reads = [read(1, "a", "AD", superseded=True), read(2, "a", "CN", blind=False)]
    assert not labels_from(reads, CLASSES, ON).by_scan


def cohort_of(subjects: int, unread: int = 0, visits: int = 1) -> Cohort:
    scans = [
        Scan(f"{n:02}", f"M{v}", Path(), diagnosis=None if n >= subjects - unread or v else CLASSES[n % 3])
        for n in range(subjects)
        for v in range(visits)
    ]
    return Cohort(tuple(scans), CLASSES)


def silent_of(cohort: Cohort) -> set[str]:
    return {scan.scan_id for scan in cohort.scans if scan.diagnosis is None}


def labels_of_all(cohort: Cohort, diagnosis: str = "AD") -> ReadLabels:
    return labels_from([read(n, i, diagnosis) for n, i in enumerate(cohort.scan_ids)], CLASSES, ON)


def test_a_diagnosis_is_never_replaced():
    cohort = cohort_of(6, unread=2)
    labelled = with_read_labels(cohort, labels_of_all(cohort), silent_of(cohort))
    assert [s.diagnosis for s in labelled.scans] == ["CN", "MCI", "AD", "CN", "AD", "AD"]
    assert [s.scan_id for s in labelled.scans if LABEL_FROM in s.facts] == ["sub-04_ses-M0", "sub-05_ses-M0"]
    assert diagnosed(labelled) == cohort.labelled()


@given(
    st.integers(40, 60), st.integers(0, 10), st.integers(1, 3), st.integers(0, 5), st.booleans(),
)  # fmt: skip
def test_no_scan_with_a_label_from_reads_is_in_another_part_than_training(
    subjects, unread, visits, seed, crossed
):
    cohort = cohort_of(subjects, unread, visits)
    labelled = with_read_labels(cohort, labels_of_all(cohort), silent_of(cohort)).labelled()
    settled = split_subjects(diagnosed(labelled), SplitSettings(), seed=seed)
    settled = development(settled) if crossed else settled
    split = trained_on_reads(settled, labelled)  # raises on leakage
    from_reads = {s.scan_id for s in labelled.scans if LABEL_FROM in s.facts}
    for part in ("validation", "calibration", "test"):
        assert split.part(part) == settled.part(part), "what tests and calibrates is as without reads"
        assert not from_reads & set(split.part(part))
    new = {
        s.scan_id for s in labelled.scans if s.scan_id in from_reads and int(s.subject) >= subjects - unread
    }
    assert new <= set(split.train), "a subject that only readers have judged is trained on"


def test_later_scans_that_only_readers_have_judged_test_no_challenger():
    cohort = cohort_of(6, unread=2)
    labelled = with_read_labels(cohort, labels_of_all(cohort), silent_of(cohort)).labelled()
    split = Split(("sub-00_ses-M0",), (), (), (), {"sub-00_ses-M0": "00"})
    assert scans_of_others(labelled, [split]) == ("sub-01_ses-M0", "sub-02_ses-M0", "sub-03_ses-M0")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ReadLabelSettings(), "Reads are not used as labels (labels.from_reads). A reader who has seen the"),
        (
            ON,
            "Only blind reads count; 1 others with a class do not. A reader who has seen the model's answer",
        ),
        (ALL, "Reads with the answer in view count too (labels.blind_only is off). Beware: A reader who has"),
    ],
)
def test_the_page_states_whether_reads_are_labels_and_why(settings, words):
    found = labels_from([read(1, "a", "AD", blind=False), read(2, "b", "CN")], CLASSES, settings)
    sentence = labels_sentence(found, settings)
    assert words in sentence
    assert ("They are never in the test part" in sentence) is settings.from_reads
