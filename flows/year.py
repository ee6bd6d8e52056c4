"""A simulated year of a clinic: monthly batches of scans, and three ways to look after the classifier in use.

`gate` retrains as `flows.retrain` does, `never` keeps the first classifier, and `always` retrains every month
and takes whatever comes. All three start from the same classifier, and each month's scans are judged by the
classifiers in use when they arrive, none of which has learned from them.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flows.ingest import ingest_study, key_beside
from flows.learning.cohorts import labelled_cohort
from flows.phantom import make_batch, make_phantom
from flows.reports.study_reports import derivative_of
from flows.retrain import retrain
from flows.retraining.promotion import settle
from flows.running.console import say, show_table
from flows.running.orphans import end_orphans
from flows.running.runners import beside
from flows.running.steps import run_once
from flows.train import learn_study, train_study
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import BatchSettings, EvaluationSettings, Study
from pipeline.errors import ConfigError, InputError
from pipeline.evaluation.monitoring.prospective import PeriodPredictions, PolicyPredictions
from pipeline.files import fingerprint, read_json, today, write_json
from pipeline.ingest.deidentify import make_known_key
from pipeline.processes import preload
from pipeline.reporting.year.year_page import YearReport, build_year_report, write_year_report, year_rows
from pipeline.scan import Cohort

YEAR_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "year.yaml"
GATE, NEVER, ALWAYS = POLICIES = ("gate", "never", "always")
_FLOWS = ("ingest", "retrain", "train")
_OUTCOMES = {"promote": "promoted", "reject": "rejected", "hold": "held", "nothing": "kept"}
"""Kind of an audit entry to what became of the champion."""


def run_year(study: Study) -> dict[str, Any]:
    """Live through the year of a study, and tell how each policy did; killed and run again, it goes on.

    Parameters
    ----------
    study : Study
        `phantom.batches` holds what each month brings.

    Raises
    ------
    ConfigError
        If no batch is planned or the scans have no place.
    InputError
        If the output folder holds a year of other settings.
    """
    started = time.monotonic()
    preload("flows.ingestion.worker_start", "flows.train")
    _check(study)
    end_orphans(_FLOWS)
    assert study.ingest.source is not None
    make_known_key(study.ingest.key_file or key_beside(study.cohort.path), study.seed)
    make_phantom(study.phantom, study.ingest.source, study.seed)
    for month in range(len(study.phantom.batches) + 1):
        say(f"Month {month}: {_events(study, month) or 'nothing new'}." if month else "The start.")
        run_once(_folder(study, month) / "done.json", _key(study), functools.partial(_live, study, month))
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
    return fingerprint(study.learning_settings(), phantom, study.retrain.model_dump(mode="json"))


def _check(study: Study) -> None:
    if study.ingest.source is None or not study.phantom.batches:
        raise ConfigError(
            "A year needs a place for the scans and a batch a month, got "
            f"{len(study.phantom.batches)} batches in {study.ingest.source}",
            where="phantom.batches",
            hint=f"start from {YEAR_CONFIG.name}",
        )
    # What a later month has left behind cannot be taken away: another year needs another folder.
    manifest = study.output / "year.json"
    if not manifest.is_file():
        write_json(manifest, {"key": _key(study)})
    if read_json(manifest)["key"] != _key(study):
        raise InputError(
            "The folder must be new or hold the same year, got one of other settings",
            where=str(study.output),
            hint="choose another folder with --out or delete this one",
        )


def _folder(study: Study, month: int) -> Path:
    return study.output / "months" / f"{month:02d}"


def _study_of(study: Study, policy: str) -> Study:
    """Return the study of a policy: a folder of its own, the same scans, ingested already."""
    told = study.ingest.model_copy(update={"source": None})
    return study.model_copy(update={"output": study.output / policy, "ingest": told})


def _store_of(study: Study, policy: str) -> tracking.Store:
    return tracking.store_of(study.tracking, study.output / policy)


def _live(study: Study, month: int) -> Iterable[Path]:
    """Live through a month; return what is left of it.

    Judging is done once, by what was registered before; `always` learns in another process meanwhile.
    """
    assert study.ingest.source is not None
    if month:
        make_batch(study.phantom, study.ingest.source, study.seed, month)
    ingest_study(study)
    said, rival = _folder(study, month) / "said.json", _study_of(study, ALWAYS)
    with beside(learn_study, rival) if month else contextlib.nullcontext():
        if not said.is_file():
            write_json(said, _judge(study, month).to_dict())
        decided = {GATE: _retrain(study, month)}
    if month:
        tracking.promote(_store_of(study, ALWAYS), train_study(rival).version)
    return [said, write_json(_folder(study, month) / "decided.json", decided)]


def _retrain(study: Study, month: int) -> dict[str, Any]:
    """Retrain behind the gate, unless the audit tells that this month it was done; return what it tells."""
    mine, who = _study_of(study, GATE), f"year, month {month}"
    told: dict[str, Any]
    found = _decided(mine.output, who)
    if found is None:
        done = retrain(mine, who=who)
        told = {"action": done.action, "outcome": done.outcome, "reasons": list(done.reasons)}
        told["shift"] = done.shift.answer if done.shift else ""
    else:
        _carry_out(_store_of(study, GATE), mine.output, found)
        told = {"action": found.facts["action"], "outcome": _OUTCOMES[found.kind]}
        told |= {"reasons": list(found.reasons), "shift": (found.facts["shift"] or {}).get("answer", "")}
    return {**told, "champion": tracking.champion_version(_store_of(study, GATE))}


def _carry_out(store: tracking.Store, output: Path, found: tracking.Entry) -> None:
    """Move the aliases as decided, where a crash came between the audit's entry and the move."""
    settle(store, output)
    if found.kind == "reject" and found.version not in (None, tracking.champion_version(store)):
        tracking.challenge(store, int(found.version))


def _decided(output: Path, who: str) -> tracking.Entry | None:
    found = [e for e in tracking.audit_of(output).entries() if e.who == who and e.kind in _OUTCOMES]
    return found[-1] if found else None


def _judge(study: Study, month: int) -> PeriodPredictions:
    """Ask the classifiers in use about the scans that are new; at the start there is nobody to ask."""
    cohort = labelled_cohort(study)
    before = {i for m in range(month) for i in _said(study, m).scan_ids}
    new = cohort.subset([i for i in cohort.scan_ids if i not in before])
    said = {policy: _said_by(study, policy, new) for policy in POLICIES} if month else {}
    return PeriodPredictions(new.scan_ids, new.subjects, new.labels, new.posterior, said)


def _said(study: Study, month: int) -> PeriodPredictions:
    return PeriodPredictions.from_dict(read_json(_folder(study, month) / "said.json"))


def _said_by(study: Study, policy: str, cohort: Cohort) -> PolicyPredictions:
    version, classifier = _in_use(study, policy)
    classes = len(cohort.class_names)
    if not len(cohort):
        return PolicyPredictions(
            version, np.zeros((0, classes)), np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
        )
    seen = [derivative_of(scan) for scan in cohort.scans]
    answers = classifier.predict_batch(
        np.stack([s.suvr.array for s in seen]), quality_reasons=[s.warnings for s in seen]
    )
    true = [cohort.class_names[k] for k in cohort.labels]
    return PolicyPredictions(
        version,
        np.array([a.probabilities for a in answers]),
        np.array([name in a.prediction_set for a, name in zip(answers, true, strict=True)]),
        np.array([a.decision == "refer" for a in answers]),
    )


def _in_use(study: Study, policy: str) -> tuple[int, CalibratedClassifier]:
    """Return the classifier a policy has in use; versions count from 1, the one that all start from."""
    first = _store_of(study, GATE)
    store = first if policy == NEVER else _store_of(study, policy)
    version = None if policy == NEVER else tracking.champion_version(store)
    if version is None:
        return 1, tracking.load_classifier(first, f"models:/{first.model_name}/1")
    # What `always` trains first is the second that it uses.
    told = version + 1 if policy == ALWAYS else version
    return told, tracking.load_classifier(store, f"models:/{store.model_name}/{version}")


def _events(study: Study, month: int) -> str:
    batches = (BatchSettings(), *study.phantom.batches)
    return what_came(batches[month - 1], batches[month], study.cohort.classes)


def what_came(before: BatchSettings, now: BatchSettings, classes: Sequence[str]) -> str:
    """Tell what a batch brings that the one before had not, and what it is rid of; empty where nothing."""
    told = []
    if now.prevalence != before.prevalence:
        shares = zip(classes, now.prevalence, strict=False)
        words = ", ".join(f"{name} {share:.0%}" for name, share in shares)
        told.append(f"prevalence becomes {words or 'what it was'}")
    for words, was, has in (
        ("a new scanner", before.new_scanner, now.new_scanner),
        ("a broken reconstruction", before.broken, now.broken),
    ):
        if has > 0 and was == 0:
            told.append(f"{words} for {has:.0%} of scans")
        elif has == 0 and was > 0:
            told.append(f"{words} no more")
    return ", ".join(told)


def _report(study: Study) -> YearReport:
    months = range(1, len(study.phantom.batches) + 1)
    return build_year_report(
        title=study.name,
        report_date=today(),
        run_id=_key(study),
        events=[_events(study, month) for month in months],
        periods=[_said(study, month) for month in months],
        decided=[read_json(_folder(study, month) / "decided.json")[GATE] for month in months],
        settings=EvaluationSettings(),
        seed=study.seed,
    )


def _show(report: YearReport) -> None:
    header, rows = year_rows(report)
    show_table("The year, each month judged by classifiers that had not learned from it", header, rows)
    for sentence in report.sentences:
        say(sentence)
