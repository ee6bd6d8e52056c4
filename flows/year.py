"""A simulated year of a clinic: monthly batches of scans, and three policies for the classifier in use.

`gate` retrains as `flows.retrain` does, `never` uses the first classifier throughout, and `always` retrains
every month and uses the result. All three start from the same classifier, and each month's scans are
predicted by the classifiers in use when they arrive, none of which was trained on them.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flows.ingest import ingest_study
from flows.learning.cohorts import labelled_cohort
from flows.phantom import make_batch, make_phantom
from flows.reports.earlier_visits import derivative_of
from flows.retrain import retrain_study
from flows.retraining.promotion import settle
from flows.running.console import say, show_table
from flows.running.runners import beside
from flows.running.steps import run_once
from flows.train import learn_study, train_study
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import BatchSettings, EvaluationSettings, Study, check_purpose
from pipeline.errors import InputError
from pipeline.evaluation.monitoring.prospective import PeriodPredictions, PolicyPredictions
from pipeline.files import fingerprint, read_json, today, write_json
from pipeline.ingest.deidentify import key_beside, make_known_key
from pipeline.learning.learning_checks import check_learning
from pipeline.processes import preload
from pipeline.reporting.year.year_page import YearReport, build_year_report, write_year_report, year_rows

GATE, NEVER, ALWAYS = POLICIES = ("gate", "never", "always")
_OUTCOMES = {
    "promote": "promoted",
    "reject": "rejected",
    "hold": "held",
    "wait": "undecided",
    "nothing": "unchanged",
}
"""Kind of an audit entry -> outcome of a retraining."""
_OLD_OUTCOMES = {"kept": "unchanged"}
"""Word of a retraining, and of a year that an older version simulated -> word of the page."""


def run_year(study: Study) -> dict[str, Any]:
    """Simulate the year of a study, and report how each policy did; killed and run again, it continues.

    Parameters
    ----------
    study : Study
        `phantom.batches` holds what each month brings.

    Raises
    ------
    ConfigError
        If no batch is planned or ingest.source is not set.
    InputError
        If the output folder holds a year of other settings.
    """
    started = time.monotonic()
    preload("flows.ingestion.worker_start", "flows.train")
    check_purpose(study, "year")
    check_learning(study)
    _check_folder(study)
    assert study.ingest.source is not None
    make_known_key(study.ingest.key_file or key_beside(study.cohort.path), study.seed)
    make_phantom(study.phantom, study.ingest.source, study.seed)
    for month in range(len(study.phantom.batches) + 1):
        say(f"Month {month}: {_events(study, month) or 'nothing new'}." if month else "The start.")
        run_once(
            _folder(study, month) / "done.json", _key(study), functools.partial(_run_month, study, month)
        )
    report = _report(study)
    pages = write_year_report(report, study.output / "year")
    _show(report)
    say(f"Year: {pages['html']}")
    return {
        "seconds": time.monotonic() - started,
        "year": report.model_dump(mode="json"),
        "pages": {kind: str(path) for kind, path in pages.items()},
    }


def _key(study: Study) -> str:
    phantom = study.phantom.model_dump(mode="json", exclude={"workers"})
    return fingerprint(
        study.learning_settings(), phantom, study.retrain.model_dump(mode="json", exclude={"who"})
    )


def _check_folder(study: Study) -> None:
    # What a later month has written cannot be removed: another year needs another folder.
    manifest = study.output / "year.json"
    if not manifest.is_file():
        write_json(manifest, {"key": _key(study)})
    if read_json(manifest)["key"] != _key(study):
        raise InputError(
            "The folder holds a simulated year with other settings",
            where=str(study.output),
            hint="choose another folder with --out, or delete this one",
        )


def _folder(study: Study, month: int) -> Path:
    return study.output / "months" / f"{month:02d}"


def _study_of(study: Study, policy: str) -> Study:
    """Return the study of a policy: its own folder, the same scans, which are ingested already."""
    ingested = study.ingest.model_copy(update={"source": None})
    return study.model_copy(update={"output": study.output / policy, "ingest": ingested})


def _store_of(study: Study, policy: str) -> tracking.Store:
    return tracking.store_of(study.tracking, study.output / policy)


def _run_month(study: Study, month: int) -> Iterable[Path]:
    """Simulate a month; return the files that record it.

    Its scans are predicted once, by the classifiers of the month before; `always` trains in another process
    meanwhile.
    """
    assert study.ingest.source is not None
    if month:
        make_batch(study.phantom, study.ingest.source, study.seed, month)
    ingest_study(study)
    predicted, always = _predictions_file(study, month), _study_of(study, ALWAYS)
    with beside(learn_study, always) if month else contextlib.nullcontext():
        if not predicted.is_file():
            write_json(predicted, _predict_new_scans(study, month).to_dict())
        decided = {GATE: _retrain(study, month)}
    if month:
        tracking.promote(_store_of(study, ALWAYS), train_study(always).version)
    return [predicted, write_json(_folder(study, month) / "decided.json", decided)]


def _retrain(study: Study, month: int) -> dict[str, Any]:
    """Retrain behind the gate, unless the audit log shows that this was done for the month."""
    mine, store, who = _study_of(study, GATE), _store_of(study, GATE), f"year, month {month}"
    decisions = [e for e in tracking.audit_of(mine.output).entries() if e.who == who and e.kind in _OUTCOMES]
    done: dict[str, Any]
    if not decisions:
        result = retrain_study(mine, who=who, time=_time_of(month))
        shift = _answer_of(asdict(result.shift) if result.shift else None)
        done = {"action": result.action, "outcome": _in_plain_words(result.outcome)}
        done |= {"reasons": list(result.reasons)}
    else:
        entry = decisions[-1]
        # A crash may have come between the audit's entry and the aliases.
        settle(store, mine.output)
        if entry.kind in ("reject", "wait") and entry.version not in (None, tracking.champion_version(store)):
            tracking.challenge(store, int(entry.version))
        shift = _answer_of(entry.facts["shift"])
        done = {"action": entry.facts["action"], "outcome": _OUTCOMES[entry.kind]}
        done |= {"reasons": list(entry.reasons)}
    return {**done, "shift": shift, "champion": tracking.champion_version(store)}


def _answer_of(shift: Mapping[str, Any] | None) -> str:
    """Return the answer of a shift check; nothing where it tested nothing and no earlier answer holds."""
    if shift is None or (shift["answer"] == "nothing" and not shift.get("tested", True)):
        return ""
    return str(shift["answer"])


def _time_of(month: int) -> str:
    """Return the simulated time of a month's end: undecided challengers grow old by it."""
    return (datetime(2026, 1, 1, tzinfo=UTC) + month * timedelta(days=365.25 / 12)).isoformat()


def _predict_new_scans(study: Study, month: int) -> PeriodPredictions:
    """Predict the new scans with the classifier of each policy; at the start there is none."""
    cohort = labelled_cohort(study)
    before = {i for m in range(month) for i in _predictions(study, m).scan_ids}
    new = cohort.subset([i for i in cohort.scan_ids if i not in before])
    by_policy = {}
    for policy in POLICIES if month else ():
        version, classifier = _in_use(study, policy)
        seen = [derivative_of(scan) for scan in new.scans]
        volumes, warnings = [s.suvr.array for s in seen], [s.warnings for s in seen]
        found = classifier.predict_batch(volumes, quality_reasons=warnings) if seen else []
        by_policy[policy] = PolicyPredictions.of(version, found, new)
    return PeriodPredictions(new.scan_ids, new.subjects, new.labels, new.posterior, by_policy)


def _predictions_file(study: Study, month: int) -> Path:
    """Return the predictions of a month's scans; an older version named them otherwise."""
    old = _folder(study, month) / "said.json"
    return old if old.is_file() else old.with_name("predictions.json")


def _decided(study: Study, month: int) -> dict[str, Any]:
    decided: dict[str, Any] = read_json(_folder(study, month) / "decided.json")[GATE]
    return decided | {"outcome": _in_plain_words(decided["outcome"])}


def _in_plain_words(outcome: str) -> str:
    return _OLD_OUTCOMES.get(outcome, outcome)


def _predictions(study: Study, month: int) -> PeriodPredictions:
    return PeriodPredictions.from_dict(read_json(_predictions_file(study, month)))


def _in_use(study: Study, policy: str) -> tuple[int, CalibratedClassifier]:
    """Return the classifier a policy has in use; versions count from 1, the one that all start from."""
    first = _store_of(study, GATE)
    store = first if policy == NEVER else _store_of(study, policy)
    version = None if policy == NEVER else tracking.champion_version(store)
    if version is None:
        return 1, tracking.load_classifier(first, f"models:/{first.model_name}/1")
    # The first that `always` trains is the second that it uses.
    counted = version + 1 if policy == ALWAYS else version
    return counted, tracking.load_classifier(store, f"models:/{store.model_name}/{version}")


def _events(study: Study, month: int) -> str:
    batches = (BatchSettings(), *study.phantom.batches)
    return what_came(batches[month - 1], batches[month], study.cohort.classes)


def what_came(before: BatchSettings, now: BatchSettings, classes: Sequence[str]) -> str:
    """Return what changes from one batch to the next, in words; empty where nothing does."""
    changes = []
    if now.prevalence != before.prevalence:
        shares = zip(classes, now.prevalence, strict=False)
        words = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
        changes.append(f"prevalence becomes {words or 'that of the start'}")
    for words, was, has in (
        ("a new scanner", before.new_scanner, now.new_scanner),
        ("a broken reconstruction", before.broken, now.broken),
    ):
        if has > 0 and was == 0:
            changes.append(f"{words} for {100 * has:.0f} % of scans")
        elif has == 0 and was > 0:
            changes.append(f"{words} no more")
    return ", ".join(changes)


def _report(study: Study) -> YearReport:
    months = range(1, len(study.phantom.batches) + 1)
    return build_year_report(
        title=study.name,
        report_date=today(),
        run_id=_key(study),
        events=[_events(study, month) for month in months],
        periods=[_predictions(study, month) for month in months],
        decided=[_decided(study, month) for month in months],
        settings=EvaluationSettings(),
        seed=study.seed,
    )


def _show(report: YearReport) -> None:
    header, rows = year_rows(report)
    show_table(
        "Each month of the year, predicted by classifiers that were not trained on its scans", header, rows
    )
    for sentence in report.sentences:
        say(sentence)
