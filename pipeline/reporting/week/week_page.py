"""The page of a week: what was answered, what to expect without diagnoses, whether the scans have changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.evaluation.monitoring.advice import advice_of
from pipeline.evaluation.monitoring.agreement import OverrideRate
from pipeline.evaluation.monitoring.answered import RecordedAnswer, subject_of
from pipeline.evaluation.monitoring.read_words import DECISIONS
from pipeline.evaluation.monitoring.shift import Answer, ShiftTest
from pipeline.reporting.page.facts import Facts, Named, Text, counted_share, percent_range
from pipeline.reporting.page.html import Page
from pipeline.reporting.page.reasons import in_words
from pipeline.wording import counted

_MOST_REASONS = 10


class WeekTest(Facts):
    """One way in which the scans may have changed."""

    kind: Text
    sentence: Text
    p_value: float
    changed: bool


class WeekReads(Facts):
    """How many answers readers changed since the first day of the page, and before it.

    `low` and `high` are the 95 % interval of the share since then.
    """

    overrides: int = 0
    reads: int = 0
    low: float = 0.0
    high: float = 1.0
    overrides_before: int = 0
    reads_before: int = 0

    @classmethod
    def of(cls, since: OverrideRate, before: OverrideRate) -> WeekReads:
        """Take it from what was counted."""
        return cls(
            overrides=since.overrides,
            reads=since.reads,
            low=since.low,
            high=since.high,
            overrides_before=before.overrides,
            reads_before=before.reads,
        )

    @property
    def sentence(self) -> str:
        """The counts in words."""
        text = "No reader has answered."
        if self.reads:
            changed = f"Readers changed {self.overrides} of the {counted(self.reads, 'answer')}"
            interval = f"95 % interval {percent_range(self.low, self.high)}"
            text = f"{changed} that they read: {counted_share(self.overrides, self.reads)} ({interval})."
        earlier = f"Before this week they changed {self.overrides_before} of {self.reads_before}."
        return f"{text} {earlier}" if self.reads_before else text


class WeekReport(Facts):
    """All facts of the page.

    `champion` is the version that is in use at the end, None where there is none. `compared` is the number of
    scans that were tested for shift: those that no earlier check has tested. Counts are of the last answer
    about each scan; `why` has the most frequent of the `why_kinds` reasons.
    """

    title: Text
    report_date: Text
    run_id: Text = ""
    synthetic: bool
    since: Text
    champion: int | None
    scans: int
    subjects: int
    decisions: tuple[Named, ...]
    versions: tuple[Named, ...]
    kinds: tuple[Named, ...]
    why: tuple[Named, ...]
    why_kinds: int
    diagnoses: int
    performance: tuple[Text, ...]
    compared: int
    answer: Answer
    reasons: tuple[Text, ...]
    tests: tuple[WeekTest, ...]
    reads: WeekReads = WeekReads()

    @property
    def box(self) -> str:
        """The style of the box with that advice."""
        return "untested" if not self.tests else "report" if self.answer == "nothing" else "refer"

    @property
    def answered(self) -> str:
        """How many scans were answered."""
        scans, subjects = counted(self.scans, "scan"), counted(self.subjects, "subject")
        return f"{scans} of {subjects} {'was' if self.scans == 1 else 'were'} answered since {self.since}"

    @property
    def diagnosed(self) -> str:
        """How many of them have a diagnosis."""
        verb = "has" if self.diagnoses == 1 else "have"
        return (
            f"The last answer about each scan. {self.diagnoses or 'None'} of them {verb} a later diagnosis."
        )

    @property
    def advice(self) -> str:
        """What the answer of the shift check asks for."""
        return advice_of(self.answer, tested=bool(self.tests))


def frequencies(values: Iterable[str], titles: dict[str, str] | None = None) -> tuple[Named, ...]:
    """Return how often each value occurs, the most frequent first."""
    found = Counter(values).most_common()
    return tuple(Named(label=(titles or {}).get(value, value), value=n) for value, n in found)


def _reasons_of(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reasons of an answer without its own numbers, so that equal ones count together."""
    classes = answer.get("prediction_set") or ()
    yield from (in_words(str(reason), classes) for reason in answer.get("reasons") or ())


def count_answers(entries: Sequence[RecordedAnswer]) -> dict[str, object]:
    """Return the facts of a `WeekReport` that are counts: of the last answer about each scan."""
    last = {entry.scan: entry for entry in sorted(entries, key=lambda entry: entry.time)}
    answers = [entry.answer for entry in last.values()]
    why = frequencies(reason for answer in answers for reason in _reasons_of(answer))
    return {
        "scans": len(last),
        "subjects": len({subject_of(entry) for entry in last.values()}),
        "decisions": frequencies((str(answer.get("decision", "")) for answer in answers), DECISIONS),
        "kinds": frequencies(entry.kind for entry in last.values()),
        "versions": frequencies(f"version {entry.version}" for entry in last.values()),
        "why": why[:_MOST_REASONS],
        "why_kinds": len(why),
        "diagnoses": sum(entry.diagnosis is not None for entry in last.values()),
    }


def tests_of(tests: Iterable[ShiftTest]) -> tuple[WeekTest, ...]:
    """Return the tests of a shift check as the page shows them."""
    return tuple(
        WeekTest(kind=t.kind, sentence=t.sentence, p_value=t.p_holm, changed=t.changed) for t in tests
    )


def write_week_page(report: WeekReport, folder: Path) -> dict[str, Path]:
    """Write ``week.html`` and ``week.json`` to a folder."""
    return Page("week.html.j2", report, f"Week of {report.title}").write(folder, "week")
