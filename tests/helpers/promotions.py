"""Decisions about versions, and what came of them in the registry and the audit."""

from __future__ import annotations

from flows.retraining.approval import HumanAnswer, answer
from flows.retraining.promotion import (
    Decision,
)
from pipeline import tracking


def approve(store, output, name):
    return answer(store, output, HumanAnswer(approved=True, name=name)).version


def told(version, key):
    return Decision(version, key, "ann", ("It is no worse.",), {"n": 1})


def aliases(store) -> tuple[int | None, int | None, int | None]:
    """Return champion, previous, challenger."""
    names = (tracking.CHAMPION, tracking.PREVIOUS, tracking.CHALLENGER)
    return tuple(tracking.champion_version(store, name) for name in names)


def decided(output) -> list[tuple[str, int | None, int | None, str]]:
    return [(e.kind, e.version, e.over, e.who) for e in tracking.audit_of(output).entries()]
