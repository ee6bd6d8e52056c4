"""Arrays on disk that are written row by row, once: a killed process leaves its rows to the next one.

While ``NAME.npy`` is written it is called ``NAME.npy.part``: the file as it will be, with eight bytes a row
behind it, which hold the CRC-32 of the row and are written after it. A row counts only where both fit, so
neither a killed process nor a power cut leaves a torn row that is taken for whole. When every row is there,
the file is synced, cut to its size and renamed. One row is in memory at a time.

One process at a time writes in a folder, under its lock. It knows thereby that every other ``.part`` is
abandoned: it may take rows from them, and removes them.
"""

from __future__ import annotations

import contextlib
import io
import os
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.arrays import Ints
from pipeline.errors import InputError
from pipeline.files import NO_ROOM, exclusive, not_writable, remove_unfinished, unfinished_in

Lock = Callable[[Path, str], AbstractContextManager[object]]
"""Holds the lock file of this path for as long as its block runs, as `pipeline.files.exclusive` does."""
Rows = Callable[[list[int]], Iterable[tuple[int, NDArray[Any]]]]
"""Called with the numbers of the missing rows; yields each with its number, in any order."""
_PART, _LOCK, _LOCKED = ".part", ".lock", "prepared volumes"
_WRITTEN = 1 << 32
"""Added to the checksum of a row that is written, so that none is 0."""


class MappedRows:
    """Some rows of an array that is mapped from a file: those that are asked for are read into memory.

    Parameters
    ----------
    array : memmap, shape (N, ...)
        The whole of its file, in C order.
    rows : ndarray of int64, shape (M,)
    """

    def __init__(self, array: np.memmap[Any, Any], rows: Ints) -> None:
        self._array, self._rows, self._file = array, rows, str(array.filename)
        self.shape = (len(rows), *array.shape[1:])
        self.dtype, self.ndim = array.dtype, array.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: int | slice | Ints) -> NDArray[Any]:
        """Return the rows at these places."""
        rows = self._rows[places]
        return self._read(int(rows)) if np.ndim(rows) == 0 else np.stack([self._read(int(r)) for r in rows])

    def _read(self, row: int) -> NDArray[Any]:
        """Read one row from the file at once: a fault for each of its 1,000 pages takes much longer."""
        count = int(np.prod(self.shape[1:]))
        start = self._array.offset + row * count * self.dtype.itemsize
        found: NDArray[Any] = np.fromfile(self._file, self.dtype, count, offset=start)
        return found.reshape(self.shape[1:])

    def subset(self, places: Ints) -> MappedRows:
        """Return the rows at these places, still mapped."""
        return MappedRows(self._array, self._rows[places])

    def __getstate__(self) -> tuple[Path, Ints]:
        """Leave out what is mapped: another process of this machine maps it again."""
        return Path(self._file), self._rows

    def __setstate__(self, state: tuple[Path, Ints]) -> None:
        """Map the file."""
        MappedRows.__init__(self, np.load(state[0], mmap_mode="r"), state[1])


def write_rows(
    path: Path, shape: tuple[int, ...], dtype: type[np.generic], rows: Rows, lock: Lock = exclusive
) -> None:
    """Write an array to a ``.npy``, unless it is there; rows that an earlier process wrote are kept.

    Parameters
    ----------
    path : Path
        Its name must tell what the rows are made of.
    shape : tuple of int, (N, ...)
    rows : callable
        Makes the missing rows, one at a time, while the lock is held.
    lock : callable
        Waits for another process that writes in this folder.

    Raises
    ------
    OutputError
        If the folder cannot be written to, or the disk is full: the rows so far stay.
    """
    if path.is_file():
        return
    with lock(path.parent / _LOCK, _LOCKED):
        if path.is_file():  # another process has written it meanwhile
            return
        try:
            _write(path, shape, dtype, rows)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise not_writable(path.parent, error) from error
            raise


def whole_rows(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> dict[int, NDArray[Any]]:
    """Return the rows, mapped, that are written whole to the ``.part`` of a ``.npy``, by their numbers."""
    part, (start, end, full) = _part_of(path), _layout(shape, dtype)
    size = part.stat().st_size if part.is_file() else 0
    if size not in (end, full):  # none, or killed before it had its size
        return {}
    mapped: NDArray[Any] = np.memmap(part, dtype, mode="r", offset=start, shape=shape)
    if size == end:  # every row was synced; only the name was not changed yet
        return dict(enumerate(mapped))
    sums = np.fromfile(part, "<u8", shape[0], offset=end)
    return {n: mapped[n] for n in np.flatnonzero(sums).tolist() if _sum_of(mapped[n]) == sums[n]}


def abandoned(folder: Path, but: Path) -> list[Path]:
    """Return each ``.npy`` of a folder that has a ``.part``, except one; while the lock is held."""
    return [path for part in sorted(folder.glob(f"*.npy{_PART}")) if (path := part.with_suffix("")) != but]


def remove_abandoned(folder: Path, but: Path) -> None:
    """Remove what killed processes left in a folder, but for one ``.npy``; while the lock is held."""
    for path in abandoned(folder, but):
        if not path.is_file():
            path.with_suffix(".json").unlink(missing_ok=True)  # the list of its rows
        _part_of(path).unlink(missing_ok=True)
    remove_unfinished(folder)


def tidy(folder: Path, but: Path) -> None:
    """Remove what killed processes left in a folder, unless a process is writing there now."""
    if abandoned(folder, but) or unfinished_in(folder):
        with contextlib.suppress(InputError), exclusive(folder / _LOCK, _LOCKED, wait=False):
            remove_abandoned(folder, but)


def _write(path: Path, shape: tuple[int, ...], dtype: type[np.generic], rows: Rows) -> None:
    part, (start, end, full) = _part_of(path), _layout(shape, dtype)
    whole = whole_rows(path, shape, dtype).keys()
    missing = [n for n in range(shape[0]) if n not in whole]
    with part.open("r+b" if part.is_file() else "w+b") as file:
        if missing:
            file.write(_header(shape, dtype))
            file.truncate(full)
        row = np.empty(shape[1:], dtype)
        for number, made in rows(missing):
            row[:] = made  # volumes come in the order of Fortran
            _put(file, start + number * row.nbytes, row.data)
            _put(file, end + 8 * number, _sum_of(row).to_bytes(8, "little"))
        os.fsync(file.fileno())
        file.truncate(end)
    part.replace(path)


def _put(file: BinaryIO, place: int, written: bytes | memoryview) -> None:
    """Write at a place, and hand it to the system before anything else is written."""
    file.seek(place)
    file.write(written)
    file.flush()


def _sum_of(row: NDArray[Any]) -> int:
    return _WRITTEN + zlib.crc32(row.data)


def _layout(shape: tuple[int, ...], dtype: type[np.generic]) -> tuple[int, int, int]:
    """Return in bytes where the rows start, where they end, and where their checksums end."""
    start = len(_header(shape, dtype))
    end = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
    return start, end, end + 8 * shape[0]


def _header(shape: tuple[int, ...], dtype: type[np.generic]) -> bytes:
    stream = io.BytesIO()
    described = np.lib.format.dtype_to_descr(np.dtype(dtype))
    facts = {"descr": described, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, facts)
    return stream.getvalue()


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + _PART)
