"""Moves of the champion: each is written to the audit log first, then the aliases follow.

A process that is killed between the two leaves a decision that `settle` carries out.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.running.console import say
from flows.running.locks import locked
from pipeline import tracking
from pipeline.errors import InputError

MOVES = ("promote", "approve", "rollback")
"""Decisions that move the champion."""
_REGISTERED = "registered_ms"
"""Fact that distinguishes a version from one of the same number in a registry that was created again."""


@dataclass(frozen=True)
class Decision:
    """A decision about a version, for the audit log.

    Parameters
    ----------
    key : str
        The same key is the same decision.
    who : str
        Name recorded in the audit log.
    facts : mapping
        JSON-able.
    """

    version: int
    key: str
    who: str
    reasons: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


def retraining_lock(output: Path, *, wait: bool) -> AbstractContextManager[bool]:
    """Let one retraining or promotion of a study happen at a time; the lock of a crashed one is free.

    Parameters
    ----------
    output : Path
        The study's output folder.
    wait : bool
        Wait for the holder, or refuse at once.

    Raises
    ------
    InputError
        If another process holds it and `wait` is false; process, user and start are named.
    """
    return locked(output / ".retrain.lock", "study's champion", wait=wait)


def settle(store: tracking.Store, output: Path) -> tracking.Entry | None:
    """Carry out the newest move in the audit log, where a crash came before its aliases; return it.

    A move that was carried out is not done again, so aliases that somebody set in MLflow since stay.
    """
    entry = tracking.audit_of(output).last(*MOVES)
    if entry is None or entry.version is None:
        return None
    if not _same_version(store, entry):
        say(f"Version {entry.version}, which entry {entry.number} of the audit log made champion, is gone.")
        return None
    if tracking.decision_of(store, entry.version) == entry.sha256:
        return None
    tracking.point(store, entry.version, entry.over)
    tracking.set_decision(store, entry.version, entry.sha256)
    return entry


def move(store: tracking.Store, output: Path, decision: Decision) -> None:
    """Make a version the champion; the one before becomes `previous`. Under the retraining lock.

    A decision that was carried out before moves nothing again: what was rolled back since stays so.

    Raises
    ------
    InputError
        If the version is not registered.
    """
    settle(store, output)
    if tracking.champion_version(store) != decision.version:
        record_decision("promote", store, output, decision)
        settle(store, output)


def hold(store: tracking.Store, output: Path, decision: Decision) -> None:
    """Let a version that passed the gate wait for a person's `answer`; raises as `move`."""
    entry = record_decision("hold", store, output, decision)
    if waiting(store, output) == entry:
        tracking.challenge(store, decision.version)


def reject(store: tracking.Store, output: Path, decision: Decision) -> None:
    """Record that a version did not pass the gate; it stays challenger. Raises as `move`."""
    record_decision("reject", store, output, decision)
    if tracking.champion_version(store) != decision.version:
        tracking.challenge(store, decision.version)


def wait(store: tracking.Store, output: Path, decision: Decision) -> None:
    """Record that later scans decide about a version; it is challenger meanwhile. Raises as `move`."""
    record_decision("wait", store, output, decision)
    if undecided(store, output) is not None:
        tracking.challenge(store, decision.version)


def undecided(store: tracking.Store, output: Path) -> tracking.Entry | None:
    """Return the newest decision about a version that waits for later scans, or None.

    It waits no more once anything was decided about it, or the champion it was judged against has moved.
    """
    entry = tracking.audit_of(output).last("wait", "reject", "hold", *MOVES)
    if entry is None or entry.kind != "wait" or not _same_version(store, entry):
        return None
    return entry if tracking.champion_version(store) == entry.over else None


def waiting(store: tracking.Store, output: Path) -> tracking.Entry | None:
    """Return the decision that waits for approval, or None.

    It is the newest that was held, unless it was declined, or the champion it was judged against has moved.
    """
    entry = tracking.audit_of(output).last("hold", "decline", *MOVES)
    if entry is None or entry.kind != "hold" or not _same_version(store, entry):
        return None
    return entry if tracking.champion_version(store) == entry.over else None


def chosen_by(store: tracking.Store, output: Path, version: int) -> tracking.Entry | None:
    """Return the gate's newest decision for a version, or None where it never passed the gate."""
    entries = tracking.audit_of(output).entries()
    found = (e for e in reversed(entries) if e.kind in ("promote", "hold") and e.version == version)
    return next((e for e in found if "gate" in e.facts and _same_version(store, e)), None)


def promote_by_hand(store: tracking.Store, output: Path, version: int, who: str) -> None:
    """Make a version the champion without asking the gate; one that is champion already stays so.

    Raises
    ------
    InputError
        If the version is not registered, or a retraining is under way.
    """
    with retraining_lock(output, wait=False):
        move(store, output, Decision(version, _key_of_next(output), who, ("Promoted by hand.",)))


def roll_back(store: tracking.Store, output: Path, who: str) -> int:
    """Swap the champion and the one before; return the version that is champion now.

    Raises
    ------
    InputError
        If there is no previous champion, or a retraining is under way.
    """
    with retraining_lock(output, wait=False):
        finished = settle(store, output)
        if finished and finished.version and finished.kind == "rollback":
            return finished.version  # a second swap would reverse the one that was interrupted
        now, before = tracking.champion_and_previous(store)
        reasons = (f"Rolled back by hand from version {now}.",)
        record_decision("rollback", store, output, Decision(before, _key_of_next(output), who, reasons))
        settle(store, output)
        return before


def checked_audit(store: tracking.Store, output: Path) -> tuple[tracking.Entry, ...]:
    """Return the audit's entries, the newest last, once nothing is found to be altered or missing.

    Raises
    ------
    InputError
        If the chain of entries is broken, or lacks the entry that made the champion.
    """
    audit = tracking.audit_of(output)
    audit.verify()
    entries = audit.entries()
    champion = tracking.champion_version(store)
    decision = None if champion is None else tracking.decision_of(store, champion)
    if decision is not None and decision not in {entry.sha256 for entry in entries}:
        raise InputError(
            f"The audit log lacks the entry that made version {champion} champion; it has "
            f"{len(entries)} others",
            where=str(audit.path),
            hint="find out who replaced it and restore a copy from a backup",
        )
    return entries


def record_decision(kind: str, store: tracking.Store, output: Path, decision: Decision) -> tracking.Entry:
    """Write a decision about a registered version to the audit log. Under the retraining lock.

    Raises
    ------
    InputError
        If the version is not registered.
    """
    registered = tracking.registered_ms(store, decision.version)
    if registered is None:
        raise InputError(
            f"Version {decision.version} is not registered",
            where=f"{store.model_name} at {store.address}",
            hint="choose one that MLflow lists",
        )
    return tracking.audit_of(output).append(
        kind, key=decision.key, who=decision.who, version=decision.version,
        over=tracking.champion_version(store), reasons=decision.reasons,
        facts={**decision.facts, _REGISTERED: registered},
    )  # fmt: skip


def _same_version(store: tracking.Store, entry: tracking.Entry) -> bool:
    if entry.version is None:
        return False
    return tracking.registered_ms(store, entry.version) == entry.facts.get(_REGISTERED)


def _key_of_next(output: Path) -> str:
    # Each move by hand is a decision of its own; the number is safe under the lock.
    last = tracking.audit_of(output).last()
    return f"by hand {1 if last is None else last.number + 1}"
