"""Whether the scans that came since the champion was made differ from those its networks never saw."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from prefect import flow

from flows.learning.cohorts import region_table, whole_cohort
from flows.retraining.champion import Champion
from flows.running.console import say
from flows.running.doors import name_run, opened, report_crash
from flows.running.notify import send_notice
from flows.running.task_runs import log_shared, step
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import CohortError
from pipeline.evaluation.monitoring.advice import standing_answer
from pipeline.evaluation.monitoring.agreement import OverrideTest, check_overrides
from pipeline.evaluation.monitoring.answered import Reference
from pipeline.evaluation.monitoring.challenger import scans_of_others
from pipeline.evaluation.monitoring.latest_scans import performance_sentences
from pipeline.evaluation.monitoring.period import PeriodScans
from pipeline.evaluation.monitoring.shift import Answer
from pipeline.evaluation.monitoring.shift import check_shift as compare_periods
from pipeline.files import fingerprint, read_json, write_json
from pipeline.learning.predictions import Predictions
from pipeline.scan import Cohort


@dataclass(frozen=True)
class ShiftResult:
    """The result of a shift check.

    Parameters
    ----------
    champion : int or None
        The version whose calibration scans they were compared with, its test scans if it is cross-fitted.
    scans : int
        Number of new scans.
    answer : {"nothing", "recalibrate", "retrain"}
        The strongest since this champion was made, of this check or an earlier one.
    reasons : tuple of str
        Of this check; where an earlier one has the stronger answer, its reasons too.
    performance : tuple of str
        What to expect of the champion on its latest scans before their diagnoses are known, and whether the
        diagnoses that came agree.
    tested : bool
        Whether this check tested anything: not where no scan is new, or too few are.
    """

    champion: int | None
    scans: int
    answer: Answer
    reasons: tuple[str, ...]
    performance: tuple[str, ...] = ()
    tested: bool = False


@flow(name="shift", flow_run_name=name_run, validate_parameters=False, on_crashed=[report_crash])
def shift(study: str) -> ShiftResult:
    """Check whether the newest scans look like those the champion was trained on.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """
    with opened(study) as resolved:
        return check_shift(resolved)


@step("compare new scans with the champion's")
def check_shift(study: Study) -> ShiftResult:
    """Compare the scans that no earlier check has seen with the champion's calibration scans.

    Raises
    ------
    CohortError
        If there is no cohort, or it has no table of regional SUVR.
    """
    champion = Champion.of(study, tracking.store_of(study.tracking, study.output))
    if champion is None:
        return ShiftResult(None, 0, "nothing", ("There is no champion yet.",))
    cohort = whole_cohort(study)
    checked = compare_new_scans(study, champion, cohort)
    checked = replace(checked, performance=expect_performance(study, champion, cohort))
    for reason in (*checked.reasons, *checked.performance):
        say(reason)
        log_shared(reason)
    if checked.answer != "nothing":
        send_notice(study, "shift", asdict(checked))
    return checked


def compare_new_scans(study: Study, champion: Champion, cohort: Cohort) -> ShiftResult:
    """Test the period of new scans, and store which scans it had.

    A period is tested once: the chance of a false alarm would grow with every test of the same scans. Its
    answer holds until there is another champion.
    """
    folder = study.output / "shift" / f"version-{champion.version}"
    mine = folder / f"{fingerprint(cohort.scan_ids, study.retrain.shift_level)}.json"
    if not mine.is_file():
        seen = {i for path in folder.glob("*.json") for i in read_json(path)["scan_ids"]}
        new = tuple(i for i in cohort.scan_ids if i not in champion.scan_ids and i not in seen)
        write_json(mine, _test_period(study, champion, cohort, new))
    found = read_json(mine)
    others = sorted((p for p in folder.glob("*.json") if p != mine), key=lambda path: path.stat().st_mtime)
    risen = [t for t in _check_readers(study, champion.version) if t.answer != "nothing"]
    answer, reasons = standing_answer(found, [read_json(path) for path in others])
    if risen:
        answer, reasons = "retrain", (*reasons, risen[-1].sentence)
    tested = bool(found["tests"])
    return ShiftResult(champion.version, found["scans"], cast(Answer, answer), reasons, tested=tested)


def _check_readers(study: Study, version: int) -> list[OverrideTest]:
    """Test whether readers change more answers than before; return the tests while this is the champion.

    As with scans, a read is tested once, and an answer holds until there is another champion.
    """
    reads = tracking.audited_reads(tracking.audit_of(study.output))
    place, name = study.output / "shift", "readers"
    tested_to = max((int(path.stem) for path in place.glob(f"*/{name}/*.json")), default=0)
    found = check_overrides(reads, tested_to, study.retrain.shift_level)
    folder = place / f"version-{version}" / name
    if found is not None:
        write_json(folder / f"{found.to}.json", asdict(found))
    files = sorted(folder.glob("*.json"), key=lambda path: int(path.stem))
    return [OverrideTest(**read_json(path)) for path in files]


def _test_period(study: Study, champion: Champion, cohort: Cohort, new: tuple[str, ...]) -> dict[str, Any]:
    if not new:
        return {"scan_ids": [], "scans": 0, "answer": "nothing", "reasons": ["No scan is new."], "tests": []}
    reference = reference_of(study, champion, cohort)
    current, _ = _period(study, champion, cohort, new)
    level, seed = study.retrain.shift_level, study.seed
    shift = compare_periods(reference.period, reference.labels, current, level=level, seed=seed)
    # Too few to test: they stay new, and are tested with those that follow.
    tested = new if shift.tests else ()
    return {"scan_ids": tested, "scans": len(new), **shift.to_dict()}


def reference_of(study: Study, champion: Champion, cohort: Cohort) -> Reference:
    """Return the scans that later ones are compared with, and their classes.

    Raises
    ------
    CohortError
        If the cohort has no table of regional SUVR.
    """
    period, predictions = _period(study, champion, cohort, _reference_ids(champion, cohort))
    return Reference(period, predictions.labels)


def _reference_ids(champion: Champion, cohort: Cohort) -> tuple[str, ...]:
    # A scan whose diagnosis has been withdrawn since is no reference.
    labelled = set(cohort.labelled().scan_ids)
    split = champion.split
    # Cross-fitted networks have learned from every scan outside the test part, together.
    unseen = split.calibration if split.validation else split.calibration + split.test
    return tuple(i for i in unseen if i in labelled)


def expect_performance(study: Study, champion: Champion, cohort: Cohort) -> tuple[str, ...]:
    """Return what to expect of the champion on later scans, of subjects from whom it has not learned."""
    others = scans_of_others(cohort, [champion.split])
    ids = tuple(i for i in others if i not in champion.scan_ids)
    if not ids:
        return ()
    period, predictions = _period(study, champion, cohort, ids)
    reference = reference_of(study, champion, cohort).period
    return performance_sentences(champion.classifier, period, predictions, reference, seed=study.seed)


def _period(
    study: Study, champion: Champion, cohort: Cohort, scan_ids: tuple[str, ...]
) -> tuple[PeriodScans, Predictions]:
    regions = region_table(study)
    if regions is None:
        raise CohortError(
            "The cohort has no table of regional SUVR, which the shift check needs",
            where=study.name,
            hint="run `taucal ingest` again, which writes the table",
        )
    scans = sorted(cohort.subset(scan_ids).scans, key=lambda s: (s.session, s.subject))
    in_order = replace(cohort, scans=tuple(scans))
    predictions = champion.predictions(in_order)
    return PeriodScans.of(in_order, predictions, champion.classifier, regions), predictions
