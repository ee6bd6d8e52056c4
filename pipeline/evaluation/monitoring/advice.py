"""What follows from the tests for shift of a champion, in the same words on pages and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_WEAKEST_FIRST = ("nothing", "unknown", "recalibrate", "retrain")
"""``unknown``: of a result that cannot be read."""


def advice_of(answer: str, *, tested: bool) -> str:
    """Return in words what an answer asks for.

    Parameters
    ----------
    answer : {"nothing", "unknown", "recalibrate", "retrain"}
    tested : bool
        Whether any test was made: without one nothing is known of a change, and ``nothing`` is no advice.

    Examples
    --------
    >>> advice_of("nothing", tested=True), advice_of("nothing", tested=False)
    ('No action is needed', 'Not tested')
    >>> advice_of("retrain", tested=False)  # found by an earlier test
    'Retrain the champion'
    """
    if answer == "nothing":
        return "No action is needed" if tested else "Not tested"
    return "Not known" if answer == "unknown" else f"{answer.capitalize()} the champion"


def standing_answer(
    newest: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]
) -> tuple[str, tuple[str, ...]]:
    """Return the strongest answer of all tests of a champion, which holds until there is another, and why.

    Parameters
    ----------
    newest : mapping
        Its ``answer`` and ``reasons``.
    earlier : sequence of mapping
        The same of the other tests of this champion, the newest last.

    Examples
    --------
    >>> newest = {"answer": "nothing", "reasons": ["No scan is new."]}
    >>> standing_answer(newest, [{"answer": "retrain", "reasons": ["SUVR is higher."]}])
    ('retrain', ('No scan is new.', 'An earlier check found: SUVR is higher.'))
    """
    reasons = tuple(newest["reasons"])
    strongest = max((found["answer"] for found in (*earlier, newest)), key=_WEAKEST_FIRST.index)
    if strongest == newest["answer"]:
        return strongest, reasons
    found = next(test for test in reversed(earlier) if test["answer"] == strongest)
    return strongest, (*reasons, *(f"An earlier check found: {reason}" for reason in found["reasons"]))
