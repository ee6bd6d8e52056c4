"""What a retraining has to do: train, recalibrate or nothing, and which scans it may learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flows.learning.cohorts import split_of, whole_cohort
from flows.retraining.champion import Champion
from flows.retraining.shift_check import ShiftResult, compare_new_scans
from pipeline.config import Study
from pipeline.evaluation.monitoring.read_labels import diagnosed, trained_on_reads
from pipeline.learning.cross_fitting import scheme_of
from pipeline.learning.split import development, extend_split
from pipeline.scan import Cohort, Split

Action = Literal["nothing", "recalibrate", "retrain", "first"]


@dataclass(frozen=True)
class Plan:
    """The action that is needed, and why."""

    action: Action
    reasons: tuple[str, ...]
    shift: ShiftResult | None = None


def plan_of(study: Study, champion: Champion | None, cohort: Cohort) -> Plan:
    """Return what is needed: a first champion, what the shift test asks for, or training on more scans."""
    if champion is None:
        return Plan("first", ("There is no champion yet.",))
    shift = compare_new_scans(study, champion, whole_cohort(study))
    if shift.answer != "nothing":
        return Plan(shift.answer, shift.reasons, shift)
    known = len(champion.scan_ids)
    new = len(set(cohort.scan_ids) - champion.scan_ids)
    if study.retrain.growth is not None and new >= study.retrain.growth * known:
        grown = f"{new} labelled scans are new; the champion was made from and tested on {known}."
        return Plan("retrain", (*shift.reasons, grown), shift)
    return Plan("nothing", shift.reasons, shift)


def split_for(study: Study, champion: Champion | None, plan: Plan, cohort: Cohort) -> Split:
    """Return the split for a plan: the champion's with new subjects assigned, a new one where there is none.

    Raises
    ------
    CohortError
        If a recalibration has no new calibration scans, or a class has too few subjects.
    """
    if champion is None:
        return split_of(study, cohort)
    of_diagnoses = diagnosed(cohort)
    if plan.action == "recalibrate":  # a new calibrator needs no new training scans
        return extend_split(champion.split, of_diagnoses, study.split, seed=study.seed, train=False)
    extended = extend_split(champion.split, of_diagnoses, study.split, seed=study.seed)
    cross_fit = scheme_of(study, len(of_diagnoses)) == "cross_fit"
    return trained_on_reads(development(extended) if cross_fit else extended, cohort)
