"""PET images of a BIDS dataset, with the sidecars that apply to each and the columns of participants.tsv."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pandas as pd

from pipeline.ingest.adni import diagnosis_of
from pipeline.ingest.found import FoundScan
from pipeline.ingest.times import parse_date

_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9]+)")


def is_bids(source: Path) -> bool:
    """Return whether a folder is a BIDS dataset, or holds subjects as one does."""
    return (source / "dataset_description.json").is_file() or next(
        source.glob("sub-*/**/pet/*_pet.*"), None
    ) is not None


def find_bids(source: Path, ignored: Counter[str]) -> list[FoundScan]:
    """Find the PET images of a BIDS dataset; other images are counted. Derivatives are left alone."""
    people = _participants(source / "participants.tsv")
    scans = []
    for path in sorted(source.glob("sub-*/**/*.nii*")):
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

    A sidecar applies where each of its entities stands in the image's name with the same value.
    """
    own = dict(_ENTITY.findall(image.name))
    found: list[Path] = []
    places = [root, *(root / p for p in reversed(image.parent.relative_to(root).parents)), image.parent]
    for place in dict.fromkeys(places):
        candidates = [p for p in place.glob("*pet.json") if p.stem.split("_")[-1] == "pet"]
        applying = [p for p in candidates if set(_ENTITY.findall(p.name)) <= set(own.items())]
        found += sorted(applying, key=lambda p: len(_ENTITY.findall(p.name)))
    return tuple(found)


def _participants(path: Path) -> dict[str, Mapping[str, str]]:
    rows = _table(path)
    return {row.get("participant_id", "").removeprefix("sub-"): row for row in rows}


def _table(path: Path) -> list[dict[str, str]]:
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return []
    table.columns = [
        str(c).strip() if re.fullmatch("AgePET.*", str(c)) else str(c).strip().lower() for c in table.columns
    ]
    rows: list[dict[str, str]] = table.replace("n/a", "").to_dict("records")
    return rows


def _date_of(image: Path) -> date | None:
    """Return the day of ``acq_time`` in the session's scans table; a shifted date counts as well."""
    for table in image.parent.parent.glob("*_scans.tsv"):
        for row in _table(table):
            if row.get("filename", "").endswith(image.name):
                return parse_date(row.get("acq_time"))
    return None


def _age_of(row: Mapping[str, str], session: str) -> float | None:
    wave = re.fullmatch(r"wave(\d)", session)
    text = (row.get(f"AgePETTau_W{wave[1]}") if wave else None) or row.get("age", "")
    try:
        age = float(text)
    except ValueError:
        return None
    return min(age, 89.0) if 0 < age < 130 else None
