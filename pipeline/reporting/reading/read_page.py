"""The pages on which a reader answers: a list of scans, and the form of one scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pipeline.evaluation.monitoring.reads import (
    CHOICES,
    LONGEST_COMMENT,
    OWN,
    QUALITY,
    TAU,
    RecordedRead,
    current_reads,
)
from pipeline.reporting.page.facts import Facts, Text, listed, percent
from pipeline.reporting.page.html import Page
from pipeline.reporting.page.reasons import in_words

if TYPE_CHECKING:
    from pipeline.evaluation.monitoring.reads import AskedRead

DECISIONS = {"report": "Finding", "refer": "No finding: referred to an expert", "refused": "Not applied"}
_FULL = ("reader", *OWN, "verdict", "reason", "comment")
FIELDS: dict[str, tuple[str, ...]] = {
    "own": ("reader", *OWN, "comment"),
    "verdict": ("reader", "verdict", "reason", "comment"),
    "whole": _FULL,
}
"""Step of the form -> the fields that it asks for."""
Step = Literal["own", "verdict", "whole"]
MOST_LISTED = 200
_UNREADABLE = "unreadable"


class ShownAnswer(Facts):
    """The model's answer as the form shows it."""

    decision: Text
    finding: Text
    probabilities: Text
    reasons: tuple[Text, ...]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> ShownAnswer:
        """Take it from what is recorded, see `pipeline.one_scan.Answer`; the clinic's probabilities first."""
        shares = answer.get("clinic_probabilities") or answer.get("probabilities") or {}
        possible = [str(name) for name in answer.get("prediction_set") or ()]
        written = ", ".join(f"{name} {percent(p)}" for name, p in shares.items())
        where = " at your clinic's prevalence" if answer.get("clinic_probabilities") else ""
        return cls(
            decision=DECISIONS.get(str(answer.get("decision")), str(answer.get("decision"))),
            finding=listed(possible, "or"),
            probabilities=f"{written}{where}",
            reasons=tuple(in_words(str(reason), possible) for reason in answer.get("reasons") or ()),
        )


class ReadRow(Facts):
    """One read of the scan, also a superseded one."""

    number: int
    time: Text
    reader: Text
    tau: Text
    quality: Text
    verdict: Text
    blind: bool
    superseded: bool
    comment: str

    @classmethod
    def of(cls, recorded: RecordedRead) -> ReadRow:
        """Take it from a stored read."""
        read = recorded.read
        return cls(
            number=recorded.number,
            time=recorded.time,
            reader=read.reader,
            tau=TAU.get(read.tau or "", "–"),
            quality=QUALITY[read.quality],
            verdict=read.verdict or "none yet",
            blind=read.blind,
            superseded=recorded.superseded,
            comment=read.comment,
        )


class FormFacts(Facts):
    """All facts of the form of one scan; comments are longer than other texts.

    `answer` is None where it is not shown yet; `values` are what the fields hold; `wrong` names the field and
    the sentence of an error. `stored` is the entry that was just written.
    """

    report_date: Text = ""
    run_id: Text = ""
    synthetic: bool = False
    scan: Text
    version: Text
    answered: Text
    step: Step
    blind: bool
    answer: ShownAnswer | None
    reads: tuple[ReadRow, ...]
    classes: tuple[Text, ...]
    values: dict[str, str]
    wrong: tuple[Text, Text] | None = None
    stored: int | None = None


class ListedScan(Facts):
    """One scan of the list; `decision` is empty where it is not shown."""

    scan: Text
    time: Text
    version: Text
    decision: Text
    readers: tuple[Text, ...]


class IndexFacts(Facts):
    """All facts of the list of scans to read; `more` where there are older ones, which are not listed."""

    report_date: Text = ""
    run_id: Text = ""
    synthetic: bool = False
    title: Text
    reader: Text
    blind: bool
    unread: tuple[ListedScan, ...]
    read: tuple[ListedScan, ...]
    more: bool


def form_page(facts: FormFacts, token: str) -> Page:
    """Return the form; `token` proves to the server that it made this form."""
    drawn = {
        "token": token,
        "choices": CHOICES,
        "fields": FIELDS[facts.step],
        "readable": [(name, title) for name, title in QUALITY.items() if name != _UNREADABLE],
        "longest": LONGEST_COMMENT,
        "zip": zip,
    }
    return Page("read.html.j2", facts, facts.scan, drawn, policy="form")


def index_page(facts: IndexFacts) -> Page:
    """Return the list of scans to read."""
    return Page("read_index.html.j2", facts, f"Reads of {facts.title}", policy="form")


def given_of(values: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a form as `pipeline.evaluation.monitoring.reads.next_read` takes them.

    A form is whole: a field that a browser does not send is empty.
    """
    given = {name: values.get(name, "") for name in FIELDS.get(values.get("step", ""), _FULL)}
    if given.get("tau") == _UNREADABLE:
        given |= {"tau": "", "pattern": "", "diagnosis": "", "quality": _UNREADABLE}
    return given


def values_of(recorded: RecordedRead) -> dict[str, str]:
    """Return what the form holds for a reader to correct: the reverse of `given_of`."""
    read = recorded.read.to_dict()
    values = {name: str(read[name] or "") for name in _FULL}
    return values | ({"tau": _UNREADABLE} if read["quality"] == _UNREADABLE else {})


def step_of(asked: AskedRead, earlier: Sequence[RecordedRead], reader: str) -> Step:
    """Return what a reader is asked for next; in a blind study the read comes first, then the verdict."""
    mine = [r for r in current_reads(earlier) if r.read.reader == reader.upper()]
    if not asked.blind:
        return "whole"
    if not mine:
        return "own"
    answered = any(r.trace_id == asked.trace_id and r.read.verdict for r in mine)
    return "whole" if answered else "verdict"
