"""Reports for scans of the cohort that have none yet, by the champion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from flows.learning.cohorts import whole_cohort
from flows.reports.report_lists import list_reports
from flows.reports.scan_reports import ReportWriter
from flows.reports.study_reports import report_cohort_scan
from flows.running.console import say
from flows.running.doors import name_run, opened, report_crash
from flows.running.notify import send_notice
from flows.running.task_runs import (
    answers_in_mlflow,
    log_shared,
    shared_progress,
    show_rows,
    show_text,
    step,
)
from pipeline import tracking
from pipeline.config import Study
from pipeline.scan import Cohort, Scan

_CHAMPION = f"@{tracking.CHAMPION}"


@dataclass(frozen=True)
class NewReports:
    """The scans that were reported, and those that were not, with the class of the error."""

    written: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


@flow(name="reports", flow_run_name=name_run, validate_parameters=False, on_crashed=[report_crash])
def report(study: str) -> NewReports:
    """Write the report of every scan of a study's cohort that has none.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """
    with opened(study) as resolved:
        reports = report_new_scans(resolved)
        if reports.failed:
            facts = {"flow": "reports", "kind": "scans without a report", "scans": len(reports.failed)}
            send_notice(resolved, "failure", facts)
        return reports


def report_new_scans(study: Study) -> NewReports:
    """Write a report of every scan of the cohort table that has none below ``<output>/reports/``.

    An existing report is not written again, also where the champion has changed since. A scan that cannot
    be reported never stops the others, and is tried again the next time.

    Raises
    ------
    CohortError
        If there is no cohort table.
    """
    store = tracking.store_of(study.tracking, study.output)
    reports = _report_with_champion(study, store)
    if (study.output / "reports").is_dir():
        list_reports(study)
    if study.tracking.keep_reports_days is not None:
        _forget_old_answers(store, study.tracking.keep_reports_days)
    return reports


def _report_with_champion(study: Study, store: tracking.Store) -> NewReports:
    cohort = whole_cohort(study)
    new = [scan for scan in cohort.scans if not _is_reported(_folder(study, scan))]
    if not new or tracking.champion_version(store) is None:
        say("Every scan has a report." if not new else "No report is written: there is no champion yet.")
        return NewReports()
    writer = ReportWriter.of(store, _CHAMPION, study)
    reports = _write_reports(study, writer, cohort, new)
    say(f"{len(reports.written)} new reports below {study.output / 'reports'}, {len(reports.failed)} failed.")
    log_shared(f"{len(reports.written)} reports written by version {writer.version}.")
    outcomes = [*((scan, "written") for scan in reports.written), *reports.failed]
    show_rows("reports", [{"scan": s, "outcome": o} for s, o in outcomes], "Reports of new scans")
    show_text("where", answers_in_mlflow(store), "Where the reports are")
    return reports


def _forget_old_answers(store: tracking.Store, days: int) -> None:
    deleted = tracking.forget_answers(store, days)
    if deleted:
        sentence = f"{deleted} recorded reports and predictions of more than {days} days ago were deleted."
        say(sentence)
        log_shared(sentence)


@step("write reports")
def _write_reports(study: Study, writer: ReportWriter, cohort: Cohort, new: Sequence[Scan]) -> NewReports:
    written, failed = [], []
    with shared_progress("reports") as tick:
        for done, scan in enumerate(new, start=1):
            try:
                report_cohort_scan(writer, cohort, scan, _folder(study, scan))
                written.append(scan.scan_id)
            except Exception as error:  # noqa: BLE001 - one bad scan never stops the others
                failed.append((scan.scan_id, type(error).__name__))
                say(f"{scan.scan_id} has no report: {error}")
            tick(done, len(new), scan.scan_id)
    return NewReports(tuple(written), tuple(failed))


def _folder(study: Study, scan: Scan) -> Path:
    return study.output / "reports" / scan.scan_id


def _is_reported(folder: Path) -> bool:
    # Written last: a report that was interrupted is written again.
    return (folder / "report.json").is_file()
