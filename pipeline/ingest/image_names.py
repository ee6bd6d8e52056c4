"""What the names of image files and folders state: whether it is PET, the subject, a visit, a tracer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.ingest.adni import PTID
from pipeline.ingest.people import spelled
from pipeline.ingest.vocabulary import tracer_of

_NOT_PET = frozenset(
    re.findall(
        r"\S+",
        """
        mask seg t1w t2w flair bold dwi dti adc swi asl mra mprage ct ctac acct mri mrac umap mumap label
        labels brainmask aseg aparc wmparc ribbon parc parcellation tpm roi rois atlas topogram localizer
        localiser scout
        """,
    )
)
_MAYBE_PET = frozenset({"t1", "t2"})
"""Weightings of MR; or the second and third visit, beside t0 or where the name says PET."""
_PET_WORDS = re.compile(r"pet|suvr?|suvbw|tau|tracer")
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
    "anonymi[sz]ed|anonymous|anon|unknown|"
    "files?|resources?|assessors?|acq|acquisitions?|assembly|sourcedata|rawdata"
)
"""The last line: folders that XNAT, Flywheel, LORIS and BIDS make below each person's."""
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
COUNTED = re.compile(rf"(?:{_IMAGE_WORDS})*\d{{1,2}}|{_CODE.pattern}")
"""A name that is a count: pet_1, M12."""
_COUNTED_IMAGE = re.compile(rf"(?:(?:{_IMAGE_WORDS})_?)+\d{{1,2}}", re.IGNORECASE)
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
_UID = re.compile(r"(?<![\d.])[0-2](?:\.\d+){4,}(?![\d.])")
"""A series of DICOM, after which archives name what they convert."""
_DAY = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:[0-2]\d|3[01])(?:[T_-]?\d{6})?"
    r"|\d{1,2}([-.])\d{1,2}\2(?:19|20)\d\d)(?!\d)(?:[\W_]+\d{1,4}[a-z]?$)?"
)
"""A day, with the time and the number of the series that dcm2niix writes behind it."""


def words_of(name: str) -> set[str]:
    """Return the words of a name, in lower case."""
    return set(re.split(r"[_\-. +()]+", name.lower()))


def is_no_pet(stem: str, *, visits: bool) -> bool:
    """Return whether a file is named as no PET image; with `visits`, t1 and t2 may be visits."""
    words = words_of(stem)
    is_pet = visits or tracer_of(stem) or any(map(_PET_WORDS.fullmatch, words))
    return bool(words & _NOT_PET or (words & _MAYBE_PET and not is_pet))


def is_in_mr_folder(path: Path, source: Path) -> bool:
    """Return whether the folder of an image is named as one of MR alone, and its name not as PET."""
    folders = path.relative_to(source).parts[-2:-1]
    named = any(folder.lower() in ("t1", "t1w", "mri", "mr", "mprage", "anat") for folder in folders)
    return named and not (tracer_of(path.name) or words_of(path.name) & {"pet", "suv", "suvr", "tau", "ftp"})


def tracer_above(path: Path, stem: str) -> str | None:
    """Return the tracer that the nearest folder names alone, where the file names none."""
    if tracer_of(stem):
        return None
    named = ({t for word in words_of(place) if (t := tracer_of(word))} for place in reversed(path.parts[:-1]))
    return next((found.pop() for found in named if len(found) == 1), None)


def subject_of(folders: Sequence[str], stem: str) -> tuple[str, tuple[str, ...] | None]:
    """Return the subject's label, empty where nothing names it, and the other names of the folders above.

    ADNI's PTID and BIDS's ``sub-`` come first, whatever the folders (None); then the file's name, where it
    has more than words for images, days and visits; then the nearest such folder.
    """
    named = next((p for p in folders if PTID.match(p)), None) or next(
        (p[4:] for p in folders if p.startswith("sub-")), None
    )
    within = re.search(r"(?<!\d)\d{3}_S_\d{4,5}(?!\d)|sub-[A-Za-z0-9]+", stem)
    if named or within:
        return named or (within[0].removeprefix("sub-") if within else ""), None
    names = [own for folder in reversed(folders) if (own := own_words(folder, of_file=False))]
    own = own_words(stem, of_file=True)
    if own and not (names and _is_visit(own, names[0])):
        label = stem
    elif names:
        # S001/1 and S001/scan2 are visits; 1 alone is a subject.
        while len(names) > 1 and _is_visit(*names[:2]):
            names.pop(0)
        own = label = names.pop(0)
    else:
        return "", ()
    return label, tuple(name for name in names if spelled(name) != spelled(own))


def _is_visit(name: str, folder: str) -> bool:
    """Return whether a name counts the images of the person after whom the folder above is named.

    As 1, M12 and scan2 in S001 do, or S001_PET1, as XNAT calls sessions.
    """
    own = re.match(rf"{re.escape(folder)}_(?P<rest>.+)", name, re.IGNORECASE)
    counted = COUNTED.fullmatch(name.lower()) or (own and _COUNTED_IMAGE.fullmatch(own["rest"]))
    return bool(counted) and _has_number(folder)


def _has_number(name: str) -> bool:
    """Return whether a name has a number that is no year, as codes of subjects have."""
    return re.search(r"\d", re.sub(r"(?:19|20)\d\d", "", name)) is not None


def own_words(name: str, *, of_file: bool) -> str:
    """Return what is left of a name without words for images, days and visits.

    Examples
    --------
    >>> [own_words(name, of_file=True) for name in ("PET_2019-05-01", "S001_m12", "pet_001", "Meier")]
    ['', 'S001', '001', 'Meier']
    """
    bare = _NUMBERED.sub(r"\1\2", _TRACER.sub(" pet ", _DAY.sub(" ", _UID.sub(" ", name))).replace("_", " "))
    words = [word for word in re.split(r"[\W_]+", _SITE.sub(" ", bare)) if word]
    named = [w for w in words if not _GENERIC.fullmatch(w.lower()) and not _SESSION.fullmatch(w.lower())]
    own = [w for w in named if not _CODE.fullmatch(w.lower())]
    if of_file and not own:
        own = named
    if not of_file or len(words) > 1:
        own = [w for w in own if not re.fullmatch(r"(?:19|20)\d\d", w)]
    is_visit = not of_file and any(_SESSION.fullmatch(w.lower()) for w in words)
    return "" if is_visit and all(re.fullmatch(r"\d+[a-z]?", w) for w in own) else "_".join(own)
