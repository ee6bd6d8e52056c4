"""The source folders of an ingest: what they hold, what they held before, and what is removed with them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from flows.running.console import say
from pipeline.config import IngestSettings
from pipeline.errors import InputError
from pipeline.ingest.archives import opened
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.found import Found, NoScans
from pipeline.ingest.records import no_longer_held, read_records, record_path, remove_files
from pipeline.ingest.sources import find_scans, without_dataset


def find_all(
    folders: Sequence[Path], bids: Path, settings: IngestSettings, archives: ExitStack
) -> tuple[dict[Path, Found], list[NoScans]]:
    """Find the scans of every source, and the sources without any; archives stay open with the stack.

    Raises
    ------
    InputError
        If no source has a scan and nothing was read before, or a source is the dataset.
    """
    found: dict[Path, Found] = {}
    empty: list[NoScans] = []
    for folder in folders:
        if folder.resolve().is_relative_to(bids.resolve()):
            raise InputError(
                "The source is the dataset itself, or lies inside it: everybody would be there twice",
                where=str(folder),
                hint="name the folder that the scans come from, and another one by --out",
            )
        try:
            view = archives.enter_context(opened(folder, bids.parent))
            here = find_scans(folder, settings.layout, settings.tracer, settings.prefer, view)
            found[folder] = without_dataset(here, folder, bids)
        except NoScans as nothing:
            if nothing.found.unopened:
                raise
            empty.append(nothing)
    if not found and not any(record is not None for record in read_records(bids).values()):
        raise empty[0]
    return found, empty


def check_emptied(nothing: NoScans, place: str, bids: Path, settings: IngestSettings) -> None:
    """Say how many scans came from a source that holds none now; one that never held any is no loss.

    Raises
    ------
    InputError
        If they would be removed: rather its disk is missing than every scan.
    """
    missing = no_longer_held(bids, place, ())
    if missing and settings.prune:
        raise InputError(
            f"{nothing.problem}: --prune would remove every scan that came from it ({len(missing)})",
            where=nothing.where,
            hint="see whether its disk is there; without --prune, the scans of the dataset stay",
        )
    if missing:
        say(f"{len(missing)} scans that were in this source are not there now; they stay: {nothing.where}.")


def find_missing(found: Found, source: str, bids: Path, names: Pseudonymiser, *, prune: bool) -> int:
    """Say how many scans the source no longer holds, or remove them; return how many were removed."""
    here = [record_path(bids, scan, names) for scan in found.scans]
    missing = no_longer_held(bids, source, here)
    if prune and missing and found.unopened:
        say("Nothing is removed: what seems missing may be in what cannot be opened.")
        return 0
    if not prune:
        if missing:
            say(f"{len(missing)} scans that were in this source are not there now; they stay (see --prune).")
        return 0
    alone = {path: record for path, record in missing.items() if record.sources == (source,)}
    for record in alone.values():
        say(f"To be removed, its source does not hold it any more: {record.outcome.scan}.")
    for path, record in missing.items():
        if path in alone:
            remove_files(bids, record.files)
            path.unlink()
        else:
            record.without(source).write(path)
    if len(missing) > len(alone):
        others = [record.outcome.scan for path, record in missing.items() if path not in alone]
        say(
            f"{len(others)} scans stay, as they came from another source too: {first_of(others)}. Ingest "
            "that one with --prune; or remove their folders from the dataset: no table lists them then."
        )
    return len(alone)


def first_of(names: Sequence[str]) -> str:
    """Return the first names of a list, for a line of the console."""
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
