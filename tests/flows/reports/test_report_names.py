"""One scan has one report however often and however packed it is named; other images have their own."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from flows.reports.report_names import named_reports, under_known_names
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.found import FoundScan
from pipeline.ingest.source_map import map_beside, read_map, remember_sources

NAMES = Pseudonymiser(b"k" * 32)
LABEL = FoundScan((), "nifti", "01", date(2020, 1, 2)).label(NAMES)


@pytest.fixture
def scan(tmp_path):
    """The function that writes a scan of one person and day, with these bytes."""

    def write(name: str, content: bytes, **more) -> FoundScan:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return FoundScan((path,), "nifti", "01", **{"scan_date": date(2020, 1, 2), **more})

    return write


@pytest.fixture
def names_of(tmp_path):
    """The function that names the reports of a call and stores which images each shows."""

    def named(*scans: FoundScan) -> list[str]:
        reports = list(named_reports(scans, NAMES, tmp_path / "reports"))
        for report in reports:
            file = tmp_path / "reports" / report.name / "report.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"images": report.images}))
        return [report.name for report in reports]

    return named


def test_the_same_scan_again_or_packed_otherwise_has_one_report(scan, names_of, capsys):
    first, packed = scan("a.nii", b"x"), scan("b.nii.gz", b"x")
    assert names_of(first, first, packed) == [LABEL]
    told = capsys.readouterr().err
    assert f"{packed.files[0]} holds the same images as {first.files[0]}: one report, {LABEL}." in told


def test_other_images_of_the_same_day_have_a_further_report_that_says_why(scan, names_of, capsys):
    first, other = scan("a.nii", b"x"), scan("b.nii", b"y")
    assert names_of(first, other, scan("c.nii", b"z"), scan("d.nii", b"y")) == [
        LABEL,
        f"{LABEL}n2",
        f"{LABEL}n3",
    ]
    told = capsys.readouterr().err
    of_first = f"other data of the person and day of {first.files[0]}"
    assert f"{other.files[0]} holds {of_first}: report {LABEL}n2." in told
    assert f"same images as {other.files[0]}: one report, {LABEL}n2." in told


def test_a_scan_whose_name_depends_on_its_place_is_known_by_its_series(scan, names_of):
    undated = {"scan_date": None, "series_uid": "1.2.3"}
    first, moved = scan("a.nii", b"x", **undated, image_id="I7"), scan("b.nii", b"x", **undated)
    assert first.label(NAMES) != moved.label(NAMES)
    assert names_of(first, moved) == [first.label(NAMES)]
    somebody = replace(moved, subject_label="02")
    assert len(names_of(first, somebody)) == 2, "the same images of two people are never one report"


def test_what_cannot_be_read_is_no_copy(scan, names_of):
    first, gone = scan("a.nii", b"x"), scan("b.nii", b"x")
    Path(gone.files[0]).unlink()
    broken = scan("c.nii.gz", b"x")
    broken.files[0].write_bytes(broken.files[0].read_bytes()[:-6])
    assert names_of(first, gone, broken) == [LABEL, f"{LABEL}n2", f"{LABEL}n3"]


def test_a_later_call_with_other_images_of_the_day_leaves_the_first_report(scan, names_of, tmp_path, capsys):
    first, other = scan("a.nii", b"x"), scan("b.nii", b"y")
    assert names_of(first) == [LABEL]
    assert names_of(other) == [f"{LABEL}n2"]
    kept = tmp_path / "reports" / LABEL
    told = f"{other.files[0]} holds other data of the person and day of {kept}: report {LABEL}n2."
    assert told in capsys.readouterr().err
    assert names_of(scan("again.nii.gz", b"y")) == [f"{LABEL}n2"]
    assert names_of(scan("c.nii", b"z"), first) == [f"{LABEL}n3", LABEL]


@pytest.mark.parametrize("stored", ["{}", '{"images": null}', '["no report"]', "{"])
def test_a_report_that_does_not_state_its_images_is_replaced(scan, names_of, tmp_path, stored):
    file = tmp_path / "reports" / LABEL / "report.json"
    file.parent.mkdir(parents=True)
    file.write_text(stored)
    assert names_of(scan("a.nii", b"x")) == [LABEL]


def test_one_person_has_one_pseudonym_however_the_id_is_spelled(tmp_path):
    def scan(label: str) -> FoundScan:
        return FoundScan((tmp_path / label / "x.dcm",), "dicom", label)

    key_file, names = tmp_path / "bids.key", Pseudonymiser(bytes(32))
    remember_sources(key_file, [scan("HOSP-0077"), scan("12^^^SOUTH")], names)
    given = [[scan("hosp-0077")], [scan("0012")], [scan("HOSP-0077"), scan("78")]]
    found = under_known_names(given, key_file, names, tmp_path)
    assert [one.subject_label for one in found] == ["HOSP-0077", "12^^^SOUTH", "HOSP-0077", "78"]
    assert found[0].label(names) == scan("HOSP-0077").label(names)
    # Where one folder has both spellings, they are of two people.
    two = under_known_names([[scan("12"), scan("0012")]], key_file, names, tmp_path)
    assert [one.subject_label for one in two] == ["12", "0012"]


def test_without_a_map_every_scan_stays_under_its_own_name(tmp_path):
    scan = FoundScan((tmp_path / "x.dcm",), "dicom", "77")
    assert under_known_names([[scan]], tmp_path / "no.key", Pseudonymiser(bytes(32)), tmp_path) == [scan]


@pytest.mark.parametrize("layout", ["bids", "nifti"])  # as one file, and in a folder of several
def test_a_scan_of_the_dataset_or_of_a_copy_keeps_its_pseudonym(tmp_path, layout):
    key_file = tmp_path / "bids.key"
    source = FoundScan((tmp_path / "x.dcm",), "dicom", "HOSP-77", date(2020, 1, 2))
    remember_sources(key_file, [source], NAMES)
    subject, _, session = source.label(NAMES).removeprefix("sub-").partition("_ses-")
    copied = FoundScan((tmp_path / "copy" / "x.nii.gz",), layout, subject, session_label=session)
    (found,) = under_known_names([[copied]], key_file, NAMES, tmp_path)
    assert found.label(NAMES) == source.label(NAMES)
    before = read_map(map_beside(key_file))
    remember_sources(key_file, [found], NAMES)
    assert read_map(map_beside(key_file)) == before  # `taucal who` still finds the person, not a pseudonym
    # A source whose ID looks like a pseudonym, but is none of this key, is a person as any other.
    (other,) = under_known_names([[replace(copied, subject_label="QUF7R6TBD5EQ")]], key_file, NAMES, tmp_path)
    assert other.label(NAMES).startswith(f"sub-{NAMES.subject('QUF7R6TBD5EQ')}_")
