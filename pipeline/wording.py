"""Words that messages, tables and pages share."""

from __future__ import annotations

from collections.abc import Mapping


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, whose plural ends in s.

    Examples
    --------
    >>> counted(1, "scan"), counted(0, "scan")
    ('1 scan', '0 scans')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def counts_of(kinds: Mapping[str, int]) -> str:
    """Return what was counted, in order, where the names are plural and a count may be one.

    Examples
    --------
    >>> counts_of({"MR images": 3, "CT images": 1})
    'CT images (1), MR images (3)'
    """
    return ", ".join(f"{what} ({count})" for what, count in sorted(kinds.items()))
