"""A person's answer about the version that waits for approval: the first one decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.retraining.promotion import (
    MOVES,
    Decision,
    record_decision,
    retraining_lock,
    settle,
    waiting,
)
from pipeline import tracking
from pipeline.errors import InputError
from pipeline.files import whoami


@dataclass(frozen=True)
class HumanAnswer:
    """What a person answers about the version that waits.

    Parameters
    ----------
    approved : bool
        Whether it becomes the champion; else it is declined, and the champion stays.
    name : str
        Who answers.
    reason : str
        In the person's own words; may be empty.
    place : str
        Where it was typed: the login of the command line, or Prefect's page.
    """

    approved: bool
    name: str
    reason: str = ""
    place: str = ""


class NothingWaits(InputError):  # noqa: N818 - reads as "nothing waits"
    """No version waits for an answer: it was decided about, or another took its place."""


def answer(
    store: tracking.Store, output: Path, given: HumanAnswer, *, asked: int | None = None, wait: bool = False
) -> tracking.Entry:
    """Carry out what a person answered about the version that waits; return the entry of the audit log.

    The first answer decides, wherever it was given.

    Parameters
    ----------
    output : Path
        The study's output folder.
    asked : int, optional
        Number of the entry that the person was asked about; the one that waits now where not given.
    wait : bool
        Wait for a retraining that is under way, or refuse at once.

    Raises
    ------
    NothingWaits
        If none waits, or another than the person was asked about; what happened instead is named.
    InputError
        If the name is empty, or a retraining is under way.
    """
    name, reason = " ".join(given.name.split()), " ".join(given.reason.split())
    if not name:
        raise InputError("The name is empty", where="--approve", hint="give the name of who approves")
    with retraining_lock(output, wait=wait):
        finished = settle(store, output)
        if finished and finished.kind == "approve" and given.approved:
            return finished  # its last approval was interrupted
        held = waiting(store, output)
        if held is None or held.version is None or asked not in (None, held.number):
            raise _nothing_waits(store, output, asked)
        verb = "approves" if given.approved else "rejects"
        why = f": {reason.rstrip('.')}" if reason else ""
        reasons = (f"{name} {verb} entry {held.number}{why}.", *held.reasons)
        facts = {"held": held.number, "typed_by": given.place or whoami()}
        decision = Decision(held.version, held.key, name, reasons, facts)
        entry = record_decision("approve" if given.approved else "decline", store, output, decision)
        settle(store, output)
        return entry


def _nothing_waits(store: tracking.Store, output: Path, asked: int | None) -> NothingWaits:
    champion = tracking.champion_version(store) or "none"
    happened = what_happened(output, asked)
    return NothingWaits(
        f"No version waits for approval; the champion is {champion}" + (f". {happened}" if happened else ""),
        where=str(output),
        hint="`taucal audit` lists the decisions",
    )


def answered(output: Path, key: str) -> Literal["promoted", "rejected"] | None:
    """Return what a person has answered about a decision before, or None: nobody is asked twice."""
    kinds = {entry.kind for entry in tracking.audit_of(output).entries() if entry.key == key}
    return "promoted" if "approve" in kinds else "rejected" if "decline" in kinds else None


def what_happened(output: Path, asked: int | None = None) -> str:
    """Return in a sentence what ended the waiting of a version that was held; empty where none was held.

    Parameters
    ----------
    asked : int, optional
        Number of the entry by which it was held; the last such entry where not given.
    """
    entries = tracking.audit_of(output).entries()
    held = next((e for e in reversed(entries) if e.kind == "hold" and asked in (None, e.number)), None)
    if held is None:
        return ""
    ended = next((e for e in entries[held.number :] if e.kind in ("hold", "decline", *MOVES)), None)
    if ended is None:
        return f"The champion was moved in MLflow after version {held.version} was held"
    what = {
        "approve": f"{ended.who} approved version {ended.version}",
        "decline": f"{ended.who} rejected version {ended.version}",
        "hold": f"Version {ended.version} waits in place of version {held.version}",
        "promote": f"{ended.who} promoted version {ended.version}",
        "rollback": f"{ended.who} rolled back to version {ended.version}",
    }[ended.kind]
    return f"{what} at {ended.time} (entry {ended.number} of the audit log)"
