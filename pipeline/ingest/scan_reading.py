"""Read one scan, whatever holds it: a folder, an archive, a DICOM or NIfTI file, or what an ingest found."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, RefusedScan
from pipeline.ingest.archive_kinds import kind_of_archive
from pipeline.ingest.archives import View, opened
from pipeline.ingest.bids_tree import sidecars_of
from pipeline.ingest.convert import read_found
from pipeline.ingest.dicom import read_series
from pipeline.ingest.found import FoundScan
from pipeline.ingest.instances import is_dicom
from pipeline.ingest.nifti import read_nifti
from pipeline.ingest.sidecar import IMAGE_NAME, OWN_FACTS, read_sidecar, sidecars_beside
from pipeline.ingest.sources import find_scans, scans_at
from pipeline.scan import Volume


def read_scan(scan: Path | FoundScan) -> Volume:
    """Read a folder or an archive of one scan, a DICOM or NIfTI file, or a scan that was found.

    Raises
    ------
    InputError
        If there is no such path.
    RefusedScan
        If what is there is no readable PET scan.
    """
    if isinstance(scan, FoundScan):
        return read_found(scan)
    if scan.is_dir() or kind_of_archive(scan):
        with opened(scan) as view:
            return _read_folder(scan, view)
    if scan.is_file():
        return read_found(_only(scans_at(scan), scan)) if is_dicom(scan) else _read_image(scan)
    raise InputError(
        "There is no such file or folder; a scan is a folder of DICOM files or a NIfTI file",
        where=str(scan),
        hint="correct the path",
    )


def _read_folder(folder: Path, view: View) -> Volume:
    """Read the one scan of a folder, whatever its format; of several reconstructions, that of an ingest."""
    if view.origins:
        return read_found(_only(find_scans(folder, view=view).scans, folder))
    try:
        return read_series(folder)
    except RefusedScan as refusal:
        if refusal.rule not in ("empty", "several-series"):
            raise
        found: Sequence[FoundScan] = ()
        with suppress(InputError):
            found = find_scans(folder).scans
        if len(found) == 1 or (found and refusal.rule == "empty"):
            return read_found(_only(found, folder))
        raise


def _only(scans: Sequence[FoundScan], place: Path) -> FoundScan:
    if len(scans) == 1:
        return scans[0]
    raise RefusedScan(
        "several-series",
        f"There are {len(scans)} PET scans",
        where=str(place),
        hint="Unpack it, and name the folder of one of them"
        if kind_of_archive(place)
        else "Name the folder or file of one of them",
        measured=f"{len(scans)} scans",
    )


def _read_image(path: Path) -> Volume:
    """Read an image with the sidecars of its dataset at every level, or with the one beside it."""
    root = next((p for p in path.parents if (p / "dataset_description.json").is_file()), None)
    sidecars = sidecars_of(path, root) if root is not None else ()
    facts: dict[str, Any] = {}
    for sidecar in sidecars or sidecars_beside(path):
        facts |= read_sidecar(sidecar)
    facts.pop(OWN_FACTS, None)  # as in an ingest: anybody may have written them
    if root is None:
        facts[IMAGE_NAME] = path.name
    return read_nifti(path, facts)
