"""Once a week, from recorded answers: what to expect of the champion, and whether its scans have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect import flow

from flows.learning.cohorts import whole_cohort
from flows.retraining.champion import Champion
from flows.retraining.shift_check import reference_of
from flows.running.console import say
from flows.running.doors import name_run, opened, report_crash
from flows.running.notify import send_notice
from flows.running.task_runs import answers_in_mlflow, log_shared, show_rows, show_text, step
from pipeline import tracking
from pipeline.config import Study
from pipeline.evaluation.monitoring.agreement import overrides_since
from pipeline.evaluation.monitoring.answered import RecordedAnswer, comparable, performance_of, shift_of
from pipeline.evaluation.monitoring.shift import Shift
from pipeline.files import read_json, write_json
from pipeline.reporting.week.week_page import (
    WeekReads,
    WeekReport,
    count_answers,
    tests_of,
    write_week_page,
)

_DAYS = 7
_TESTED = "tested.json"
_NOTHING = (
    "No recorded answer can be compared: refused scans are left out, and those of people from whose scans "
    "the champion learned or on which it was tested."
)


@dataclass(frozen=True)
class WeekResult:
    """The facts of a weekly check, and the page that shows them."""

    report: WeekReport
    page: Path


@flow(name="week", flow_run_name=name_run, validate_parameters=False, on_crashed=[report_crash])
def week(study: str) -> WeekResult:
    """Check the answers of the last seven days.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """
    with opened(study) as resolved:
        return check_week(resolved)


def check_week(study: Study, now: datetime | None = None) -> WeekResult:
    """Check the recorded answers of the last seven days; write ``<output>/week/<day>/week.html``.

    Raises
    ------
    CohortError
        If there is a champion but no cohort with the scans that it is compared with.
    """
    moment = now or datetime.now(UTC)
    folder = study.output / "week" / f"{moment:%Y-%m-%d}"
    report, tested = _check(study, moment, folder)
    pages = write_week_page(report, folder)
    write_json(folder / _TESTED, {"version": report.champion, "scans": tested})
    _show(study, report)
    facts = {
        "scans": report.scans,
        "version": report.champion,
        "advice": report.answer,
        "reasons": report.reasons,
        "performance": report.performance,
    }
    send_notice(study, "week", facts)
    say(f"Page of the week: {pages['html']}")
    return WeekResult(report, pages["html"])


@step("check the answers of the week")
def _check(study: Study, moment: datetime, folder: Path) -> tuple[WeekReport, tuple[str, ...]]:
    """Return the facts of the page, and the scans that were tested for shift."""
    store, since = tracking.store_of(study.tracking, study.output), moment - timedelta(days=_DAYS)
    entries = tracking.answered_scans(store, since=since)
    champion = Champion.of(study, store)
    performance: tuple[str, ...] = ()
    new: Sequence[RecordedAnswer] = ()
    shift = Shift("nothing", ("There is no champion yet.",), ())
    synthetic = champion is not None and champion.classifier.card.synthetic
    if champion is not None:
        by_champion = tracking.answered_scans(store, version=str(champion.version))
        known = comparable(by_champion, champion.split)
        tested = _tested_before(folder, champion.version)
        new = [entry for entry in known if entry.scan not in tested]
        performance, shift = _compare(study, champion, known, new)
    reads = tracking.audited_reads(tracking.audit_of(study.output))
    report = WeekReport(
        title=study.name,
        report_date=f"{moment:%Y-%m-%d}",
        synthetic=synthetic,
        since=f"{since:%Y-%m-%d}",
        champion=None if champion is None else champion.version,
        performance=performance,
        compared=len(new) if shift.tests else 0,
        answer=shift.answer,
        reasons=shift.reasons,
        tests=tests_of(shift.tests),
        reads=WeekReads.of(*overrides_since(reads, f"{since:%Y-%m-%d}")),
        **count_answers(entries),
    )
    # Too few to test: they stay new, and are tested with those that follow.
    return report, tuple(entry.scan for entry in new) if shift.tests else ()


def _compare(
    study: Study, champion: Champion, known: Sequence[RecordedAnswer], new: Sequence[RecordedAnswer]
) -> tuple[tuple[str, ...], Shift]:
    if not known:
        return (), Shift("nothing", (_NOTHING,), ())
    reference = reference_of(study, champion, whole_cohort(study))
    performance = performance_of(known, reference, champion.classifier, seed=study.seed)
    if not new:
        return performance, Shift("nothing", ("No scan is new since the last check.",), ())
    level, seed = study.retrain.shift_level, study.seed
    return performance, shift_of(new, reference, champion.classifier, level=level, seed=seed)


def _tested_before(folder: Path, version: int) -> set[str]:
    """Return the scans that checks of other days have tested: a second test raises false alarms."""
    found: set[str] = set()
    for path in folder.parent.glob(f"*/{_TESTED}"):
        stored = read_json(path)
        if path.parent != folder and stored["version"] == version:
            found.update(stored["scans"])
    return found


def _show(study: Study, report: WeekReport) -> None:
    for sentence in (*report.reasons, *report.performance, report.reads.sentence):
        say(sentence)
        log_shared(sentence)
    rows = [{"answers": n.label, "scans": n.value} for n in report.decisions]
    show_rows("week", rows, "Answers of the week")
    where = answers_in_mlflow(tracking.store_of(study.tracking, study.output))
    lines = [f"**{report.advice}.** {report.answered}.", *report.reasons]
    text = "\n\n".join([*lines, *report.performance, where])
    show_text("weekly-check", text, "What to expect, and whether the scans have changed")
