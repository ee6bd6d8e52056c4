"""Rows are written once, a torn one is written again, and memory does not grow with their number."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import OutputError
from pipeline.files import exclusive
from pipeline.learning.row_files import MappedRows, tidy, whole_rows, write_rows

SHAPE = (6, 5, 7)
ARRAY = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


class StoppedError(Exception):
    """Raised in place of a kill."""


def write(path: Path, *, stop: int | None = None) -> list[int]:
    """Write `ARRAY`, or stop before so many of its missing rows; return the rows that were made."""
    made: list[int] = []

    def rows(missing):
        for n in missing:
            if len(made) == stop:
                raise StoppedError
            made.append(n)
            yield n, ARRAY[n]

    try:
        write_rows(path, SHAPE, np.float32, rows)
    except StoppedError:
        assert not path.exists()
    return made


@pytest.fixture
def path(tmp_path) -> Path:
    """A file that does not exist, in a folder that does not either."""
    return tmp_path / "cache" / "array.npy"


def reference(tmp_path: Path) -> bytes:
    np.save(tmp_path / "reference.npy", ARRAY)
    return (tmp_path / "reference.npy").read_bytes()


def test_the_file_is_that_of_numpy_however_often_it_was_stopped(path, tmp_path):
    assert write(path, stop=0) == []
    assert write(path, stop=2) == [0, 1]
    assert list(whole_rows(path, SHAPE, np.float32)) == [0, 1]
    assert write(path, stop=3) == [2, 3, 4]
    assert write(path) == [5]
    assert path.read_bytes() == reference(tmp_path)
    assert write(path) == []
    assert {p.name for p in path.parent.iterdir()} == {"array.npy", ".lock"}


def test_what_another_process_wrote_meanwhile_is_not_written_again(path, tmp_path):
    @contextlib.contextmanager
    def waiting(lock, what):
        assert (lock, what) == (path.parent / ".lock", "prepared volumes")
        write(path)
        yield

    write_rows(path, SHAPE, np.float32, lambda missing: pytest.fail(f"made {missing}"), waiting)
    assert path.read_bytes() == reference(tmp_path)


def test_rows_may_come_in_any_order(path, tmp_path):
    write_rows(path, SHAPE, np.float32, lambda missing: ((n, ARRAY[n]) for n in reversed(missing)))
    assert path.read_bytes() == reference(tmp_path)


@pytest.mark.parametrize("place", ["row", "checksum", "size"])
def test_what_a_power_cut_tore_is_written_again(path, tmp_path, place):
    write(path, stop=4)
    part = path.with_name("array.npy.part")
    torn = bytearray(part.read_bytes())
    start, end = len(reference(tmp_path)) - ARRAY.nbytes, len(reference(tmp_path))
    if place == "row":  # its second half never reached the disk
        row = start + ARRAY[0].nbytes
        torn[row + 70 : row + 140] = bytes(70)
    elif place == "checksum":
        torn[end + 8] ^= 1
    part.write_bytes(torn[: start + 50] if place == "size" else torn)
    assert write(path) == ([0, 1, 2, 3, 4, 5] if place == "size" else [1, 4, 5])
    assert path.read_bytes() == reference(tmp_path)


def test_a_whole_part_without_its_name_needs_no_row(path, tmp_path):
    path.parent.mkdir()
    path.with_name("array.npy.part").write_bytes(reference(tmp_path))
    assert write(path) == []
    assert path.read_bytes() == reference(tmp_path)


def test_what_is_abandoned_is_removed_unless_a_process_writes(path):
    write(path, stop=2)
    old = path.with_name(".tmp-abc-volumes-1.npy")
    old.write_bytes(b"of an earlier version")
    other = path.with_name("other.npy")
    with exclusive(path.parent / ".lock", "prepared volumes"):
        tidy(path.parent, other)
    assert old.exists()
    tidy(path.parent, path)
    assert {p.name for p in path.parent.iterdir()} == {"array.npy.part", ".lock"}
    tidy(path.parent, other)
    assert {p.name for p in path.parent.iterdir()} == {".lock"}


def _write_on_a_full_disk(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (ARRAY.nbytes, ARRAY.nbytes))
    with pytest.raises(OutputError, match="does not fit on the disk"):
        write(path)


def test_a_full_disk_is_reported_and_the_next_run_goes_on(path):
    process = multiprocessing.get_context("fork").Process(target=_write_on_a_full_disk, args=(path,))
    process.start()
    process.join(240)
    assert process.exitcode == 0
    assert write(path) == [0, 1, 2, 3, 4, 5]


def test_memory_holds_one_row_or_two(path):
    shape = (40, 2**18)
    tracemalloc.start()
    try:
        write_rows(path, shape, np.float32, lambda ns: ((n, np.full(2**18, n, np.float32)) for n in ns))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3.5 * 2**20, "a row has 1 MiB"
    mapped = MappedRows(np.load(path, mmap_mode="r"), np.arange(40))
    assert mapped[np.array([39, 0])][:, -1].tolist() == [39, 0]
