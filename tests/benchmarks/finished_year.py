"""A finished year on disk, for `year.py` and `year_truth.py`: scans, classifiers, predictions, policies.

Nothing is written to its folder.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from flows.learning.cohorts import cache_of, whole_cohort
from flows.learning.study_files import StudyFiles
from flows.retraining.champion import Champion
from models.arrays import Floats
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study, load_study
from pipeline.evaluation.inference.intervals import Interval
from pipeline.evaluation.metrics import metric_named
from pipeline.evaluation.monitoring.prospective import (
    PeriodPredictions,
    compare_policies,
    measure_with_intervals,
    pool,
)
from pipeline.files import read_json
from pipeline.learning.predictions import Predictions
from pipeline.phantom import BROKEN_RULES
from pipeline.reporting.year.year_page import MEASURES, OURS, TITLES
from pipeline.scan import Cohort

_DIGITS = 9


@dataclass(frozen=True, eq=False)
class FinishedYear:
    """A year on disk.

    Parameters
    ----------
    study : Study
        Of the policy with the gate.
    cohort : Cohort
        The scans of the whole year.
    broken : frozenset of str
        Scans that were reconstructed wrongly.
    months : tuple of PeriodPredictions
        From month 1.
    """

    study: Study
    cohort: Cohort
    broken: frozenset[str]
    months: tuple[PeriodPredictions, ...]

    @classmethod
    def of(cls, folder: Path) -> FinishedYear:
        """Read a folder; the study of another policy differs in its folder alone."""
        places = (f"output={folder / 'gate'}", f"cohort.path={folder / 'bids'}")
        study = load_study(folder / "always" / "study.yaml", places)
        cohort = whole_cohort(study).labelled()
        files = sorted((folder / "months").glob("*/predictions.json"))
        if len(files) != len(study.phantom.batches) + 1:
            raise SystemExit(f"{folder} holds {len(files)} months: run year.py again until it is done.")
        months = tuple(PeriodPredictions.from_dict(read_json(path)) for path in files[1:])
        return cls(study, cohort, broken_scans(folder, cohort), months)

    # Both caches keep a year for as long as the program runs, which is what a year is read for.
    @functools.cache  # noqa: B019
    def version(self, number: int) -> Champion:
        """Return a classifier and its split, from the round that made it: the store would touch a lock."""
        made = (e for e in self.audit() if e.version == number and "round" in e.facts)
        files = StudyFiles(self.study.output / "rounds" / next(made).facts["round"])
        classifier = CalibratedClassifier.load(files.bundle)
        return Champion(number, classifier, files.read_split(), cache_of(self.study))

    def audit(self) -> tuple[tracking.Entry, ...]:
        """Return what was decided in the year."""
        return tracking.audit_of(self.study.output).entries()

    @functools.cache  # noqa: B019
    def predictions(self, number: int) -> Predictions:
        """Return what a classifier predicts for every scan of the year."""
        return self.version(number).predictions(self.cohort)

    def rows(self, scan_ids: Sequence[str]) -> list[int]:
        """Return the rows of scans in the cohort."""
        row_of = {name: row for row, name in enumerate(self.cohort.scan_ids)}
        return [row_of[name] for name in scan_ids]

    def probabilities(self, number: int, scan_ids: Sequence[str]) -> Floats:
        """Return the calibrated probabilities of some scans."""
        logits = self.predictions(number).logits[self.rows(scan_ids)]
        return self.version(number).classifier.calibrator.transform(logits)


def broken_scans(folder: Path, cohort: Cohort) -> frozenset[str]:
    """Return the scans of a cohort that the phantom reconstructed wrongly, without a word in their header."""
    tables = [pd.read_csv(path, dtype={"SPOILED": str}) for path in folder.glob("adni/**/PHANTOM_TRUTH*.csv")]
    truth = pd.concat(tables).fillna({"SPOILED": ""})
    posterior = truth[[f"POSTERIOR_{name}" for name in cohort.class_names]].round(_DIGITS)
    wrong = truth.SPOILED.isin(BROKEN_RULES)
    # Scans of the same stage share a posterior, which is no trouble where all or none of them are wrong.
    broken, sound = (set(posterior[rows].itertuples(index=False, name=None)) for rows in (wrong, ~wrong))
    if broken & sound or cohort.posterior is None:
        raise SystemExit(
            f"Scans of {folder} share posteriors: broken and sound ones cannot be distinguished."
        )
    keys = map(tuple, cohort.posterior.round(_DIGITS).tolist())
    return frozenset(i for i, key in zip(cohort.scan_ids, keys, strict=True) if key in broken)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def policy_table(years: Sequence[FinishedYear]) -> str:
    """Return how each policy did in each year and in all together, and the gate minus it."""
    spans = {str(year.study.seed): pool(year.months) for year in years}
    if len(spans) > 1:
        named = [replace(p, subjects=tuple(f"{seed} {s}" for s in p.subjects)) for seed, p in spans.items()]
        spans["all"] = pool(named)
    rows = []
    for seed, period in spans.items():
        for policy in TITLES:
            found = measure_with_intervals(period, policy)
            against = {} if policy == OURS else compare_policies(period, OURS, policy)
            shares = [f"{100 * found[name].value:.1f}" for name in MEASURES[2:]]
            cells = [str(found[name]) for name in MEASURES[:2]] + shares
            rows.append([seed, str(len(period)), TITLES[policy], *cells])
            rows[-1] += [signed_interval(against[name]) if against else "–" for name in MEASURES[:2]]
    titles = [metric_named(name).title for name in MEASURES]
    header = ["seed", "scans", "policy", *titles[:2], *(f"{title}, %" for title in titles[2:])]
    header += [f"{title}: {OURS} minus it" for title in titles[:2]]
    return markdown(header, rows)


def signed_interval(found: Interval) -> str:
    """Return a difference with its interval."""
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
