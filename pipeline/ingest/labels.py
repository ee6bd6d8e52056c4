"""Join found scans with what the tables state about their subject and day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.ingest.adni import Tables
from pipeline.ingest.found import FoundScan


def with_tables(scans: Sequence[FoundScan], tables: Tables) -> list[FoundScan]:
    """Return the scans with diagnosis, age, sex and, for phantoms, the truth.

    A phantom's own table names the class where its classes are not those that ADNI's codes have; the
    distance to the visit still comes from the diagnosis table.
    """
    return [_with_tables(scan, tables) for scan in scans]


def _with_tables(scan: FoundScan, tables: Tables) -> FoundScan:
    person = tables.person(scan.subject_label)
    truth = tables.truth.get(scan.image_id)
    visit = person.nearest(scan.scan_date) if scan.scan_date else None
    days = (visit.day - scan.scan_date).days if visit and scan.scan_date else scan.days_to_diagnosis
    diagnosis = visit.diagnosis if visit else scan.diagnosis
    if truth and truth.diagnosis and truth.diagnosis not in ("CN", "MCI", "AD"):
        diagnosis = truth.diagnosis
    return replace(
        scan,
        diagnosis=diagnosis,
        days_to_diagnosis=days,
        age=(person.age_on(scan.scan_date) if scan.scan_date else None) or scan.age,
        sex=person.sex or scan.sex,
        visit=visit.viscode if visit else scan.visit,
        posterior=truth.posterior if truth else scan.posterior,
        spoiled=truth.spoiled if truth else scan.spoiled,
    )
