"""What an ingest left on disk: the scans of the cohort, a table, every file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from flows.ingestion.ingest_tables import COHORT_TABLE
from pipeline.scan import Cohort

CLASSES = ("CN", "MCI", "AD")


def cohort(bids: Path) -> set[str]:
    return set(Cohort.read_tsv(bids / COHORT_TABLE, CLASSES).scan_ids)


def table(bids: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(bids / name, sep="\t", dtype=str)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
