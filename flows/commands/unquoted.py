"""Paths with a space that were typed without quotes: the shell hands their words over one by one."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

_LEFT_OVER = "unexpected extra argument"
_NO_FILE = "does not exist"


def quotes_advice(words: Sequence[str], problem: str) -> str:
    """Return what to do where missing quotes are the cause of an error, or may be it; else an empty text.

    Parameters
    ----------
    words : sequence of str
        What was typed: the name of the command, and all after it.
    problem : str
        The error.

    Examples
    --------
    >>> quotes_advice(["train", "my", "study.yaml"], "Got unexpected extra argument(s) (study.yaml)")
    'A path that contains a space needs quotes.'
    >>> quotes_advice(["train", "study.yaml"], "No such option: --what")
    ''
    """
    runs = list(_runs(words[1:]))
    for run in runs:
        for path in _joined(run):
            if _exists(path):
                return f"This path contains a space: write it in quotes, {shlex.quote(path)}."
    missing = _NO_FILE in problem and any(map(_may_be_torn, runs, repeat(problem)))
    typed = [word for run in runs for word in run]
    # Where each word is a path of its own, no quotes are missing.
    left_over = _LEFT_OVER in problem and not all(map(_exists, typed))
    return "A path that contains a space needs quotes." if missing or left_over else ""


def _may_be_torn(run: Sequence[str], problem: str) -> bool:
    """Return whether a word that the problem names has a neighbour that is no path of its own either."""
    absent = [not _exists(word) for word in run]
    named = [f"'{word}'" in problem for word in run]
    pairs = zip(range(len(run) - 1), range(1, len(run)), strict=True)
    return any(absent[i] and absent[j] and (named[i] or named[j]) for i, j in pairs)


def _runs(words: Sequence[str]) -> Iterator[list[str]]:
    """Split at options: only the words between two of them can be of one path."""
    run: list[str] = []
    for word in words:
        if word.startswith("-"):
            yield run
            _, sign, value = word.partition("=")
            run = [value] if sign else []
        else:
            run.append(word)
    yield run


def _joined(run: Sequence[str]) -> Iterator[str]:
    """Yield two or more adjacent words as one, the most first."""
    for count in range(len(run), 1, -1):
        for first in range(len(run) - count + 1):
            yield " ".join(run[first : first + count])


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError):  # longer than a name can be, or of a user who is not known
        return False
