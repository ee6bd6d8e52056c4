"""The gate is asked on the test part, and again on later scans where that does not decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from flows.learning.cohorts import region_table
from flows.retraining.champion import Champion
from flows.retraining.promotion import chosen_by
from flows.running.task_runs import step
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study
from pipeline.evaluation.classifier.rivals import Rivals
from pipeline.evaluation.monitoring.challenger import judged_of, scans_of_others
from pipeline.evaluation.monitoring.champions_luck import ChampionsLead, shared_part
from pipeline.evaluation.monitoring.gate import DECIDING, judge, spent_after
from pipeline.evaluation.monitoring.verdict import GateOutcome, Look, Verdict
from pipeline.files import fingerprint
from pipeline.learning.predictions import Predictions
from pipeline.learning.split_cohort import SplitCohort

_DAYS_OF_A_MONTH = 365.25 / 12


@dataclass(frozen=True)
class GateAnswer:
    """What the gate answered, and what the audit log stores of it.

    Parameters
    ----------
    key : str
        Of the decision; empty where nothing has changed since the last one.
    """

    outcome: GateOutcome
    verdict: Verdict
    reasons: tuple[str, ...]
    facts: dict[str, Any]
    key: str


@step("ask the gate")
def ask_gate(
    study: Study, champion: Champion | None, challenger: CalibratedClassifier, test: Predictions,
    scans: SplitCohort, looks: Sequence[Look] = (),
) -> Verdict:  # fmt: skip
    """Judge a challenger by its predictions of the test scans of `scans`."""
    before = lead = None
    if champion is not None:
        predictions = champion.predictions(scans.cohort.subset(test.scan_ids))
        before = champion.classifier.calibrator.transform(predictions.logits)
        lead = _lead_of(study, champion, test.scan_ids)
    baseline = Rivals.of(scans, region_table(study), challenger.prevalence, study.seed).baseline
    judged = judged_of(challenger, test, champion=before, baseline=baseline, lead=lead)
    return judge(judged, study.retrain.gate, study.seed, looks)


def _lead_of(study: Study, champion: Champion, scan_ids: tuple[str, ...]) -> ChampionsLead | None:
    """Return by what the gate chose the champion, and on how many of these scans; None if it did not.

    Scans that came while it waited were looked at too; the few of them that have since become test scans
    are not counted.
    """
    store = tracking.store_of(study.tracking, study.output)
    entry = chosen_by(store, study.output, champion.version)
    if entry is None or "looks" not in entry.facts:  # as written by 0.1.0
        return None
    checks = (check for check in entry.facts["gate"]["checks"] if check["name"] == DECIDING)
    found = next(checks, None)
    if found is None or not found["passed"]:  # the first champion met no other
        return None
    looks = entry.facts["looks"]
    used = found.get("luck", 0.0) if len(looks) > 1 else 0.0
    spare = max(0.0, found["limit"] + used - found["high"])
    shared = shared_part(scan_ids, champion.split.test)
    return ChampionsLead(-found["value"], spare, int(looks[-1][0]), shared)


def first_answer(study: Study, verdict: Verdict, subjects: Sequence[str], key: str, time: str) -> GateAnswer:
    """Return the answer on the test part, whose scans are of these subjects."""
    spent = spent_after(study.retrain.gate, 0, study.retrain.wait_months)
    facts = {
        "gate": verdict.to_dict(),
        "round": key,
        "since": time,
        "looks": [[len(set(subjects)), spent]],
    }
    outcome, reasons = verdict.outcome, verdict.reasons
    if outcome == "wait":
        if study.retrain.wait_months:
            reasons = (*reasons, "It and the champion will be scored on later scans.")
        else:
            outcome = "reject"
    return GateAnswer(outcome, verdict, reasons, facts, key)


def ask_again(
    study: Study, champion: Champion, challenger: Champion, scans: SplitCohort, entry: tracking.Entry,
    time: str,
) -> GateAnswer:  # fmt: skip
    """Judge an undecided challenger on all scans of subjects from whom neither classifier has learned.

    Parameters
    ----------
    scans : SplitCohort
        The cohort as it is now, with any split.
    entry : Entry
        The decision that made it wait.
    time : str
        In UTC.
    """
    ids = scans_of_others(scans.cohort, [champion.split, challenger.split])
    unseen = scans.cohort.subset(ids)
    months = _months(entry.facts["since"], time)
    expired = months >= study.retrain.wait_months
    looks = [Look(int(subjects), float(spent)) for subjects, spent in entry.facts["looks"]]
    people = len(set(unseen.subjects))
    grown = people > looks[-1].subjects
    if grown:
        spent = max(spent_after(study.retrain.gate, months, study.retrain.wait_months), looks[-1].spent)
        split = replace(challenger.split, test=ids, subject_of=_subjects(challenger, scans))
        known = set(scans.cohort.scan_ids)
        split = replace(split, train=tuple(i for i in split.train if i in known))
        predictions = challenger.predictions(unseen)
        looks.append(Look(people, spent))
        tested = replace(scans, split=split)
        verdict = ask_gate(study, champion, challenger.classifier, predictions, tested, looks)
    else:
        verdict = Verdict.from_dict(entry.facts["gate"])
    outcome, reasons = verdict.outcome, verdict.reasons
    if outcome == "wait" and expired:
        outcome = "reject"
        reasons = (*reasons, f"It has waited for {months:.1f} months, and {people} subjects do not decide.")
    facts = entry.facts | {"gate": verdict.to_dict(), "looks": [[x.subjects, x.spent] for x in looks]}
    changed = grown or outcome != "wait"
    key = fingerprint(entry.facts["round"], sorted(ids), outcome) if changed else ""
    return GateAnswer(outcome, verdict, reasons, facts, key)


def _subjects(challenger: Champion, scans: SplitCohort) -> dict[str, str]:
    now = dict(zip(scans.cohort.scan_ids, scans.cohort.subjects, strict=True))
    return {**challenger.split.subject_of, **now}


def _months(since: str, time: str) -> float:
    start, end = (datetime.fromisoformat(text) for text in (since, time))
    return (end - start).total_seconds() / 86400 / _DAYS_OF_A_MONTH
