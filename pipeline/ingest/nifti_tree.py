"""PET images of a folder of NIfTI files, and whose each one is by the names of its file and folders."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.errors import RefusedScan
from pipeline.ingest.adni import read_tables
from pipeline.ingest.ecat import is_ecat
from pipeline.ingest.folders import files_below
from pipeline.ingest.found import FoundScan
from pipeline.ingest.gaain import is_gaain, of_gaain
from pipeline.ingest.image_names import (
    COUNTED,
    is_in_mr_folder,
    is_no_pet,
    own_words,
    subject_of,
    tracer_above,
    words_of,
)
from pipeline.ingest.kinds import NOT_DICOM, is_nifti, kind_of_other, without_other_forms
from pipeline.ingest.labels import with_tables
from pipeline.ingest.people import BLANK_DAYS, spelled
from pipeline.ingest.reconstructions import choose
from pipeline.ingest.sidecar import read_sidecar, sidecars_beside
from pipeline.ingest.split_frames import frames_in_files, refused_frames
from pipeline.ingest.times import parse_date
from pipeline.ingest.vocabulary import names_early_frames

_MOST_SCANS = 12
"""More under one name are people named like visits: M01, M02, ..."""

_NAMELESS = (
    "Neither the name of the file nor that of a folder names the subject",
    "Name the files by subject, put them in one folder a subject, or use BIDS (sub-01/pet/sub-01_pet.nii.gz)",
)
_BY_NUMBER = (
    "the number in the file's name is taken as the subject, not its folder; if the folder is the person, "
    "call it sub-NAME"
)
"""What Smith/pet_1 and Smith/pet_2 are: visits of one person, or subjects 1 and 2 of a group."""


def find_nifti(source: Path, ignored: Counter[str], prefer: Sequence[str] = ()) -> list[FoundScan]:
    """Find the NIfTI images below a folder that are PET by name; others are counted."""
    scans: list[FoundScan] = []
    above: list[tuple[str, ...] | None] = []
    paths = without_other_forms(files_below(source, ignored), ignored)
    visits = any("t0" in words_of(path.name) for path in paths)
    split = frames_in_files(paths)
    for path in paths:
        other = _other_than_pet(path, source, visits=visits)
        if other is not None:
            ignored[other] += 1
            continue
        stem, frames = split.get(path, (_stem_of(path), (path,)))
        if path != frames[0]:
            continue
        scan, folders = _scan_of(path, source, stem)
        scans.append(replace(scan, files=frames, refused=refused_frames(len(frames))) if frames[1:] else scan)
        above.append(folders)
    kept = _one_per_acquisition(scans, ignored, prefer)
    above = [folders for scan, folders in zip(scans, above, strict=True) if scan.files in kept]
    scans = _spelled_alike([kept[scan.files] for scan in scans if scan.files in kept])
    found = with_tables(_warned(_doubtful(scans, above)), read_tables(source, ignored))
    return of_gaain(found, source) if is_gaain(source) else found


def _scan_of(path: Path, source: Path, stem: str) -> tuple[FoundScan, tuple[str, ...] | None]:
    """Return an image with what its names state, and the names of the folders above its subject's."""
    stated = _stated_by(sidecars_beside(path))
    subject, folders = subject_of(path.relative_to(source).parts[:-1], stem)
    # A report is of one file: there, the folders above are read too. An ingest refuses the scan.
    label = subject or subject_of(path.absolute().parts[1:-1], stem)[0] or stem
    own = own_words(stem, of_file=True).lower()
    # S001/S001_0001 and S001_0002 may be one person's, or people of a group S001.
    counted = COUNTED.fullmatch(own) or re.sub(r"_\d+$", "", own) in map(str.lower, folders or ())
    found = FoundScan(
        files=(path,),
        format="nifti",
        subject_label=label,
        scan_date=_day_of(path, stated),
        sex=stated["PatientSex"] if stated.get("PatientSex") in ("M", "F") else None,
        session_label=next((p[4:] for p in path.parts if p.startswith("ses-")), ""),
        image_id=path.relative_to(source).as_posix(),
        sidecars=sidecars_beside(path),
        description=" ".join(filter(None, (stem, tracer_above(path.relative_to(source), stem)))),
        notes=(_BY_NUMBER,) if subject == stem and counted and folders else (),
        doubt=None if subject else _NAMELESS,
    )
    return found, folders


def _stated_by(sidecars: Sequence[Path]) -> dict[str, Any]:
    """Return what sidecars state; one that cannot be read states nothing here, and refuses its scan later."""
    stated: dict[str, Any] = {}
    for path in sidecars:
        with suppress(RefusedScan):
            stated |= read_sidecar(path)
    return stated


def _day_of(path: Path, stated: Mapping[str, Any]) -> date | None:
    """Return the day of a scan by its path, its sidecar, or the time that dcm2niix writes into a name."""
    written = [
        *re.findall(r"\d{4}-\d{2}-\d{2}", path.as_posix()),
        *(stated.get(key) for key in ("AcquisitionDateTime", "AcquisitionDate", "SeriesDate", "StudyDate")),
        *re.findall(r"(?<!\d)((?:19|20)\d{6})(?:[T_-]?\d{6})?(?!\d)", _stem_of(path)),
    ]
    days = (day for text in written if isinstance(text, str) and (day := parse_date(text)))
    return next((day for day in days if str(day) not in BLANK_DAYS), None)


def _other_than_pet(path: Path, source: Path, *, visits: bool) -> str | None:
    """Return what a file that is no PET image by its name is counted as, or None."""
    if not (is_nifti(path) or is_ecat(path)):
        other = kind_of_other(path)
        return "files that are not NIfTI" if other == NOT_DICOM else other
    stem = _stem_of(path)
    if names_early_frames(stem):
        return "early-frame series"
    if is_no_pet(stem, visits=visits) or is_in_mr_folder(path, source):
        return "images that are not PET by name"
    return None


def _stem_of(path: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$|\.v$|\.ecat$", "", path.name, flags=re.IGNORECASE)


def _one_per_acquisition(
    scans: Sequence[FoundScan], ignored: Counter[str], prefer: Sequence[str]
) -> dict[tuple[Path, ...], FoundScan]:
    """Return by file one image of those of a folder whose names differ in words for reconstructions alone."""
    groups: dict[tuple[Path, tuple[str, ...]], list[FoundScan]] = defaultdict(list)
    for scan in scans:
        words = re.split(r"[\W_]+", re.sub(r"\.nii(\.gz)?$", "", scan.files[0].name.lower()))
        bare = tuple(word for word in words if not _RECONSTRUCTION.fullmatch(word))
        # A name that is nothing else may be of a person in a folder of many.
        key = (scan.files[0].parent, bare if bare else tuple(words))
        groups[key].append(scan)
    chosen = (choose(group, ignored, prefer) for group in groups.values())
    return {scan.files: scan for scan in chosen}


_RECONSTRUCTION = re.compile(
    r"osem\d*(?:3d)?|fbp|fore|tof|psf|tofpsf|truex|ultrahd|opo?sem|mlem|ramla|bpl|qclear|vpfxs?|vphds?|n?ac|noac|"
    r"dyn|dynamic|static|stat|summed|sum|avg|averaged?|mean|rec(?:on)?\d*|\d+(?:mm|fwhm)|fwhm|\d+it?\d+s?|it\d+|"
    r"iter\d*|(?:un)?filtered|gauss\w*"
)
"""What names say of a reconstruction; those of no number of a person or visit."""


def _spelled_alike(scans: Sequence[FoundScan]) -> list[FoundScan]:
    """Call a subject by one label where names differ in case and blanks alone, as in DICOM."""
    labels: dict[str, str] = {}
    for label in sorted(scan.subject_label for scan in scans):
        labels.setdefault(spelled(label), label)
    return [replace(scan, subject_label=labels[spelled(scan.subject_label)]) for scan in scans]


def _warned(scans: Sequence[FoundScan]) -> list[FoundScan]:
    """Add a note where names differ in words for images, days and visits alone.

    Where each of these files lies in a folder of that name, as B01/tau/B01_tau_V2.nii, they are one person's.
    """
    own = [spelled(own_words(scan.subject_label, of_file=True)) for scan in scans]
    labels: dict[str, set[str]] = defaultdict(set)
    folders: dict[str, set[str]] = defaultdict(set)
    for name, scan in zip(own, scans, strict=True):
        labels[name].add(scan.subject_label)
        folders[name].add(_folder_named(name, scan))
    found = []
    for name, scan in zip(own, scans, strict=True):
        if not name or len(labels[name]) == 1:
            found.append(scan)
        elif len(folders[name]) == 1 and "" not in folders[name]:
            found.append(replace(scan, subject_label=next(iter(folders[name]))))
        else:
            found.append(replace(scan, notes=(*scan.notes, _MAY_BE_ONE)))
    return found


def _folder_named(name: str, scan: FoundScan) -> str:
    """Return the folder of a scan that has a name, in its spelling; nothing where there is none."""
    above = scan.image_id.split("/")[:-1]
    return next((part for part in above if spelled(own_words(part, of_file=False)) == name), "")


_MAY_BE_ONE = (
    "its name differs from another one's in words for images, days or visits alone: they are two subjects "
    "here; if they are one person's, put them into a folder sub-NAME"
)


def _doubtful(scans: Sequence[FoundScan], above: Sequence[tuple[str, ...] | None]) -> list[FoundScan]:
    """Mark the scans of one label that may be of different people, by all the folders they lie in."""
    names: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    count: Counter[str] = Counter()
    for scan, folders in zip(scans, above, strict=True):
        if folders is not None:
            names[spelled(scan.subject_label)].add(tuple(map(spelled, folders)))
            count[spelled(scan.subject_label)] += 1
    return [
        replace(scan, doubt=_SEVERAL)
        if not scan.doubt and (len(names[label] - {()}) > 1 or count[label] > _MOST_SCANS)
        else scan
        for scan, label in ((scan, spelled(scan.subject_label)) for scan in scans)
    ]


_SEVERAL = (
    "The same subject's name comes from several folders, which may be of different people",
    "Put the subject into the file's name, each person's alone, or use BIDS (sub-01/pet/sub-01_pet.nii.gz)",
)
