"""Words that messages, tables and pages share."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, whose plural ends in s.

    Examples
    --------
    >>> counted(1, "scan"), counted(0, "scan")
    ('1 scan', '0 scans')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
