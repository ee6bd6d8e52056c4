"""Files below a folder: links, what cannot be opened, and what the system keeps for itself."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima", ".img")
UNOPENED, UNREADABLE = "folders that cannot be opened", "files that may not be read"
ANNEXED = "files whose content is not there (fetch it: datalad get, git annex get, git lfs pull)"
_SPECIAL = "pipes, sockets and devices"
"""Reading a pipe would wait for ever."""


def files_below(folder: Path, ignored: Counter[str]) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order, each once; hidden ones are left out.

    Links are followed after everything else. Those that lead nowhere, in a circle, or to what is read anyway
    are counted in `ignored`, as are folders that cannot be opened.
    """
    read: set[str] = set()
    links: list[Path] = []
    pending = [folder]

    def count(_error: OSError) -> None:
        ignored[UNOPENED] += 1

    while pending:
        start = pending.pop(0)
        if os.path.realpath(start) in read:
            ignored["links to folders that are read already"] += 1
            continue
        for place, folders, names in os.walk(start, onerror=count):
            if os.path.realpath(place) in read:
                folders.clear()
                continue
            read.add(os.path.realpath(place))
            visible = [Path(place, name) for name in sorted(_of_people(folders, ignored))]
            folders[:] = [path.name for path in visible if not path.is_symlink()]
            pending += [path for path in visible if path.is_symlink()]
            found = [Path(place, name) for name in sorted(names) if not name.startswith(".")]
            kinds = list(map(_kind, found))
            links += [path for path, kind in zip(found, kinds, strict=True) if kind == stat.S_IFLNK]
            ignored[_SPECIAL] += sum(kind not in (stat.S_IFLNK, stat.S_IFREG) for kind in kinds)
            yield from (path for path, kind in zip(found, kinds, strict=True) if kind == stat.S_IFREG)
    if not ignored[_SPECIAL]:
        del ignored[_SPECIAL]
    yield from _followed(links, read, ignored)


def _kind(path: Path) -> int:
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except OSError:  # gone since it was listed: reading it reports that
        return stat.S_IFREG


def _of_people(folders: Iterable[str], ignored: Counter[str]) -> list[str]:
    """Return the folders that people made: no hidden ones, no bins and snapshots, which hold what was."""
    visible = [name for name in folders if not name.startswith(".")]
    chosen = [name for name in visible if is_of_people(name)]
    if len(chosen) < len(visible):
        ignored["folders of the system (bins, snapshots, thumbnails)"] += len(visible) - len(chosen)
    return chosen


def is_of_people(folder: str) -> bool:
    """Return whether a folder is neither hidden nor one that a system keeps for itself."""
    return not folder.startswith(".") and not _OF_SYSTEM.fullmatch(folder)


_OF_SYSTEM = re.compile(
    r"\$recycle\.bin|recycler|#recycle|system volume information|lost\+found|@eadir|#snapshot|~snapshot"
    r"|__macosx",
    re.IGNORECASE,
)


def _followed(links: Iterable[Path], read: set[str], ignored: Counter[str]) -> Iterator[Path]:
    """Yield linked files whose target is not among the folders that were read."""
    taken: set[str] = set()
    for link in links:
        target = os.path.realpath(link)
        folder, name = os.path.split(target)
        if not Path(target).is_file():
            annexed = f"annex{os.sep}objects" in target
            ignored[ANNEXED if annexed else "links that lead nowhere"] += 1
        elif target in taken or (folder in read and not name.startswith(".")):
            ignored["links to files that are read already"] += 1
        else:
            taken.add(target)
            yield link


def unopened_below(source: Path) -> tuple[Path, ...]:
    """Return the folders and DICOM files below a source that cannot be opened: a walk skips them silently."""
    found: list[Path] = []

    def add(error: OSError) -> None:
        found.append(Path(error.filename))

    for place, folders, names in os.walk(source, onerror=add):
        folders[:] = sorted(_of_people(folders, Counter()))
        # Its names can be read, and nothing that they name.
        if not os.access(place, os.X_OK):
            found.append(Path(place))
            folders.clear()
            continue
        shut = (Path(place, name) for name in names if _may_be_image(name))
        found += [path for path in shut if not os.access(path, os.R_OK) and path.is_file()]
    return tuple(dict.fromkeys(found))


def _may_be_image(name: str) -> bool:
    """Return whether a name is one that DICOM files have; NIfTI is found by its name, and refused by it."""
    suffix = Path(name).suffix.lower()
    return not name.startswith(".") and (suffix in DICOM_SUFFIXES or not suffix.strip(".0123456789"))
