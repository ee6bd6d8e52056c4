"""Find PET scans in a folder of any layout: plain DICOM, the ADNI download tree, BIDS, NIfTI."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import InputError
from pipeline.ingest.adni_tree import find_adni, is_adni
from pipeline.ingest.archives import UNREAD_ARCHIVES, View
from pipeline.ingest.bids_tree import find_bids, is_bids
from pipeline.ingest.dicom_tree import find_dicom
from pipeline.ingest.folders import UNOPENED, UNREADABLE, files_below, unopened_below
from pipeline.ingest.found import Found, FoundScan, NoScans
from pipeline.ingest.instances import is_dicom, read_file
from pipeline.ingest.kinds import DIRECTORY, commands_for, kind_of
from pipeline.ingest.nifti_tree import find_nifti
from pipeline.ingest.source_tables import with_source_tables
from pipeline.ingest.vocabulary import canonical_tracer, squeeze, tracer_of

__all__ = ["LAYOUTS", "Found", "FoundScan", "find_scans", "recognise", "scans_at"]

LAYOUTS = ("auto", "dicom", "adni", "bids", "nifti")


def find_scans(
    source: Path,
    layout: str = "auto",
    tracer: str | None = None,
    prefer: Sequence[str] = (),
    view: View | None = None,
) -> Found:
    """Find every PET scan below a folder, without reading pixels.

    Parameters
    ----------
    source : Path
        A folder of scans; an archive where a view of it is given.
    layout : {"auto", "dicom", "adni", "bids", "nifti"}
        What the folder is; ``"auto"`` recognises it.
    tracer : str, optional
        Leave alone and count the series of an ADNI download that are named after another tracer.
    prefer : sequence of str
        Words of the reconstruction to take where an acquisition has several, as in `ingest.prefer`.
    view : View, optional
        Of `pipeline.ingest.archives.opened`; without it, archives in the folder are counted.

    Returns
    -------
    Found
        Scans in a fixed order, the layout, and what was left alone, counted.

    Raises
    ------
    InputError
        If the folder is missing, the layout unknown, or a table cannot be read.
    NoScans
        If no PET scan is found.

    Examples
    --------
    >>> find_scans(Path("no/such/folder"))
    Traceback (most recent call last):
    pipeline.errors.InputError: no/such/folder: No such folder. Name the folder that holds the scans.
    """
    if layout not in LAYOUTS:
        raise InputError(f"Unknown layout {layout!r}", hint=f"Use one of {', '.join(LAYOUTS)}")
    view = view or View(source)
    root = view.root
    if not root.is_dir():
        if source.is_file():
            problem, hint = "This file is no archive of scans (zip or tar)", "Name the folder it is in"
            raise InputError(problem, where=str(source), hint=hint)
        raise InputError("No such folder", where=str(source), hint="Name the folder that holds the scans")
    ignored: Counter[str] = Counter(view.ignored)
    try:
        chosen = recognise(root) if layout == "auto" else layout
        scans = with_source_tables(_FINDERS[chosen](root, ignored, prefer), root, ignored)
    except PermissionError as error:
        raise InputError(
            "This user may not read it",
            where=str(error.filename or source),
            hint="correct its permissions, or those of its folder",
        ) from error
    if tracer is not None and chosen == "adni":
        scans = _of_tracer(scans, canonical_tracer(tracer), ignored)
    if view.origins:
        scans = [replace(scan, origin=_origin(scan, view)) for scan in scans]
    unopened = _unopened(source, view, ignored)
    found = Found(chosen, tuple(_mark_twins(scans)), dict(ignored), unopened)
    if not scans:
        names = (path.name for path in files_below(root, Counter()))
        raise NoScans(replace(found, commands=tuple(commands_for(names))), source)
    return found


def _unopened(source: Path, view: View, ignored: Counter[str]) -> tuple[Path, ...]:
    """Return and count what cannot be opened: folders, files, archives."""
    unopened = unopened_below(source) if source.is_dir() else ()
    files = sum(map(os.path.isfile, unopened))
    counts = {UNREADABLE: files, UNOPENED: len(unopened) - files, UNREAD_ARCHIVES: len(view.unopened)}
    for what, count in counts.items():
        if count:
            ignored[what] = max(ignored[what], count)
    return (*unopened, *view.unopened)


def _origin(scan: FoundScan, view: View) -> str:
    files = scan.files
    return view.origin_of(files[0] if len(files) == 1 else files[0].parent)


def scans_at(path: Path, view: View | None = None) -> tuple[FoundScan, ...]:
    """Return the scans at a path: all of a folder or an archive, or the one a file is or belongs to.

    Raises
    ------
    InputError
        If there is none.
    """
    if not path.is_file() or (view is not None and view.origins):
        return find_scans(path, view=view).scans
    root = next((p for p in path.parents if (p / "dataset_description.json").is_file()), None)
    if is_dicom(path):
        around = find_scans(path.parent, "dicom").scans
        header = read_file(path)
        if header is not None and kind_of(header) == DIRECTORY:  # of a medium: the images beside it
            return around
    elif root is not None and "derivatives" not in path.parts:
        around = find_scans(root, "bids").scans
    else:
        around = find_scans(path.parent, "nifti").scans
    mine = tuple(scan for scan in around if path in scan.files)
    if not mine:
        raise InputError(
            "The file is not a PET scan",
            where=str(path),
            hint="name a folder of DICOM files, a DICOM file, a NIfTI file or an archive of them",
        )
    return mine


def without_dataset(found: Found, source: Path, dataset: Path) -> Found:
    """Leave out the scans of a dataset that lies below its own source: an earlier ingest wrote them.

    Raises
    ------
    NoScans
        If there are no others.
    """
    inside = dataset.resolve()
    if not inside.is_relative_to(source.resolve()):
        return found
    others = [scan for scan in found.scans if not scan.files[0].resolve().is_relative_to(inside)]
    written = len(found.scans) - len(others)
    ignored = {**found.ignored, **({"images of the dataset itself": written} if written else {})}
    left = replace(found, scans=tuple(_mark_twins(others)), ignored=ignored)
    if not others:
        raise NoScans(left, source)
    return left


def _of_tracer(scans: list[FoundScan], wanted: str, ignored: Counter[str]) -> list[FoundScan]:
    named = [(scan, tracer_of(scan.description)) for scan in scans]
    ignored.update(f"{name} series" for _, name in named if name not in (None, wanted))
    return [scan for scan, name in named if name in (None, wanted)]


def recognise(source: Path) -> str:
    """Return the layout of a folder: BIDS by its description, ADNI by its PTIDs, else by its files."""
    if is_bids(source):
        return "bids"
    if is_adni(source):
        return "adni"
    for path in files_below(source, Counter()):
        # Of ten thousand NIfTI files none is opened.
        if not path.name.lower().endswith(_NEVER_DICOM) and is_dicom(path):
            return "dicom"
    return "nifti"


_NEVER_DICOM = (".nii", ".nii.gz", ".json", ".tsv", ".csv")


def _mark_twins(scans: list[FoundScan]) -> list[FoundScan]:
    """Mark all but the first of scans that would share a session; put them in a fixed order."""
    ordered = sorted(
        scans,
        key=lambda s: (s.subject_label, str(s.scan_date), s.session_label, squeeze(s.image_id), s.identity),
    )
    seen: set[tuple[str, str]] = set()
    marked = []
    for scan in ordered:
        key = (scan.subject_label, str(scan.scan_date or scan.session_label))
        marked.append(replace(scan, twin=key in seen))
        seen.add(key)
    return marked


_FINDERS: dict[str, Callable[[Path, Counter[str], Sequence[str]], list[FoundScan]]] = {
    "dicom": find_dicom,
    "adni": find_adni,
    "bids": find_bids,
    "nifti": find_nifti,
}
