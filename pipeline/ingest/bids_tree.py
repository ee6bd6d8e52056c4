"""PET images of a BIDS dataset, with the sidecars that apply to each and the columns of participants.tsv."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from pipeline.ingest.adni_codes import diagnosis_of
from pipeline.ingest.date_columns import with_iso_dates
from pipeline.ingest.found import FoundScan, files_below
from pipeline.ingest.side_files import number_of, read_table
from pipeline.ingest.times import parse_date

_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9]+)")


def is_bids(source: Path) -> bool:
    """Return whether a folder is a BIDS dataset, or holds subjects as one does."""
    return (source / "dataset_description.json").is_file() or next(
        source.glob("sub-*/**/pet/*_pet.*"), None
    ) is not None


def find_bids(source: Path, ignored: Counter[str]) -> list[FoundScan]:
    """Find the PET images of a BIDS dataset; other images are counted. Derivatives are left alone."""
    people = _participants(source / "participants.tsv", ignored)
    scans = []
    for path in sorted(files_below(source, ignored)):
        below = path.relative_to(source).parts
        if not below[0].startswith("sub-") or ".nii" not in path.name:
            continue
        if not re.search(r"_pet\.nii(\.gz)?$", path.name):
            ignored["images that are not PET"] += 1
            continue
        entities = dict(_ENTITY.findall(path.name))
        subject, session = entities.get("sub", ""), entities.get("ses", "")
        row = people.get(subject, {})
        scans.append(
            FoundScan(
                files=(path,),
                format="bids",
                subject_label=subject or path.name,
                scan_date=_date_of(path),
                session_label=session,
                image_id="".join(f"{k}{v}" for k, v in entities.items() if k not in ("sub", "ses", "trc")),
                sidecars=sidecars_of(path, source),
                diagnosis=diagnosis_of(
                    {"DX": row.get("diagnosis") or row.get("group") or row.get("dx") or ""}
                ),
                age=_age_of(row, session),
                sex={"m": "M", "male": "M", "f": "F", "female": "F"}.get(row.get("sex", "").lower()),
                site=row.get("site"),
                description="PET",
            )
        )
    return scans


def sidecars_of(image: Path, root: Path) -> tuple[Path, ...]:
    """Return the JSON files that apply to an image, from the root down: BIDS's inheritance principle.

    A sidecar applies where each of its entities is in the image's name with the same value.
    """
    own = dict(_ENTITY.findall(image.name))
    found: list[Path] = []
    places = [root, *(root / p for p in reversed(image.parent.relative_to(root).parents)), image.parent]
    for place in dict.fromkeys(places):
        candidates = [p for p in place.glob("*pet.json") if p.stem.split("_")[-1] == "pet"]
        applying = [p for p in candidates if set(_ENTITY.findall(p.name)) <= set(own.items())]
        found += sorted(applying, key=lambda p: len(_ENTITY.findall(p.name)))
    return tuple(found)


def _participants(path: Path, ignored: Counter[str]) -> dict[str, dict[str, str]]:
    """Return the row of each subject; what two rows of one state differently is left empty and counted."""
    people: dict[str, dict[str, str]] = {}
    for row in _table(path, "participant_id"):
        known = people.setdefault(row["participant_id"].removeprefix("sub-"), dict(row))
        for column, value in row.items():
            if column != "participant_id" and value != known[column]:
                known[column] = ""
                ignored["cells of participants.tsv that another row contradicts"] += 1
    return people


def _table(path: Path, key: str) -> list[dict[str, str]]:
    """Read a table of the dataset, its columns in lower case but for those of waves; empty if absent."""
    if not path.exists():
        return []
    rows = [
        {c if c.startswith("AgePET") else c.lower(): "" if v == "n/a" else v for c, v in row.items()}
        for row in read_table(path, [[key]])
    ]
    return with_iso_dates(rows, "acq_time", path)[0]


def _date_of(image: Path) -> date | None:
    """Return the day of ``acq_time`` in the session's scans table; a shifted date counts as well."""
    for table in sorted(image.parent.parent.glob("*_scans.tsv")):
        for row in _table(table, "filename"):
            if row["filename"].endswith(image.name):
                return parse_date(row.get("acq_time"))
    return None


def _age_of(row: Mapping[str, str], session: str) -> float | None:
    wave = re.fullmatch(r"wave(\d)", session)
    text = (row.get(f"AgePETTau_W{wave[1]}") if wave else None) or row.get("age", "")
    age = number_of(text.removesuffix("+"))  # 89+ is how BIDS writes all above
    return min(age, 89.0) if age is not None and 0 < age < 130 else None
