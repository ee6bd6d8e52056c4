"""What the form for readers shows of the ledger."""

from __future__ import annotations

from collections.abc import Mapping

from flows.reports.read_desk import ReadDesk
from pipeline import tracking
from pipeline.evaluation.monitoring.reads import current_reads
from pipeline.reporting.page.html import Page
from pipeline.reporting.reading.read_page import (
    DECISIONS,
    MOST_LISTED,
    FormFacts,
    IndexFacts,
    ListedScan,
    ReadRow,
    ShownAnswer,
    form_page,
    index_page,
    step_of,
    values_of,
)

_MOST_ANSWERS = 1000


def index_of(desk: ReadDesk, reader: str) -> Page:
    """Return the list of scans: those that the reader, or anybody, has not read come first."""
    by_scan: dict[str, list[tracking.LedgerEntry]] = {}
    answers = tracking.answered_scans(desk.store, newest=_MOST_ANSWERS)
    for entry in answers:
        by_scan.setdefault(entry.scan, []).append(entry)
    initials = reader.strip().upper()[:6]
    unread: list[ListedScan] = []
    read: list[ListedScan] = []
    for scan, entries in list(by_scan.items())[:MOST_LISTED]:
        current = current_reads([r for entry in entries for r in entry.reads])
        readers = tuple(r.read.reader for r in current)
        decision = str(entries[0].answer.get("decision", ""))
        row = ListedScan(
            scan=scan,
            time=entries[0].time,
            version=entries[0].version,
            decision=DECISIONS.get(decision, decision),
            readers=readers,
        )
        done = any(r.read.verdict and r.read.reader == (initials or r.read.reader) for r in current)
        (read if done else unread).append(row)
    return index_page(
        IndexFacts(
            synthetic=any(entry.measured.get("synthetic") for entry in answers),
            title=desk.study.name,
            reader=initials,
            blind=desk.study.report.blind_reads,
            unread=tuple(unread),
            read=tuple(read),
            more=len(answers) == _MOST_ANSWERS or len(by_scan) > MOST_LISTED,
        )
    )


def form_of(  # noqa: PLR0913 - what a form may hold, by name
    desk: ReadDesk,
    scan: str,
    token: str,
    *,
    reader: str = "",
    values: Mapping[str, str] | None = None,
    wrong: tuple[str, str] | None = None,
    stored: int | None = None,
) -> Page:
    """Return the form of a scan.

    Parameters
    ----------
    token : str
        By which the server knows its form again.
    values : mapping of str to str, optional
        What was sent, where it was refused.
    wrong : tuple of str, optional
        Field and sentence of the error.
    stored : int, optional
        The entry that was just written.
    """
    entry, reads = desk.find(scan)
    asked = desk.asked(entry)
    initials = reader.strip().upper()[:6]
    step = step_of(asked, reads, initials)
    mine = [r for r in current_reads(reads) if r.read.reader == initials]
    held = values_of(mine[-1]) if mine else {"reader": initials}
    hidden = step == "own"
    return form_page(
        FormFacts(
            synthetic=bool(entry.measured.get("synthetic")),
            scan=entry.scan,
            version=entry.version,
            answered=entry.time,
            step=step,
            blind=asked.blind,
            answer=None if hidden else ShownAnswer.of(entry.answer),
            reads=() if hidden else tuple(ReadRow.of(r) for r in entry.reads),
            classes=tuple(asked.classes),
            values={**held, **(values or {})},
            wrong=wrong,
            stored=stored if any(r.number == stored for r in mine) else None,
        ),
        token,
    )
