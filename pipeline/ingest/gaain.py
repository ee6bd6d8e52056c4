"""GAAIN's CenTauR calibration sets: people with AD dementia and without, PET and T1, many of them twice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.ingest.found import FoundScan

_MARK = re.compile("centaur.*calibration", re.IGNORECASE)
_TIME = re.compile(r"(?<![a-z])(?:time|timepoint|tp|visit|t)[\W_]?0?([12])(?!\d)", re.IGNORECASE)
_GROUP = re.compile(r"(?<![a-z])(AD|CU|CN|HC|control)s?(?![a-z])", re.IGNORECASE)
_WORDS = re.compile(
    r"(?<![a-z])(?:time|timepoint|tp|visit|t)[\W_]?0?[12](?!\d)|(?<![a-z])(?:pet|ftp|flortaucipir|av1451|tau|suvr?|"
    r"deface[d]?|refaced?|mri|18f|image|scan)(?![a-z])|\.nii(?:\.gz)?$",
    re.IGNORECASE,
)
_MEANINGS = {"ad": ("AD", "AD dementia"), "cu": ("CN", "CU"), "cn": ("CN", "CN"), "hc": ("CN", "HC"),
             "control": ("CN", "Control")}  # fmt: skip


def is_gaain(source: Path) -> bool:
    """Return whether a folder is, or holds, an unpacked calibration set of the CenTauR project."""
    inside = (path.name for depth in ("*", "*/*") for path in source.glob(depth))
    return bool(_MARK.search(source.absolute().name)) or any(map(_MARK.search, inside))


def of_gaain(scans: Sequence[FoundScan], source: Path) -> list[FoundScan]:
    """Name subject, session and group of each scan by its path below the set.

    Both scans of a person are one subject: in two parts of a split they would leak.
    """
    return [_named(scan, scan.files[0].relative_to(source)) for scan in scans]


def _named(scan: FoundScan, path: Path) -> FoundScan:
    text = path.as_posix()
    times = {match[1] for match in _TIME.finditer(text)}
    groups = {match[1].lower() for match in _GROUP.finditer(re.sub(r"(?<=[A-Za-z])(?=\d)", "_", text))}
    meanings = {_MEANINGS[group] for group in groups}
    own = _own(path.name) or next(filter(None, map(_own, reversed(path.parts[:-1]))), "")
    if not own:
        return scan
    meaning, stated = meanings.pop() if len({m for m, _ in meanings}) == 1 else (scan.diagnosis, scan.stated)
    return replace(
        scan,
        subject_label=own,
        session_label=_session(times),
        diagnosis=scan.diagnosis or meaning,
        stated=scan.stated or stated,
        doubt=None,
        notes=(),
    )


def _session(times: set[str]) -> str:
    return f"visit{next(iter(times))}" if len(times) == 1 else ""


def _own(name: str) -> str:
    """Return what is left of a name without words for the image and the time."""
    bare = "_".join(re.findall(r"[A-Za-z0-9]+", _WORDS.sub(" ", name.replace("_", " "))))
    return bare if re.search(r"\d", bare) and not re.fullmatch(r"(?i)centaur.*|.*calibration.*", bare) else ""
