"""What an archive holds, written file by file, within limits of size, number and place."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from pipeline.errors import InputError
from pipeline.ingest.archive_kinds import GZIP, SINGLE, TAR, may_be_packed
from pipeline.ingest.folders import is_of_people

MOST_FILES = 500_000
LARGEST_RATIO, ALWAYS_ALLOWED = 200, 1 << 30
"""Packed images shrink to a tenth; what grows 200 times, above 1 GiB, is made to fill a disk."""
_PART, _LARGEST_READ = 1 << 20, 1 << 26

OUTSIDE = "files of archives that lead out of their folder"
LINKS = "links and devices in archives"
_PACKED_TEXT = (".json.gz", ".csv.gz", ".tsv.gz")
NESTED = "archives inside of archives, which are to be unpacked"
BROKEN = "files of archives that are broken"


class ArchiveError(InputError):
    """An archive that cannot be read, and why."""


@dataclass
class Limits:
    """What may still be written, and what was left out."""

    free: int
    files: int = field(default_factory=lambda: MOST_FILES)
    ignored: Counter[str] = field(default_factory=Counter)

    def copy(self, stream: IO[bytes] | gzip.GzipFile, target: Path, allowed: int) -> int:
        """Write one file as far as it is allowed; return its size.

        Raises
        ------
        _TooLargeError
        """
        self.files -= 1
        if self.files < 0:
            raise _TooLargeError(f"it holds more than {MOST_FILES} files")
        written = 0
        with target.open("xb") as file:
            while part := stream.read(_PART):
                written += len(part)
                self.free -= len(part)
                if written > allowed:
                    raise _TooLargeError(f"it unpacks to more than {LARGEST_RATIO} times its size")
                if self.free < 0:
                    raise _TooLargeError("there is not enough free space to unpack it")
                file.write(part)
        return written


class _TooLargeError(Exception):
    """More than may be written."""


def unpack(archive: Path, kind: str, target: Path, limits: Limits) -> None:
    """Unpack an archive into a folder.

    Raises
    ------
    ArchiveError
        If it is broken, needs a password, or goes beyond a limit; nothing of it stays then.
    """
    unpack: dict[str, Callable[[Path, Path, Limits], None]] = {"zip": _unzip, "tar": _untar, "gz": _gunzip}
    try:
        unpack[kind](archive, target, limits)
    except _TooLargeError as error:
        _discard(target)
        raise ArchiveError(
            f"The archive is not unpacked: {error}",
            where=str(archive),
            hint="unpack it by hand, and see what it holds",
        ) from error
    except _PasswordError as error:
        _discard(target)
        raise ArchiveError(
            "The archive needs a password",
            where=str(archive),
            hint="unpack it with its password: 7z x ARCHIVE",
        ) from error
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile) and error.errno is not None:
            raise ArchiveError(f"The archive cannot be read: {error.strerror}", where=str(archive)) from error
        raise _broken(archive, error) from error
    except Exception as error:  # readers of archives raise what they like at bytes they do not expect
        raise _broken(archive, error) from error


def _broken(archive: Path, error: Exception) -> ArchiveError:
    return ArchiveError(
        f"The archive is broken or no archive ({type(error).__name__})",
        where=str(archive),
        hint="fetch it again",
    )


def _discard(target: Path) -> None:
    """Remove what was unpacked of an archive that goes beyond a limit."""
    if target.name != "view":
        shutil.rmtree(target, ignore_errors=True)
        if target.is_file():
            target.unlink()


class _PasswordError(Exception):
    """A member is encrypted."""


def _allowed(archive: Path) -> int:
    return max(ALWAYS_ALLOWED, LARGEST_RATIO * archive.stat().st_size)


def _unzip(archive: Path, target: Path, limits: Limits) -> None:
    allowed = _allowed(archive)
    with zipfile.ZipFile(archive) as opened_zip:
        for info in opened_zip.infolist():
            if info.flag_bits & 1:
                raise _PasswordError
            mode = info.external_attr >> 16
            is_file = not info.is_dir() and stat.S_IFMT(mode) in (0, stat.S_IFREG)
            place = _place_of(info.filename, target, limits, is_file=is_file, is_folder=info.is_dir())
            if place is not None:
                allowed -= _member(lambda info=info: opened_zip.open(info), place, limits, allowed)  # type: ignore[misc]
                _set_time(place, info.date_time)


def _untar(archive: Path, target: Path, limits: Limits) -> None:
    allowed = _allowed(archive)
    with (
        _unpacked_stream(archive) as stream,
        tarfile.open(
            fileobj=cast("IO[bytes]", _Guarded(stream)), mode="r:", errors="surrogateescape"
        ) as opened_tar,
    ):
        for info in opened_tar:
            place = _place_of(info.name, target, limits, is_file=info.isfile(), is_folder=info.isdir())
            if place is not None and (member := opened_tar.extractfile(info)) is not None:
                allowed -= _member(lambda member=member: member, place, limits, allowed)  # type: ignore[misc]
        _check_end(stream, opened_tar.offset)


def _check_end(stream: IO[bytes], place: int) -> None:
    """Refuse a tar that ends without its end: a header that cannot be read ends it for tarfile, silently.

    Reading what follows compares the checksum of a packed one.
    """
    stream.seek(max(0, place - _TAR_BLOCK))
    before = stream.read(_TAR_BLOCK)
    after = stream.read(_TAR_BLOCK)
    if any(after) or (not after and any(before)):
        raise ValueError("the archive breaks off")
    read = 0
    while (part := stream.read(_PART)) and read < ALWAYS_ALLOWED:
        read += len(part)


_TAR_BLOCK = 512


def _unpacked_stream(archive: Path) -> IO[bytes]:
    with archive.open("rb") as stream:
        head = stream.read(6)
    openers = ((GZIP, gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
    found = next((opener for mark, opener in openers if head.startswith(mark)), None)
    return cast("IO[bytes]", found(archive)) if found else archive.open("rb")


class _Guarded:
    """A stream that refuses to read much at once: a header of tar may state that it is as large as memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise ValueError("a header is too large")
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _gunzip(archive: Path, target: Path, limits: Limits) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        target = target / (archive.name.removesuffix(".gz") or "image")
    with gzip.open(archive) as stream:
        limits.copy(stream, target, _allowed(archive))


def _member(open_it: Callable[[], IO[bytes]], place: Path, limits: Limits, allowed: int) -> int:
    """Write a member; one that is broken is left as no whole file and counted, the others are read."""
    try:
        with open_it() as stream:
            size = limits.copy(stream, place, allowed)
        return size + _single(place, limits, allowed - size)
    except _TooLargeError:
        raise
    except RuntimeError as error:
        if "password" in str(error):
            raise _PasswordError from error
        return _broken_member(place, limits)
    except tarfile.TarError:
        raise
    except Exception:  # noqa: BLE001 - a checksum, a method that is not known, a stream that breaks off
        return _broken_member(place, limits)


def _single(place: Path, limits: Limits, allowed: int) -> int:
    """Unpack a member that is one packed slice or image itself; return its size."""
    bare = place.with_name(place.name[: -len(".gz")])
    if not place.name.lower().endswith(".gz") or not SINGLE.search(bare.name) or bare.exists():
        return 0
    with gzip.open(place) as stream:
        size = limits.copy(stream, bare, allowed)
    place.unlink()
    return size


def _broken_member(place: Path, limits: Limits) -> int:
    leave_broken(place)
    limits.ignored[BROKEN] += 1
    return 0


def leave_broken(place: Path) -> None:
    """Leave a file that no reader takes for whole, where one was that cannot be unpacked.

    Without it, a series would have one slice less, a cohort one scan or a table, and nothing would show it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    size = place.stat().st_size if place.is_file() else 0
    if place.suffix.lower() in (".csv", ".tsv", ".json", ".txt", ".xml"):
        place.write_bytes(bytes(4))
    elif size < 2 * len(_CUT_DICOM):
        place.write_bytes(_CUT_DICOM)
    else:
        os.truncate(place, size // 2)


_CUT_DICOM = bytes(128) + b"DICM\x02\x00"


def _place_of(name: str, target: Path, limits: Limits, *, is_file: bool, is_folder: bool) -> Path | None:
    """Return where a member is written; None where it is no file, leads out, or is an archive itself."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if is_folder:
        return None
    if not is_file:
        limits.ignored[LINKS] += 1
        return None
    leads_out = not parts or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name
    if leads_out or any(len(os.fsencode(part)) > 255 for part in parts):
        limits.ignored[OUTSIDE] += 1
        return None
    if not all(map(is_of_people, parts)):
        return None
    name = parts[-1].lower()
    single = name.endswith(_PACKED_TEXT) or bool(SINGLE.search(name.removesuffix(".gz")))
    if may_be_packed(name) and not (name.endswith(".gz") and single and not TAR.search(name)):
        limits.ignored[NESTED] += 1
        return None
    place = target.joinpath(*parts)
    if place.exists():  # which of two members of one name is meant is not known
        if place.is_file():
            leave_broken(place)
        limits.ignored[BROKEN] += 1
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _set_time(place: Path, stamp: tuple[int, ...]) -> None:
    """Give a file the time it had: one that is new each time would be read again each time."""
    try:
        moment = time.mktime((*stamp, 0, 0, -1))  # type: ignore[arg-type]
        os.utime(place, (moment, moment))
    except (OSError, ValueError, OverflowError):
        return
