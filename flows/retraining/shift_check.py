"""Whether the scans that have come since the champion was made look like those it was made from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from flows.learning.cohorts import region_table, regional_features, whole_cohort
from flows.retraining.champion import Champion
from flows.running.console import say
from flows.running.notify import tell
from flows.running.steps import as_flow
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import CohortError
from pipeline.evaluation.monitoring.period import PeriodScans
from pipeline.evaluation.monitoring.shift import Answer
from pipeline.evaluation.monitoring.shift import check_shift as compare_periods
from pipeline.files import fingerprint, read_json, write_json
from pipeline.learning.predictions import Predictions
from pipeline.scan import Cohort

_STRENGTH: dict[Answer, int] = {"nothing": 0, "recalibrate": 1, "retrain": 2}


@dataclass(frozen=True)
class ShiftResult:
    """What a look at the newest scans found.

    Parameters
    ----------
    champion : int or None
        The version whose calibration scans they were compared with.
    scans : int
        How many new scans.
    answer : {"nothing", "recalibrate", "retrain"}
        The strongest that was found since this champion came, in this look or an earlier one.
    reasons : tuple of str
        Of this look.
    """

    champion: int | None
    scans: int
    answer: Answer
    reasons: tuple[str, ...]


def check_shift(study: Study) -> ShiftResult:
    """Compare the scans no earlier look has seen with the champion's calibration scans.

    Raises
    ------
    CohortError
        If there is no cohort, or it has no table of regional SUVR.
    """
    store = tracking.store_of(study.tracking, study.output)

    def look() -> ShiftResult:
        champion = Champion.of(study, store)
        if champion is None:
            return ShiftResult(None, 0, "nothing", ("There is no champion yet.",))
        return look_at_new_scans(study, champion, whole_cohort(study))

    checked = as_flow("shift check", look)
    for reason in checked.reasons:
        say(reason)
    if checked.answer != "nothing":
        tell(study, "shift", asdict(checked))
    return checked


def look_at_new_scans(study: Study, champion: Champion, cohort: Cohort) -> ShiftResult:
    """Test the period of scans that are new, and remember which it was.

    A period is tested once: the chance of a false alarm would grow with every look at the same scans. What it
    found holds until another champion comes.
    """
    folder = study.output / "shift" / f"version-{champion.version}"
    mine = folder / f"{fingerprint(cohort.scan_ids, study.retrain.shift_level)}.json"
    if not mine.is_file():
        seen = {i for path in folder.glob("*.json") for i in read_json(path)["scan_ids"]}
        new = tuple(i for i in cohort.scan_ids if i not in champion.scan_ids and i not in seen)
        write_json(mine, _test_period(study, champion, cohort, new))
    found = read_json(mine)
    answers: list[Answer] = [read_json(path)["answer"] for path in sorted(folder.glob("*.json"))]
    strongest = max(answers, key=_STRENGTH.__getitem__)
    return ShiftResult(champion.version, found["scans"], strongest, tuple(found["reasons"]))


def _test_period(study: Study, champion: Champion, cohort: Cohort, new: tuple[str, ...]) -> dict[str, Any]:
    if not new:
        return {"scan_ids": [], "scans": 0, "answer": "nothing", "reasons": ["No scan is new."], "tests": []}
    # A scan whose diagnosis has been withdrawn since is no reference.
    labelled = set(cohort.labelled().scan_ids)
    reference_ids = tuple(i for i in champion.split.calibration if i in labelled)
    reference, labels = _period(study, champion, cohort, reference_ids)
    current, _ = _period(study, champion, cohort, new)
    shift = compare_periods(reference, labels, current, level=study.retrain.shift_level, seed=study.seed)
    # Too few to test: they stay new, and are tested with those that follow.
    looked_at = new if shift.tests else ()
    return {"scan_ids": looked_at, "scans": len(new), **shift.to_dict()}


def _period(
    study: Study, champion: Champion, cohort: Cohort, scan_ids: tuple[str, ...]
) -> tuple[PeriodScans, np.ndarray[Any, np.dtype[np.int64]]]:
    table = region_table(study)
    if table is None:
        raise CohortError(
            "The shift test needs the regional SUVR of every scan, got no table",
            where=study.name,
            hint="run `taucal ingest` again",
        )
    scans = sorted(cohort.subset(scan_ids).scans, key=lambda s: (s.session, s.subject))
    ordered = replace(cohort, scans=tuple(scans))
    said = champion.predictions(ordered)
    names = tuple(c for c in table.columns if c.startswith(("left_", "right_")) and table[c].notna().all())
    period = PeriodScans(
        subjects=ordered.subjects,
        region_names=names,
        suvr=regional_features(table, ordered.scan_ids),
        class_names=ordered.class_names,
        probabilities=champion.classifier.calibrator.transform(said.logits),
        out_of_distribution=_strange(champion, said),
        scanners=tuple(f"{s.facts.get('manufacturer')} {s.facts.get('model')}" for s in scans),
    )
    return period, said.labels


def _strange(champion: Champion, said: Predictions) -> np.ndarray[Any, np.dtype[np.bool_]]:
    outliers = champion.classifier.outliers
    far = outliers.mahalanobis(said.features) > outliers.mahalanobis_limit
    flags: np.ndarray[Any, np.dtype[np.bool_]] = far | (outliers.energy(said.logits) > outliers.energy_limit)
    return flags
