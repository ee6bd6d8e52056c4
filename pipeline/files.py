"""Files that appear whole or not at all, and fingerprints of what went into them."""

from __future__ import annotations

import contextlib
import errno
import getpass
import hashlib
import json
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import InputError, OutputError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_BESIDE = ".tmp-"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of the system for a disk that is full."""


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`; on success it is renamed to `path`, on failure it is removed.

    The path has the same suffixes, for writers that look at them (``.nii.gz``). The file has the permissions
    of every new file of this user (``umask``), whatever its writer gave it.

    Raises
    ------
    InputError
        If the folder cannot be written to, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with written_whole(target) as beside:
    ...     _ = beside.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.parent / f"{_BESIDE}{secrets.token_hex(4)}-{path.name}"
        handle = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        os.close(handle)
    except OSError as error:
        raise not_writable(path.parent, error) from error
    try:
        yield beside
        beside.chmod(mode)
        beside.replace(path)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise not_writable(path.parent, error) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


def not_writable(folder: Path, error: OSError) -> OutputError:
    """Return the error to raise where the system refuses to write to a folder.

    Examples
    --------
    >>> not_writable(Path("out"), OSError(errno.ENOSPC, "No space left on device")).problem
    'The output does not fit on the disk (No space left on device)'
    """
    if error.errno in NO_ROOM:
        return OutputError(
            f"The output does not fit on the disk ({error.strerror})",
            where=str(folder),
            hint="free space, then run the same command again",
        )
    if file := next((place for place in (folder, *folder.parents) if os.path.isfile(place)), None):  # noqa: PTH113 - answers False where it may not look
        problem = f"A file, {file}, is where the output folder should be"
        return OutputError(problem, where=str(folder), hint="choose another folder")
    return OutputError(
        f"The output folder cannot be written to ({error.strerror})",
        where=str(folder),
        hint="choose another folder or change its permissions",
    )


def remove_unfinished(folder: Path) -> None:
    """Remove what `written_whole` left below a folder where its process was killed.

    Call it only while no other process writes there.
    """
    for path in unfinished_in(folder):
        path.unlink(missing_ok=True)


def unfinished_in(folder: Path) -> list[Path]:
    """Return the files below a folder that `written_whole` has not finished."""
    return [
        Path(place, name) for place, _, names in os.walk(folder) for name in names if name.startswith(_BESIDE)
    ]


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text whole or not at all; return the path."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write JSON with sorted keys and no NaN, whole or not at all; return the path."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of_path(path: Path) -> str:
    """Return sixteen hex digits for the bytes of a file or of all files below a folder, not their names."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return fingerprint(sorted(sha256_of_file(file) for file in files))


def write_sha256(path: Path) -> Path:
    """Write the SHA-256 of a file beside it, as ``sha256sum`` does; return what was written."""
    return write_text(_sum_of(path), f"{sha256_of_file(path)}  {path.name}\n")


def known_sha256(path: Path) -> str:
    """Return the SHA-256 that `write_sha256` left beside a file; read the file where it has changed since.

    The time of change (ctime) counts, not only that of modification, which a restored backup brings along.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    changed = path.stat()
    try:
        summed = _sum_of(path).stat()
        if summed.st_mtime_ns >= changed.st_mtime_ns and summed.st_ctime_ns >= changed.st_ctime_ns:
            digest, name = _sum_of(path).read_text(encoding="utf-8").split()
            if name == path.name and len(digest) == 64:
                return digest
    except (OSError, ValueError):  # none, or not ours
        pass
    return sha256_of_file(path)


def _sum_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def fingerprint(*parts: Any) -> str:
    """Sixteen hex digits computed from JSON-able values, in order.

    Examples
    --------
    >>> fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def exclusive(
    lock: Path | None, what: str, *, wait: bool = True, hint: str = "wait until it is done"
) -> Iterator[None]:
    """Hold a lock file for as long as the block runs; the system frees it when the process dies.

    While it is held, the file names the holder. Without a holder it means nothing, and stays.

    Parameters
    ----------
    lock : Path or None
        None locks nothing.
    what : str
        What is locked, for the message.
    wait : bool
        Wait for the holder, or refuse at once.
    hint : str
        What to do where another process holds it.

    Raises
    ------
    InputError
        If another process holds the lock and `wait` is false, or the folder is not writable.
    """
    if lock is None:
        yield
        return
    from filelock import FileLock, SoftFileLock, Timeout  # deferred: most commands lock nothing

    held = cast("BaseFileLock", FileLock(lock))  # which becomes a SoftFileLock on file systems without locks
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held.acquire(blocking=wait)
    except Timeout as error:
        raise InputError(
            f"Another process has locked the {what}{_in_words(lock)}",
            where=str(lock),
            hint=hint,
        ) from error
    except OSError as error:
        raise not_writable(lock.parent, error) from error
    try:
        # The file of a SoftFileLock is its own. The holder is only for messages: a full disk does not matter.
        if not isinstance(held, SoftFileLock):
            with contextlib.suppress(OSError):
                lock.write_text(json.dumps(_holder()), encoding="utf-8")
        yield
    finally:
        held.release()


def whoami() -> str:
    """Return who runs this program: ``TAUCAL_WHO``, or the login name."""
    try:
        return os.environ.get("TAUCAL_WHO", "").strip() or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


def now() -> str:
    """Return the time in UTC to the second, as ``2026-11-21T15:40:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def today() -> str:
    """Return the date in UTC as reports print it, ``2026-11-21``."""
    return datetime.now(UTC).date().isoformat()


def _holder() -> dict[str, Any]:
    return {"process": os.getpid(), "host": socket.gethostname(), "who": whoami(), "since": now()}


def _in_words(lock: Path) -> str:
    try:
        holder = read_json(lock)
        return f": process {holder['process']} ({holder['who']} on {holder['host']} since {holder['since']})"
    except (OSError, ValueError, TypeError, KeyError):  # not yet written, or not for a full disk
        return ""
