"""Every error a user can meet: where, what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TaucalError(Exception):
    """A failure that a person can act on: where it is, what is wrong and what to do.

    Parameters
    ----------
    problem : str
        What is wrong, with the value seen and the one expected, as in ``"Units are CNTS, expected BQML"``.
    where : str
        Which file, scan, subject, option or key. Pseudonyms only.
    hint : str
        What the reader can do about it.

    Examples
    --------
    >>> str(InputError("Units are CNTS, expected BQML", where="sub-07", hint="export the series as BQML"))
    'sub-07: Units are CNTS, expected BQML. Export the series as BQML.'
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str = "", hint: str = "") -> None:
        self.problem = problem
        self.where = where
        self.hint = hint
        super().__init__(
            " ".join(part for part in (f"{where}:" if where else "", _sentences(problem, hint)) if part)
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip between worker processes with all three parts."""
        return _rebuild, (type(self), self.__dict__.copy(), str(self))


def _sentences(*parts: str) -> str:
    """Return parts as sentences: each begins with a capital letter and ends with a full stop.

    A single part stays as it is, for it may be part of a longer text; a key or a command keeps its letters.
    """
    given = [part for part in parts if part]
    return " ".join(map(sentence, given)) if len(given) > 1 else "".join(given)


def sentence(text: str) -> str:
    """Return text with a capital letter and a full stop; a key or a command keeps its letters.

    Examples
    --------
    >>> sentence("export it again"), sentence("training.epochs is 0")
    ('Export it again.', 'training.epochs is 0.')
    """
    first = text.partition(" ")[0]
    start = first.title() if first.isalpha() and first.islower() else first
    return start + text[len(first) :] + ("" if text.endswith((".", "!", "?")) else ".")


def _rebuild(cls: type[TaucalError], state: dict[str, object], message: str) -> TaucalError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class InputError(TaucalError):
    """The call or what it was given is wrong; nothing was written. Exit code 2."""

    exit_code = 2


class OutputError(InputError):
    """The output cannot be written: the disk is full, or the folder is read-only."""


class ConfigError(InputError):
    """A study file holds a key or a value it must not hold."""


class CohortError(InputError):
    """A cohort cannot be learned from: no diagnosis, one class only, too few subjects."""


class LeakageError(InputError):
    """A subject is in two parts of a split.

    Parameters
    ----------
    subjects : iterable of str
        The subjects that are shared.
    first, second : str
        The parts they are shared by.
    """

    def __init__(self, subjects: list[str], first: str, second: str) -> None:
        self.subjects = tuple(sorted(subjects))
        shown = ", ".join(self.subjects[:10]) + (" ..." if len(self.subjects) > 10 else "")
        super().__init__(
            f"subjects in both {first} and {second}: {len(self.subjects)}",
            where=shown,
            hint="split by subject, never by scan",
        )


class RefusedScan(TaucalError):  # noqa: N818 - a refusal is an answer, not a malfunction
    """One scan is left out, with the rule it broke; the batch goes on.

    Parameters
    ----------
    rule : str
        Short machine name of the rule, as in ``"missing-slices"``.
    problem, where, hint : str
        As in `TaucalError`.
    measured : str
        The value that was seen, for the table of refusals.
    findings : sequence of `pipeline.imaging.quality.Finding`
        All that quality control had found until then, passed checks too.
    """

    exit_code = 2

    def __init__(
        self,
        rule: str,
        problem: str,
        *,
        where: str = "",
        hint: str = "",
        measured: str = "",
        findings: Sequence[Any] = (),
    ) -> None:
        self.rule = rule
        self.measured = measured
        self.findings = tuple(findings)
        super().__init__(problem, where=where, hint=hint)


UNEXPECTED = "unexpected-error"
"""Rule of a scan that met an error which no rule foresees."""


def unexpected(error: Exception) -> RefusedScan:
    """Return the refusal of a scan that met any other error; its text stays private, for it may name files.

    Examples
    --------
    >>> unexpected(KeyError("/home/smith/scan")).measured
    'KeyError'
    """
    kind = type(error).__name__
    return RefusedScan(
        UNEXPECTED,
        f"An unexpected {kind} ended the reading of this scan",
        hint="look at its files; the traceback is in the private log of an ingest, or printed by --verbose",
        measured=kind,
    )


class BundleError(InputError):
    """A stored classifier is not whole, not ours, or newer than this program."""


class TrainingError(TaucalError):
    """Training cannot go on, as when the loss is not finite."""
