"""PET images of a folder of NIfTI files, and whose each one is by the names of its file and folders."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.ingest.adni import PTID, read_tables
from pipeline.ingest.found import FoundScan, files_below
from pipeline.ingest.instances import kind_of_other
from pipeline.ingest.labels import with_tables
from pipeline.ingest.people import spelled
from pipeline.ingest.times import parse_date

_NOT_PET = frozenset(
    {"mask", "seg", "t1w", "t2w", "flair", "bold", "dwi", "mprage", "ct", "mri", "label", "labels"}
)
_IMAGE_WORDS = (
    "pet|tau|suvr?|suvbw|images?|img|scans?|av1451|flortaucipir|ftp|t807|tauvid|18f|f18|fdg|amyloid|av45|"
    "florbetapir|mk6240|pi2620|ro948|tracer|nifti|nii|dicom|dcm|brain|head|anat|static|dynamic|dyn|avg|"
    "averaged?|std|standardi[sz]ed|mean|summed|sum|coreg|coregistered|registered|realigned|aligned|warped|"
    "normali[sz]ed|norm|"
    "smoothed|smooth|resampled|resliced|volumes?|vol|frames?|reconstruction|recon|osem|corrected|final|raw|"
    "original|orig|processed|preprocessed|preproc|proc|converted|output|input|results?|native|space|mni|"
    "series|data|source|bids|derivatives|export|download|subjects?|patients?|participants?|controls?|cases?|"
    "cohort|group|study|site|center|centre|clinic|hospital|batch|filtered|fwhm|pvc|moco|motion|uniform|"
    "resolution|isotropic|reference|ref|"
    "cerebell(?:um|ar)|cereb|inferior|whole|gr[ae]y|matter|pons|icbm|mni152|and|to|"
    "anonymi[sz]ed|anonymous|anon|unknown"
)
_VISIT = (
    "ses|session|visit|baseline|base|bl|screening|screen|scr|init|initial|followup|follow|up|fu|months?|mo|"
    "years?|yrs?|weeks?|wk|days?|night|wave|timepoint|tp|time|exam|run|part|first|second|third|last|old|new"
)
_GENERIC = re.compile(
    rf"[rsw]{{0,3}}(?:{_IMAGE_WORDS})+|br|pt|im|ac|in|out|of|the|mm|bqml|3d|4d|e\d|ph|[0-9]+(?:mm|min)"
)
_SESSION = re.compile(rf"(?:{_VISIT})(?:[a-z]|\d{{1,3}})?|\d{{1,3}}(?:{_VISIT})")
_CODE = re.compile(r"[mvtydw]\d{1,4}|\d{1,3}[mywd]")
"""A visit, or a person: M12, 12m; the names around it decide."""
_COUNTED = re.compile(rf"(?:{_IMAGE_WORDS})*\d{{1,2}}|{_CODE.pattern}")
_MOST_SCANS = 12
"""More under one name are people named like visits: M01, M02, ..."""
_SITE = re.compile(r"(site|center|centre|clinic|hospital|batch|group|cohort|study)[\W_]*\d+", re.IGNORECASE)
_NUMBERED = re.compile(
    rf"\b(sub|subj|subject|patient|person|participant|case|control|id|{_VISIT})[\W_]+(\d+)", re.IGNORECASE
)
_TRACER = re.compile(
    r"(?<![a-z\d])(?:18[\W_]?f|(?:av|t|mk|pi|ro)[\W_]?(?:1451|45|807|6240|2620|948)"
    r"|(?:75|80)(?:[-_]|to)(?:100|105|110|120)[\W_]?(?:min\w*)?)(?![a-z\d])",
    re.IGNORECASE,
)
"""Tracers with their number apart, and the minutes of their frames."""
_DAY = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:[0-2]\d|3[01])(?:[T_-]?\d{6})?"
    r"|\d{1,2}([-.])\d{1,2}\2(?:19|20)\d\d)(?!\d)(?:[\W_]+\d{1,4}[a-z]?$)?"
)
"""A day, with the time and the number of the series that dcm2niix writes behind it."""

_NAMELESS = (
    "Neither the name of the file nor that of a folder names the subject",
    "Name the files by subject, put them in one folder a subject, or use BIDS (sub-01/pet/sub-01_pet.nii.gz)",
)
_BY_NUMBER = (
    "the number in the file's name is taken as the subject, not its folder; if the folder is the person, "
    "call it sub-NAME"
)
"""What Smith/pet_1 and Smith/pet_2 are: visits of one person, or subjects 1 and 2 of a group."""


def is_nifti(path: Path) -> bool:
    """Return whether a file is named as NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def find_nifti(source: Path, ignored: Counter[str]) -> list[FoundScan]:
    """Find the NIfTI images below a folder that are PET by name; others are counted."""
    scans: list[FoundScan] = []
    above: list[str | None] = []
    for path in files_below(source, ignored):
        if not is_nifti(path):
            other = kind_of_other(path)
            ignored[other if other.startswith("compressed") else "files that are not NIfTI"] += 1
            continue
        stem = re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
        words = set(re.split(r"[_\-. ]+", stem.lower()))
        if words & _NOT_PET:
            ignored["images that are not PET by name"] += 1
            continue
        sidecar = path.with_name(stem + ".json")
        days = map(parse_date, re.findall(r"\d{4}-\d{2}-\d{2}", path.as_posix()))
        subject, folder = _subject_of(path.relative_to(source).parts[:-1], stem)
        # A report is of one file: there, the folders above are read too. An ingest refuses the scan.
        label = subject or _subject_of(path.absolute().parts[1:-1], stem)[0] or stem
        above.append(folder)
        counted = subject == stem and _COUNTED.fullmatch(_own_words(stem, of_file=True).lower())
        scans.append(
            FoundScan(
                files=(path,),
                format="nifti",
                subject_label=label,
                scan_date=next(filter(None, days), None),
                session_label=next((p[4:] for p in path.parts if p.startswith("ses-")), ""),
                image_id=path.relative_to(source).as_posix(),
                sidecars=(sidecar,) if sidecar.is_file() else (),
                description=stem,
                notes=(_BY_NUMBER,) if counted and folder else (),
                doubt=None if subject else _NAMELESS,
            )
        )
    return with_tables(_doubtful(scans, above), read_tables(source, ignored))


def _subject_of(folders: Sequence[str], stem: str) -> tuple[str, str | None]:
    """Return the subject's label, empty where nothing names it, and the next folder up with its own name.

    ADNI's PTID and BIDS's ``sub-`` come first, whatever the folders (None); then the file's name, where it
    has more than words for images, days and visits; then the nearest such folder.
    """
    named = next((p for p in folders if PTID.match(p)), None) or next(
        (p[4:] for p in folders if p.startswith("sub-")), None
    )
    within = re.search(r"(?<!\d)\d{3}_S_\d{4,5}(?!\d)|sub-[A-Za-z0-9]+", stem)
    if named or within:
        return named or (within[0].removeprefix("sub-") if within else ""), None
    names = [own for folder in reversed(folders) if (own := _own_words(folder, of_file=False))]
    own = _own_words(stem, of_file=True)
    if own and not (names and _COUNTED.fullmatch(own.lower()) and _has_number(names[0])):
        label = stem
    elif names:
        # S001/1 and S001/scan2 are visits; 1 alone is a subject.
        visit = len(names) > 1 and _COUNTED.fullmatch(names[0].lower()) and _has_number(names[1])
        own = label = names.pop(1 if visit else 0)
        names = names[1:] if visit else names
    else:
        return "", ""
    return label, next((name for name in names if spelled(name) != spelled(own)), "")


def _has_number(name: str) -> bool:
    """Return whether a name has a number that is no year, as codes of subjects have."""
    return re.search(r"\d", re.sub(r"(?:19|20)\d\d", "", name)) is not None


def _own_words(name: str, *, of_file: bool) -> str:
    """Return what is left of a name without words for images, days and visits.

    Examples
    --------
    >>> [_own_words(name, of_file=True) for name in ("PET_2019-05-01", "S001_m12", "pet_001", "Meier")]
    ['', 'S001', '001', 'Meier']
    """
    bare = _NUMBERED.sub(r"\1\2", _TRACER.sub(" pet ", _DAY.sub(" ", name)).replace("_", " "))
    words = [word for word in re.split(r"[\W_]+", _SITE.sub(" ", bare)) if word]
    named = [w for w in words if not _GENERIC.fullmatch(w.lower()) and not _SESSION.fullmatch(w.lower())]
    own = [w for w in named if not _CODE.fullmatch(w.lower())]
    if of_file and not own:
        own = named
    if not of_file or len(words) > 1:
        own = [w for w in own if not re.fullmatch(r"(?:19|20)\d\d", w)]
    is_visit = not of_file and any(_SESSION.fullmatch(w.lower()) for w in words)
    return "" if is_visit and all(re.fullmatch(r"\d+[a-z]?", w) for w in own) else "_".join(own)


def _doubtful(scans: Sequence[FoundScan], above: Sequence[str | None]) -> list[FoundScan]:
    """Mark the scans of one label that may be of different people, by the folders they lie in."""
    names: dict[str, set[str]] = defaultdict(set)
    count: Counter[str] = Counter()
    for scan, folder in zip(scans, above, strict=True):
        if folder is not None:
            names[spelled(scan.subject_label)].add(spelled(folder))
            count[spelled(scan.subject_label)] += 1
    return [
        replace(scan, doubt=_SEVERAL)
        if not scan.doubt and (len(names[label] - {""}) > 1 or count[label] > _MOST_SCANS)
        else scan
        for scan, label in ((scan, spelled(scan.subject_label)) for scan in scans)
    ]


_SEVERAL = (
    "The same subject's name comes from several folders, which may be of different people",
    "Put the subject into the file's name, each person's alone, or use BIDS (sub-01/pet/sub-01_pet.nii.gz)",
)
