"""Records of the scans of a dataset: one file for each scan, which remains when its source is gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from pipeline.errors import InputError
from pipeline.files import read_json, write_json
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.found import FoundScan
from pipeline.ingest.outcomes import ScanOutcome

RECORDS = Path("derivatives") / "taucal" / ".records"


@dataclass(frozen=True)
class ScanRecord:
    """The outcome of one scan, and the files that belong to it.

    Parameters
    ----------
    key : str
        Fingerprint of the scan and the settings; empty where the scan is to be tried again next time.
    outcome : ScanOutcome
    files : mapping of str to int
        Sizes in bytes by name, relative to the dataset.
    sources : tuple of str
        Codes of the source folders that held the scan. Records of earlier versions have none.
    settings, content, image : str
        Fingerprints of the settings, of the scan with what tables state of it, and of its images' bytes;
        empty in records of earlier versions.
    seen_as : str
        Code of the names, sizes and times of the files, and of what tables state: where it is the same, the
        files need not be read. Empty where they were written moments before they were read.
    volume : str
        SHA-256 of the converted image; empty in records of earlier versions.
    converted : mapping or None
        Of `ConvertedScan.to_dict`; None where the scan could not be converted.
    suvr : str or None
        The SUVR image, relative to the dataset; None where the scan was refused.
    regions : mapping of str to float
        Of `Normalised.region_values`.
    """

    key: str
    outcome: ScanOutcome
    files: Mapping[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    settings: str = ""
    content: str = ""
    image: str = ""
    seen_as: str = ""
    volume: str = ""
    converted: Mapping[str, Any] | None = None
    suvr: str | None = None
    regions: Mapping[str, float] = field(default_factory=dict)

    def is_whole(self, bids: Path) -> bool:
        """Return whether every file is there with its size."""
        return all(_size(bids / name) == size for name, size in self.files.items())

    def seen_in(self, sources: Iterable[str]) -> Self:
        """Return the same record with more sources."""
        return replace(self, sources=tuple(sorted({*self.sources, *sources})))

    def without(self, source: str) -> Self:
        """Return the same record with one source less."""
        return replace(self, sources=tuple(s for s in self.sources if s != source))

    def write(self, path: Path) -> Path:
        """Write the record whole or not at all."""
        values = asdict(self)
        for name in ("seen_as", "volume", "converted", "suvr", "regions"):
            if not values[name]:
                del values[name]
        return write_json(path, values)

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the record that was written, by this version or an earlier one."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known["outcome"] = ScanOutcome(**values["outcome"])
        known["sources"] = tuple(values.get("sources", ()))
        return cls(**known)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def record_path(bids: Path, found: FoundScan, names: Pseudonymiser) -> Path:
    """Return where the record of a scan is."""
    return bids / RECORDS / f"{names.subject(found.identity)}.json"


def read_record(path: Path) -> ScanRecord | None:
    """Read a record; None where there is none, or it is broken and the scan must be done again."""
    try:
        return ScanRecord.of_dict(read_json(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_records(bids: Path) -> dict[Path, ScanRecord | None]:
    """Read every record of a dataset, in the order of its scans; None for one that is broken."""
    found = {path: read_record(path) for path in sorted((bids / RECORDS).glob("*.json"))}
    return dict(sorted(found.items(), key=lambda item: item[1].outcome.scan if item[1] else ""))


def usable_records(bids: Path) -> tuple[dict[Path, ScanRecord], list[str]]:
    """Return the records whose files are there, one a scan, and the scans whose files are gone.

    Raises
    ------
    InputError
        If a record cannot be read: its scan would be lost from every table.
    """
    chosen: dict[str, Path] = {}
    gone: set[str] = set()
    records: dict[Path, ScanRecord] = {}
    for path, record in read_records(bids).items():
        if record is None:
            raise InputError(
                "A record of the dataset cannot be read",
                where=str(path),
                hint="delete this file, then ingest the source of the scan again",
            )
        if not record.is_whole(bids):
            gone.add(record.outcome.scan)
            continue
        records[path] = record
        other = chosen.get(record.outcome.scan)
        if other is None or _better(path, record) > _better(other, records[other]):
            chosen[record.outcome.scan] = path
    usable = {path: records[path] for path in chosen.values()}
    return usable, sorted(gone - set(chosen))


def _better(path: Path, record: ScanRecord) -> tuple[bool, bool, str]:
    """Order two records of one scan id, of which earlier versions may have left an old one."""
    return bool(record.sources), record.suvr is not None, path.name


def remove_files(bids: Path, names: Iterable[str]) -> None:
    """Remove files of a scan, then the folders they leave without an image."""
    for name in names:
        path = bids / name
        path.unlink(missing_ok=True)
        session = path.parent.parent
        if not any(path.parent.glob("*")):
            for table in session.glob("*_scans.tsv"):
                table.unlink()
        for folder in (path.parent, session, session.parent):
            if folder != bids and bids in folder.parents and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def no_longer_held(bids: Path, source: str, found: Iterable[Path]) -> dict[Path, ScanRecord]:
    """Return records of scans that came from a source which does not hold them any more.

    Records of earlier versions do not know their source and are never among them.

    Parameters
    ----------
    bids : Path
    source : str
        The code of the source folder.
    found : iterable of Path
        Records of the scans that the source holds now.
    """
    here = set(found)
    return {
        path: record
        for path, record in read_records(bids).items()
        if record is not None and path not in here and source in record.sources
    }


def assign_sessions(
    scans: Iterable[FoundScan], records: Mapping[Path, ScanRecord | None], bids: Path, names: Pseudonymiser
) -> list[FoundScan]:
    """Give each scan a session of its own, also where the dataset holds another of its subject and day.

    A scan stays in the session it was given first; a new one gets a code where another scan has its day.
    """
    holder = {record.outcome.scan: path for path, record in records.items() if record is not None}
    assigned = []
    for scan in scans:
        path = record_path(bids, scan, names)
        plain, coded = replace(scan, twin=False), replace(scan, twin=True)
        held = holder.get(plain.label(names), path)
        chosen = coded if held != path or holder.get(coded.label(names)) == path else plain
        holder[chosen.label(names)] = path
        assigned.append(chosen)
    return assigned
