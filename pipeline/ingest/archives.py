"""Archives in a source are read as the folders they hold: unpacked within limits, and removed again."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.files import not_writable
from pipeline.ingest.archive_kinds import TAR, kind_of_archive, may_be_packed
from pipeline.ingest.folders import is_of_people
from pipeline.ingest.unpacking import ArchiveError, Limits, leave_broken, unpack

UNREAD_ARCHIVES = "archives that cannot be read"
_SPARE = 1 << 30
"""Bytes of a disk that stay free."""


@dataclass(frozen=True)
class View:
    """A source as folders: the source itself, or a folder of links to it beside what was unpacked.

    Parameters
    ----------
    root : Path
        Where scans are searched.
    origins : tuple of (Path, Path)
        Folders of the view, and the archive or folder of the source that each is made of.
    ignored : Counter
        What was left out of archives.
    unopened : tuple of Path
        Archives that cannot be read.
    """

    root: Path
    origins: tuple[tuple[Path, Path], ...] = ()
    ignored: Counter[str] = field(default_factory=Counter)
    unopened: tuple[Path, ...] = ()

    def origin_of(self, path: Path) -> str:
        """Return what the user calls a file: below its archive, as it is below its folder."""
        for folder, origin in sorted(self.origins, key=lambda pair: -len(pair[0].parts)):
            if path.is_relative_to(folder):
                return str((origin / path.relative_to(folder)).absolute())
        return str(path.absolute())


@contextmanager
def opened(source: Path, beside: Path | None = None) -> Iterator[View]:
    """Open a source that is an archive, or a folder with archives somewhere in it.

    Parameters
    ----------
    source : Path
    beside : Path, optional
        Folder in which archives are unpacked while the source is open, that of temporary files by default.

    Raises
    ------
    ArchiveError
        If the source is an archive and cannot be read.
    """
    packed = _archives_below(source)
    if not packed:
        yield View(source)
        return
    remove_left_over(beside or Path(tempfile.gettempdir()))
    try:
        if beside is not None:
            beside.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".taucal-unpacked-{os.getpid()}-", dir=beside))
    except OSError as error:
        raise not_writable(beside or Path(tempfile.gettempdir()), error) from error
    try:
        yield _view_of(source, packed, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left_over(beside: Path) -> None:
    """Remove what processes left unpacked that were killed."""
    for folder in beside.glob(".taucal-unpacked-*"):
        number = folder.name.split("-")[2]
        if number.isdigit() and not Path(f"/proc/{number}").exists() and Path("/proc").is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _archives_below(source: Path) -> dict[Path, str]:
    if source.is_file():
        kind = kind_of_archive(source)
        return {source: kind} if kind else {}
    found = {}
    for place, folders, names in os.walk(source):
        folders[:] = sorted(filter(is_of_people, folders))
        for name in sorted(names):
            path = Path(place, name)
            if may_be_packed(name) and path.is_file() and (kind := kind_of_archive(path)):
                found[path] = kind
    return found


def _view_of(source: Path, packed: dict[Path, str], folder: Path) -> View:
    root = folder / "view"
    root.mkdir()
    origins = [(root, source)]
    limits = Limits(shutil.disk_usage(folder).free - _SPARE)
    unopened = []
    if source.is_dir():
        _link(source, root, frozenset(packed))
    for archive, kind in packed.items():
        relative = archive.relative_to(source).parent if source.is_dir() else Path()
        target = _free_name(root / relative, archive.name, kind) if source.is_dir() else root
        if kind == "gz" and source.is_dir() and os.path.lexists(target):
            limits.ignored["packed copies of a file that is there"] += 1
            continue
        try:
            unpack(archive, kind, target, limits)
        except ArchiveError:
            if source.is_file():
                raise
            unopened.append(archive)
            if kind == "gz":
                leave_broken(target)
        if kind != "gz" and target != root:
            origins.append((target, archive))
    return View(
        _innermost(root) if source.is_file() else root, tuple(origins), limits.ignored, tuple(unopened)
    )


def _free_name(place: Path, name: str, kind: str) -> Path:
    """Return where an archive is unpacked: under its name without suffix, where no other file has it."""
    if kind == "gz":
        return place / re.sub(r"\.gz$", "", name, flags=re.IGNORECASE)
    bare = place / (re.sub(r"\.zip$", "", TAR.sub("", name), flags=re.IGNORECASE) or name)
    return place / f"{name}.d" if os.path.lexists(bare) else bare


def _link(source: Path, root: Path, packed: frozenset[Path]) -> None:
    """Link what is no archive; a folder with archives in it becomes a new folder, any other is one link."""
    holders = {folder for archive in packed for folder in archive.parents}
    try:
        entries = sorted(source.iterdir())
    except PermissionError:  # reported as a folder that cannot be opened
        return
    for entry in entries:
        if entry in packed or entry.name.startswith("."):
            continue
        if entry in holders:
            (root / entry.name).mkdir()
            _link(entry, root / entry.name, packed)
        else:
            (root / entry.name).symlink_to(entry.absolute())


def _innermost(root: Path) -> Path:
    """Return the folder in which an archive of one folder of one folder has its files."""
    while True:
        inside = list(root.iterdir())
        if len(inside) != 1 or not inside[0].is_dir() or _names_somebody(inside[0].name):
            return root
        root = inside[0]


def _names_somebody(folder: str) -> bool:
    return bool(re.match(r"sub-|\d{3}_S_\d{4,5}$", folder, re.IGNORECASE))
