"""Reports for scans of the cohort that have none yet, by the champion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.ingestion.ingest_tables import COHORT_TABLE
from flows.reports.scan_reports import ReportWriter
from flows.reports.study_reports import report_cohort_scan
from flows.running.console import progress, say
from flows.running.steps import as_flow
from pipeline import tracking
from pipeline.config import Study
from pipeline.scan import Cohort, Scan

REPORTS = "new-scan-reports"
"""The name of the Prefect flow."""

_CHAMPION = f"@{tracking.CHAMPION}"


@dataclass(frozen=True)
class NewReports:
    """The scans that were reported, and those that were not, with the class of the error."""

    written: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


def report_new_scans(study: Study) -> NewReports:
    """Write a report of every scan of the cohort table that has none below ``<output>/reports/``.

    An existing report is not written again, also where the champion has changed since. A scan that cannot
    be reported never stops the others, and is tried again the next time.

    Raises
    ------
    CohortError
        If there is no cohort table.
    """
    return as_flow(REPORTS, lambda: _report_new_scans(study))


def _report_new_scans(study: Study) -> NewReports:
    cohort = Cohort.read_tsv(study.cohort.path / COHORT_TABLE, study.cohort.classes)
    new = [scan for scan in cohort.scans if not _is_reported(_folder(study, scan))]
    store = tracking.store_of(study.tracking, study.output)
    if not new or tracking.champion_version(store) is None:
        say("Every scan has a report." if not new else "No report is written: there is no champion yet.")
        return NewReports()
    writer = ReportWriter.of(store, _CHAMPION)
    written, failed = [], []
    with progress("reports") as tick:
        for done, scan in enumerate(new, start=1):
            try:
                report_cohort_scan(writer, cohort, scan, _folder(study, scan))
                written.append(scan.scan_id)
            except Exception as error:  # noqa: BLE001 - one bad scan never stops the others
                failed.append((scan.scan_id, type(error).__name__))
                say(f"{scan.scan_id} has no report: {error}")
            tick(done, len(new), scan.scan_id)
    say(f"{len(written)} new reports below {study.output / 'reports'}, {len(failed)} failed.")
    return NewReports(tuple(written), tuple(failed))


def _folder(study: Study, scan: Scan) -> Path:
    return study.output / "reports" / scan.scan_id


def _is_reported(folder: Path) -> bool:
    # Written last: a report that was interrupted is written again.
    return (folder / "report.json").is_file()
