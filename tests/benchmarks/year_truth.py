"""Decisions and expectations of finished years: `python tests/benchmarks/year_truth.py FOLDER [FOLDER ...]`.

Each FOLDER is one that `year.py --out` has finished; nothing is written to it. The first table compares the
policies. The second has every challenger that the gate decided on: its expected NLL under the phantom's true
posterior minus that of the champion of that time, over the scans of subjects from whom neither learned, with
an interval over subjects. Scans that were reconstructed wrongly are left out: the phantom's own table names
them, and its row is found by the posterior. The third has what to expect without labels, beside what the
labels show.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.running.environment import set_quiet_defaults

set_quiet_defaults()

from flows.learning.cohorts import region_table  # noqa: E402
from flows.retraining.shift_check import reference_of  # noqa: E402
from models.interval import calibrator_draws  # noqa: E402
from pipeline import tracking  # noqa: E402
from pipeline.config import Study  # noqa: E402
from pipeline.evaluation.inference.intervals import Interval, bootstrap_mean  # noqa: E402
from pipeline.evaluation.metrics import (  # noqa: E402
    PROBABILITY_FLOOR,
    negative_log_likelihood,
)
from pipeline.evaluation.monitoring.challenger import scans_of_others  # noqa: E402
from pipeline.evaluation.monitoring.period import PeriodScans  # noqa: E402
from pipeline.evaluation.monitoring.prospective import (  # noqa: E402
    PeriodPredictions,
    pool,
)
from pipeline.evaluation.monitoring.without_labels import (  # noqa: E402
    FEWEST_SUBJECTS,
    ExpectedPerformance,
    Unlabelled,
    expected_performance,
)
from tests.benchmarks.finished_year import (  # noqa: E402
    FinishedYear,
    markdown,
    policy_table,
    signed_interval,
)

FIRST = 1
"""The version that every policy begins with."""
EQUAL = 0.01
"""A smaller true difference in NLL is none."""
EXPECTED = {"accuracy": "accuracy", "negative_log_likelihood": "NLL", "coverage": "coverage"}
CHANGES = ("as in training", "a new scanner", "other prevalence, new scanner", "broken reconstruction")
_SAME = 1e-4
"""Two runs of one network on one scan differ by less."""
_OUTCOMES = {"promote": "promoted", "reject": "rejected", "wait": "undecided", "hold": "undecided"}


@dataclass(frozen=True)
class DecidedChallenger:
    """A challenger that the gate decided on; `difference` is its true NLL minus that of the champion."""

    seed: int
    made: int
    decided: int
    action: str
    outcome: str
    scans: int
    difference: Interval

    @property
    def truly(self) -> str:
        """Return whether it is better."""
        if abs(self.difference.value) <= EQUAL:
            return "about equal"
        return "better" if self.difference.value < 0 else "worse"

    def cells(self) -> list[str]:
        """Return its row of the table."""
        when = str(self.made) if self.made == self.decided else f"{self.made}, decided in {self.decided}"
        start = [str(self.seed), when, self.action, self.outcome, str(self.scans)]
        return [*start, signed_interval(self.difference), self.truly]


def decided_challengers(year: FinishedYear) -> Iterator[DecidedChallenger]:
    """Yield the challengers of a year: every version but the first, which is in use until another passes."""
    by_version: dict[int, list[tracking.Entry]] = {}
    for entry in year.audit():
        if entry.kind in _OUTCOMES and entry.version not in (None, FIRST):
            by_version.setdefault(entry.version, []).append(entry)
    for version, entries in by_version.items():
        made, decided = entries[0], entries[-1]
        difference, scans = true_difference(year, version, made.over or FIRST)
        yield DecidedChallenger(
            year.study.seed, _month(made), _month(decided), made.facts["action"], _OUTCOMES[decided.kind],
            scans, difference,
        )  # fmt: skip


def true_difference(year: FinishedYear, challenger: int, champion: int) -> tuple[Interval, int]:
    """Return the expected NLL of a challenger minus that of a champion, and of how many scans."""
    splits = [year.version(challenger).split, year.version(champion).split]
    ids = tuple(i for i in scans_of_others(year.cohort, splits) if i not in year.broken)
    unseen = year.cohort.subset(ids)
    theirs, ours = (
        np.log(np.maximum(year.probabilities(v, ids), PROBABILITY_FLOOR)) for v in (champion, challenger)
    )
    assert unseen.posterior is not None
    values = (unseen.posterior * (theirs - ours)).sum(axis=1)
    return bootstrap_mean(values, unseen.subjects, seed=year.study.seed), len(ids)


def _month(entry: tracking.Entry) -> int:
    return int(entry.who.rpartition(" ")[2])


@dataclass(frozen=True)
class ExpectedPeriod:
    """A month with those before it that it needs, what was expected of a policy, and what the labels show."""

    seed: int
    policy: str
    months: tuple[int, ...]
    versions: tuple[int, ...]
    change: str
    expected: ExpectedPerformance
    realised: dict[str, float]

    def holds(self, name: str) -> bool:
        """Return whether the interval of a measure holds its realised value."""
        assert self.expected.values is not None
        found = self.expected.values[name]
        # A share of 31 labels has rounding errors that its limits, shares of 31 too, may not have.
        return found.low - 1e-9 <= self.realised[name] <= found.high + 1e-9

    def cells(self) -> list[str]:
        """Return its row of the table."""
        months = "+".join(map(str, self.months))
        start = [str(self.seed), self.policy, months, "+".join(map(str, self.versions))]
        start += [str(self.expected.subjects), self.change]
        if self.expected.values is None:
            return [*start, f"withheld: {self.expected.withheld}", "–", "–"]
        values = self.expected.values
        return [
            *start,
            *(
                f"{self.realised[n]:.2f} [{values[n].low:.2f}, {values[n].high:.2f}]"
                + ("" if self.holds(n) else " **outside**")
                for n in EXPECTED
            ),
        ]


def expected_periods(year: FinishedYear) -> Iterator[ExpectedPeriod]:
    """Yield each month of the policies that are asked about."""
    for policy in ("gate", "never"):
        for month in range(1, len(year.months) + 1):
            yield _expected(year, policy, month)


def _expected(year: FinishedYear, policy: str, month: int) -> ExpectedPeriod:
    first = month
    while first > 1 and len(pool(year.months[first - 1 : month])) < FEWEST_SUBJECTS:
        first -= 1
    numbers = [n for n in range(first, month + 1) if len(year.months[n - 1])]
    parts = [year.months[n - 1] for n in numbers]
    versions = [part.by_policy[policy].version for part in parts]
    unlabelled, strange = _together(year, parts, policy)
    reference = reference_of(year.study, year.version(versions[-1]), year.cohort).period
    before = reference.out_of_distribution[reference.last_scans()]
    seen = pool(parts)
    predicted = seen.by_policy[policy]
    realised = {
        "accuracy": float((predicted.probabilities.argmax(axis=1) == seen.labels).mean()),
        "negative_log_likelihood": negative_log_likelihood(predicted.probabilities, seen.labels),
        "coverage": float(predicted.covered.mean()),
    }
    found = expected_performance(unlabelled, strange, before, seed=year.study.seed)
    change = _change(year.study, month)
    unique = tuple(dict.fromkeys(versions))
    return ExpectedPeriod(year.study.seed, policy, tuple(numbers), unique, change, found, realised)


def _together(
    year: FinishedYear, parts: Sequence[PeriodPredictions], policy: str
) -> tuple[Unlabelled, np.ndarray]:
    """Return what `pipeline.evaluation.monitoring.latest_scans` asks with, of each month's own classifier."""
    regions = region_table(year.study)
    assert regions is not None
    sets, drawn, trained, strange = [], [], [], []
    for part in parts:
        stated, version = part.by_policy[policy].probabilities, part.by_policy[policy].version
        classifier = year.version(version).classifier
        predictions = year.version(version).predictions(year.cohort.subset(part.scan_ids))
        period = PeriodScans.of(year.cohort.subset(part.scan_ids), predictions, classifier, regions)
        assert np.abs(period.probabilities - stated).max() < _SAME, "not the classifier that was in use"
        sets.append(classifier.conformal.sets(stated))
        calibrators = classifier.refits or (classifier.calibrator,)
        drawn.append(calibrator_draws(calibrators, predictions.logits[np.newaxis]))
        trained += [classifier.prevalence] * len(part)
        strange.append(period.out_of_distribution)
    most = max(map(len, drawn))
    return Unlabelled(
        np.concatenate([part.by_policy[policy].probabilities for part in parts]),
        np.concatenate(sets),
        year.cohort.class_names,
        np.mean(trained, axis=0),
        np.concatenate([d[np.arange(most) % len(d)] for d in drawn], axis=1),
    ), np.concatenate(strange)


def _change(study: Study, month: int) -> str:
    batch = study.phantom.batches[month - 1]
    return CHANGES[3 if batch.broken else 2 if batch.prevalence else 1 if batch.new_scanner else 0]


def challenger_tables(challengers: Sequence[DecidedChallenger]) -> str:
    """Return the table of challengers, and how many of each kind had which outcome."""
    header = ["seed", "month", "action", "outcome", "scans", "true NLL minus the champion's", "truly"]
    outcomes = ("promoted", "rejected", "undecided")
    counts = [
        [truly, str(len(of)), *(str(sum(c.outcome == o for c in of)) for o in outcomes)]
        for truly in ("better", "about equal", "worse")
        for of in [[c for c in challengers if c.truly == truly]]
    ]
    rows = [c.cells() for c in challengers]
    return markdown(header, rows) + "\n" + markdown(["truly", "challengers", *outcomes], counts)


def expectation_tables(periods: Sequence[ExpectedPeriod]) -> str:
    """Return the table of periods, and the share of each kind whose intervals hold what the labels show."""
    header = ["seed", "policy", "months", "versions", "subjects", "last month", *EXPECTED.values()]
    shares = [
        [policy, change, str(len(of)), str(len(of) - len(stated)), *_held(stated)]
        for policy in ("gate", "never")
        for change in CHANGES
        for of in [[p for p in periods if (p.policy, p.change) == (policy, change)]]
        for stated in [[p for p in of if p.expected.values is not None]]
        if of
    ]
    titles = [
        "policy",
        "last month",
        "periods",
        "withheld",
        *(f"{h} held, median width" for h in EXPECTED.values()),
    ]
    return markdown(header, [p.cells() for p in periods]) + "\n" + markdown([*titles, "together"], shares)


def _held(periods: Sequence[ExpectedPeriod]) -> list[str]:
    if not periods:
        return ["–"] * (len(EXPECTED) + 1)
    found = [p.expected.values or {} for p in periods]
    widths = [float(np.median([values[n].high - values[n].low for values in found])) for n in EXPECTED]
    right = [sum(p.holds(name) for p in periods) for name in EXPECTED]
    cells = [f"{n} of {len(periods)}, {width:.2f}" for n, width in zip(right, widths, strict=True)]
    return [*cells, f"{sum(right) / len(periods) / len(EXPECTED):.0%}"]


def print_truth(folders: Sequence[Path]) -> None:
    """Print all tables, over all years."""
    years = [FinishedYear.of(folder) for folder in folders]
    print(policy_table(years))
    print(challenger_tables([c for year in years for c in decided_challengers(year)]))
    print(expectation_tables([p for year in years for p in expected_periods(year)]))


def main() -> None:
    """Print the tables of the folders that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="finished by year.py --out")
    print_truth(parser.parse_args().folders)


if __name__ == "__main__":
    main()
