"""A scan that was found: its files and what its folder and the tables say of it, before anything is read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from time import time_ns as now_ns
from typing import Literal

from pipeline.errors import InputError, RefusedScan
from pipeline.files import fingerprint, sha256_of_file
from pipeline.ingest.deidentify import Pseudonymiser

UNOPENED = "folders that cannot be opened"


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
            visible = [Path(place, name) for name in sorted(folders) if not name.startswith(".")]
            folders[:] = [path.name for path in visible if not path.is_symlink()]
            pending += [path for path in visible if path.is_symlink()]
            for path in (Path(place, name) for name in sorted(names) if not name.startswith(".")):
                if path.is_symlink():
                    links.append(path)
                else:
                    yield path
    yield from _followed(links, read, ignored)


def _followed(links: Iterable[Path], read: set[str], ignored: Counter[str]) -> Iterator[Path]:
    """Yield linked files whose target is not among the folders that were read."""
    taken: set[str] = set()
    for link in links:
        target = os.path.realpath(link)
        folder, name = os.path.split(target)
        if not Path(target).is_file():
            ignored["links that lead nowhere"] += 1
        elif target in taken or (folder in read and not name.startswith(".")):
            ignored["links to files that are read already"] += 1
        else:
            taken.add(target)
            yield link


@dataclass(frozen=True)
class FoundScan:
    """One PET scan in the source; holds true names and must not be written anywhere.

    Parameters
    ----------
    files : tuple of Path
        DICOM instances, or one NIfTI image.
    format : {"dicom", "nifti", "bids"}
    subject_label : str
        As the source calls the person.
    scan_date : date or None
    image_id, series_uid : str
        Empty where there is none.
    session_label : str
        As a BIDS source calls the session.
    twin : bool
        Another scan of the subject on that day came before it; a code then distinguishes the session.
    sidecars : tuple of Path
        From the general to the special.
    diagnosis : str or None
        Of the visit nearest to the scan.
    days_to_diagnosis : int or None
        Signed: positive where the visit came after the scan.
    age, sex, site, visit, description
        From tables, header or path.
    posterior : tuple of float or None
        True class probabilities, phantoms only.
    spoiled : str or None
        The rule a phantom scan was made to break.
    notes : tuple of str
        What a reader of the report should know; never identifying.
    doubt : (str, str) or None
        Why it is not known whose scan it is, and the hint; reading it refuses it.
    """

    files: tuple[Path, ...]
    format: Literal["dicom", "nifti", "bids"]
    subject_label: str
    scan_date: date | None = None
    image_id: str = ""
    series_uid: str = ""
    session_label: str = ""
    twin: bool = False
    sidecars: tuple[Path, ...] = ()
    diagnosis: str | None = None
    days_to_diagnosis: int | None = None
    age: float | None = None
    sex: str | None = None
    site: str | None = None
    visit: str | None = None
    description: str = ""
    posterior: tuple[float, ...] | None = None
    spoiled: str | None = None
    notes: tuple[str, ...] = ()
    doubt: tuple[str, str] | None = None

    def check(self) -> None:
        """Refuse a scan of which it is not known whose it is.

        Raises
        ------
        RefusedScan
            ``"whose-scan"``.
        """
        if self.doubt is not None:
            raise RefusedScan("whose-scan", self.doubt[0], hint=self.doubt[1])

    @property
    def identity(self) -> str:
        """What distinguishes this scan from every other, wherever the source is mounted."""
        place = "" if self.series_uid or self.image_id else self.files[0].name
        return "\0".join((self.subject_label, self.session_label, self.image_id, self.series_uid, place))

    def session(self, pseudonymiser: Pseudonymiser) -> str:
        """Return the session label: the shifted date of the scan, so that it stays when other scans arrive.

        A second scan of the same day gets a code appended. Without a date, a harmless label of a BIDS source
        is stored (``wave3``, ``M012``, ``01``); any other becomes a code.
        """
        if self.scan_date is not None:
            day = pseudonymiser.shift_date(self.subject_label, self.scan_date).strftime("%Y%m%d")
            return day + "x" + pseudonymiser.code("twin", self.identity, 4) if self.twin else day
        if _is_harmless(self.session_label) and not self.twin:
            return self.session_label
        return "x" + pseudonymiser.code("session", self.identity, 7)

    def label(self, pseudonymiser: Pseudonymiser) -> str:
        """Return ``sub-<pseudonym>_ses-<session>``, the id the scan has in every table."""
        return f"sub-{pseudonymiser.subject(self.subject_label)}_ses-{self.session(pseudonymiser)}"

    def digests(self) -> dict[Path, str]:
        """Return the SHA-256 of each file and sidecar.

        Raises
        ------
        RefusedScan
            ``"no-permission"``, or ``"vanished"`` where a file is gone since it was found.
        """
        try:
            return {path: sha256_of_file(path) for path in (*self.files, *self.sidecars)}
        except PermissionError as error:
            raise no_permission() from error
        except OSError as error:
            raise RefusedScan(
                "vanished", "A file of the scan disappeared while it was read", hint="Ingest again"
            ) from error

    def fingerprint(self, digests: Mapping[Path, str] | None = None) -> str:
        """Return sixteen hex digits that change with the files' bytes and with what the tables say of them.

        Raises
        ------
        RefusedScan
            As `digests`.
        """
        known = self.digests() if digests is None else digests
        rows = [(path.name, known[path]) for path in (*self.files, *self.sidecars)]
        return fingerprint(rows, self._stated())

    def seen_as(self) -> str:
        """Return sixteen hex digits that change with the files' names, sizes and times, and with the tables.

        Empty where a file is gone, or is so new that another change could leave it the same time.
        """
        try:
            found = [(str(path), path.stat()) for path in (*self.files, *self.sidecars)]
        except OSError:
            return ""
        # The time of change too: a file that is replaced by a copy may bring its time of modification along.
        rows = [(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found]
        newest = max((modified for _, _, modified, _ in rows), default=0)
        return "" if newest > now_ns() - _SAFE_NS else fingerprint(rows, self._stated())

    def _stated(self) -> tuple[object, ...]:
        return (
            self.identity, str(self.scan_date), self.twin, self.diagnosis, self.days_to_diagnosis, self.age,
            self.sex, self.site, self.visit, self.posterior, self.notes, *(self.doubt or ()),
        )  # fmt: skip


_SAFE_NS = 5_000_000_000
"""File systems keep times to two seconds at the worst."""


def _is_harmless(label: str) -> bool:
    words = label.rstrip("0123456789").lower()
    return (
        label.isalnum()
        and words in ("", "wave", "m", "v", "visit", "bl", "baseline")
        and len(label) - len(words) <= 3
    )


@dataclass(frozen=True)
class Found:
    """Every PET scan below a folder.

    Parameters
    ----------
    layout : str
        What the folder was recognised as: ``"dicom"``, ``"adni"``, ``"bids"`` or ``"nifti"``.
    scans : tuple of FoundScan
    ignored : dict of str to int
        What is not a PET scan or not taken, counted.
    unopened : tuple of Path
        Folders that cannot be opened: what lies in them is not known.
    """

    layout: str
    scans: tuple[FoundScan, ...]
    ignored: dict[str, int] = field(default_factory=dict)
    unopened: tuple[Path, ...] = ()


class NoScans(InputError):  # noqa: N818 - what is found is an answer, an error only for who needs a scan
    """A folder that is there and holds no PET scan.

    Parameters
    ----------
    found : Found
        What it holds instead.
    source : Path
    """

    def __init__(self, found: Found, source: Path) -> None:
        self.found = found
        seen = ", ".join(f"{n} {what}" for what, n in sorted(found.ignored.items())) or "an empty folder"
        hint = "Name the folder above the scans, or its --layout"
        if found.unopened:
            hint = f"Correct the permissions of {', '.join(map(str, found.unopened[:3]))}"
        super().__init__(
            f"No PET scan in this folder (read in the {found.layout} layout): found {seen}",
            where=str(source),
            hint=hint,
        )


def unopened_below(source: Path) -> tuple[Path, ...]:
    """Return the folders below a source, or itself, that cannot be opened: `os.walk` skips them silently."""
    found: list[Path] = []
    for place, folders, _ in os.walk(source, onerror=lambda error: found.append(Path(error.filename))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # Its names can be read, and nothing that they name.
        if not os.access(place, os.X_OK):
            found.append(Path(place))
            folders.clear()
    return tuple(dict.fromkeys(found))


def no_permission() -> RefusedScan:
    """Return the refusal of a scan whose file may not be read."""
    return RefusedScan(
        "no-permission",
        "A file of the scan may not be read by this user",
        hint="correct its permissions, then ingest again",
        measured="permission denied",
    )
