"""A scan that was found: its files and what its folder and the tables say of it, before anything is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from time import time_ns as now_ns
from typing import Literal

from pipeline.errors import InputError, RefusedScan
from pipeline.files import fingerprint, sha256_of_file
from pipeline.ingest.acquired import Acquired
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.folders import ANNEXED
from pipeline.ingest.people import Person
from pipeline.wording import counts_of


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
    stated : str
        The diagnosis in the words of the source; empty where it has codes.
    reads : mapping of str to str
        Visual reads and the status of markers, by column.
    acquired : Acquired or None
        Of DICOM.
    origin : str
        Where the files are as the user calls it, for those of an archive.
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
    tracer : str or None
        As the header states it, where one was read.
    person : Person or None
        Whom the header states.
    refused : (str, str, str) or None
        Rule, problem and hint, where it was seen before the scan was read.
    doubt : (str, str) or None
        Why it is not known whose scan it is, and the hint; reading it refuses it.
    several_series : bool
        The files are of several series, each of which holds frames of the scan.
    own_label : str
        ``sub-<pseudonym>_ses-<session>`` of a scan that has these names already, by the same key.
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
    tracer: str | None = None
    person: Person | None = None
    refused: tuple[str, str, str] | None = None
    doubt: tuple[str, str] | None = None
    stated: str = ""
    reads: Mapping[str, str] = field(default_factory=dict)
    acquired: Acquired | None = None
    origin: str = ""
    own_label: str = ""
    several_series: bool = False

    def check(self) -> None:
        """Refuse a scan of which it is not known whose it is, or what was seen when it was found.

        Raises
        ------
        RefusedScan
            ``"whose-scan"``, or the rule of `refused`.
        """
        if self.refused is not None:
            raise RefusedScan(self.refused[0], self.refused[1], hint=self.refused[2])
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
        return (
            self.own_label
            or f"sub-{pseudonymiser.subject(self.subject_label)}_ses-{self.session(pseudonymiser)}"
        )

    def digests(self) -> dict[Path, str]:
        """Return the SHA-256 of each file and sidecar.

        Raises
        ------
        RefusedScan
            ``"no-permission"``, or ``"vanished"`` where a file is gone since it was found.
        """
        try:
            # What is no file stands for itself: reading the scan refuses it.
            return {
                path: sha256_of_file(path) if path.is_file() or path not in self.sidecars else "no file"
                for path in (*self.files, *self.sidecars)
            }
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
            # A source with archives is read by links, in a folder that has another name each time.
            name = os.path.realpath if self.origin else str
            found = [(name(path), path.stat()) for path in (*self.files, *self.sidecars)]
        except OSError:
            return ""
        # The time of change too: a file that is replaced by a copy may bring its time of modification along.
        rows = [(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found]
        newest = max((modified for _, _, modified, _ in rows), default=0)
        return "" if newest > now_ns() - SAFE_NS else fingerprint(rows, self._stated())

    def _stated(self) -> tuple[object, ...]:
        return (
            self.identity, str(self.scan_date), self.twin, self.diagnosis, self.days_to_diagnosis, self.age,
            self.sex, self.site, self.visit, self.posterior, self.notes, *(self.doubt or ()),
            *(self.refused or ()), *([self.stated] if self.stated else ()), *sorted(self.reads.items()),
        )  # fmt: skip


SAFE_NS = 5_000_000_000
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
    commands : tuple of str
        What makes of files of other formats what can be read, where no scan was found.
    """

    layout: str
    scans: tuple[FoundScan, ...]
    ignored: dict[str, int] = field(default_factory=dict)
    unopened: tuple[Path, ...] = ()
    commands: tuple[str, ...] = ()


class NoScans(InputError):  # noqa: N818 - what is found is an answer, an error only for who needs a scan
    """A folder that is there and holds no PET scan.

    Parameters
    ----------
    found : Found
        What it holds instead.
    source : Path
    """

    def __init__(self, found: Found, source: Path) -> None:
        self.found, self.source = found, source
        seen = counts_of(found.ignored) or "an empty folder"
        hint = "Name the folder that holds the scans; `taucal ingest --layout` states how it is organised"
        if ANNEXED in found.ignored:
            hint = f"Fetch the files in {source}: `datalad get .`, `git annex get .` or `git lfs pull`"
        if found.commands:
            hint = f"Convert or unpack them first: {'; '.join(found.commands)}"
        if found.unopened:
            hint = f"Correct the permissions of {', '.join(map(str, found.unopened[:3]))}"
        super().__init__(
            f"No PET scan in this folder (read in the {found.layout} layout): found {seen}",
            where=str(source),
            hint=hint,
        )


def no_permission() -> RefusedScan:
    """Return the refusal of a scan whose file may not be read."""
    return RefusedScan(
        "no-permission",
        "A file of the scan may not be read by this user",
        hint="correct its permissions, then ingest again",
        measured="permission denied",
    )
