"""Files that an earlier ingest has read are not opened to find what is new; what changed is."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from pipeline.ingest.known_headers import remembered_headers
from pipeline.ingest.sources import find_scans

_opened: list[str] = []
sys.addaudithook(lambda event, given: _opened.append(str(given[0])) if event == "open" else None)


@pytest.fixture
def night(tmp_path) -> Callable[[Path], tuple[object, int]]:
    """The function that finds the scans of a folder as a night does, and counts the files it opens there."""
    (tmp_path / "key").write_text("key")

    def find(source: Path) -> tuple[object, int]:
        _opened.clear()
        with remembered_headers(tmp_path / "key"):
            found = find_scans(source)
        return found, len({path for path in _opened if Path(path).is_relative_to(source)})

    return find


def age(source: Path) -> None:
    for path in source.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)


def a_folder(make_series, syntax: str = pydicom.uid.ExplicitVRLittleEndian) -> Path:
    folder = make_series(syntax=syntax).folder
    (folder / "notes.txt").write_text("no image")
    age(folder)
    return folder


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian])
def test_an_old_folder_is_found_as_before_and_one_file_is_opened(make_series, night, syntax):
    folder = a_folder(make_series, syntax)
    first, opened = night(folder)
    assert opened == len(list(folder.iterdir()))
    assert first == find_scans(folder), "what is remembered changes nothing"
    again, opened = night(folder)
    assert again == first
    assert opened == 1, "the first file shows that the folder is of DICOM"


def test_what_is_new_or_changed_is_opened(make_series, night):
    folder = a_folder(make_series)
    before, _ = night(folder)
    slices = sorted(path for path in folder.iterdir() if path.suffix != ".txt")
    changed = pydicom.dcmread(slices[2])
    changed.SeriesInstanceUID = "1.2.3.4"
    changed.save_as(slices[2])
    os.utime(slices[2], (time.time() - 3600,) * 2)
    shutil.copy(slices[0], folder / "notes.dcm")
    found, opened = night(folder)
    assert found == find_scans(folder)
    assert found.scans != before.scans
    assert 3 <= opened <= 4, "the changed one, the new one and that it is a copy of, the first"


def test_a_file_of_this_moment_is_not_remembered(make_series, night):
    folder = make_series().folder
    night(folder)
    assert night(folder)[1] == len(list(folder.iterdir()))


def test_another_source_of_the_dataset_is_remembered_beside_it(make_series, night, tmp_path):
    one = a_folder(make_series)
    other = tmp_path / "other"
    shutil.copytree(one, other)
    age(other)
    for source in (one, other):
        night(source)
    assert [night(source)[1] for source in (one, other)] == [1, 1]


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b", gzip.compress(b"[]"), gzip.compress(b'{"format": 1}')],
    ids=["empty", "cut", "a list", "another format"],
)
def test_a_broken_file_of_answers_counts_as_none(make_series, night, tmp_path, content):
    folder = a_folder(make_series)
    first = night(folder)
    (tmp_path / "key.headers.gz").write_bytes(content)
    assert night(folder) == first
    assert night(folder)[1] == 1


def test_the_answers_are_for_their_owner_alone_and_never_without_a_key(make_series, night, tmp_path):
    folder = a_folder(make_series)
    night(folder)
    assert (tmp_path / "key.headers.gz").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key.headers.gz").unlink()
    (tmp_path / "key").unlink()
    night(folder)
    assert not (tmp_path / "key.headers.gz").exists()
