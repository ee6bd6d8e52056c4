"""Every error a user can meet: the problem, whose it is, and how to mend it."""

from __future__ import annotations


class TaucalError(Exception):
    """A failure that is told to a person: problem, culprit and mend in one sentence.

    Parameters
    ----------
    problem : str
        The thing, the rule it broke and the value seen, as in ``"Units must be BQML, got CNTS"``.
    culprit : str
        Which file, scan, subject or key. Pseudonyms only.
    mend : str
        What the reader can do about it.

    Examples
    --------
    >>> str(InputError("Units must be BQML, got CNTS", culprit="sub-07", mend="export the series as BQML"))
    'Units must be BQML, got CNTS in sub-07: export the series as BQML'
    """

    exit_code = 1

    def __init__(self, problem: str, *, culprit: str = "", mend: str = "") -> None:
        self.problem = problem
        self.culprit = culprit
        self.mend = mend
        where = f" in {culprit}" if culprit else ""
        what_to_do = f": {mend}" if mend else ""
        super().__init__(f"{problem}{where}{what_to_do}")

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip between worker processes with all three parts."""
        return _rebuild, (type(self), self.__dict__.copy(), str(self))


def _rebuild(cls: type[TaucalError], state: dict[str, object], message: str) -> TaucalError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class InputError(TaucalError):
    """The call or what it was given is wrong; nothing was written. Exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """A study file holds a key or a value it must not hold."""


class CohortError(InputError):
    """A cohort cannot be learned from: no diagnosis, one class only, too few subjects."""


class LeakageError(InputError):
    """A subject stands in two parts of a split.

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
            f"A subject must stand in one part of a split only, got {len(self.subjects)} in both "
            f"{first} and {second}",
            culprit=shown,
            mend="split by subject, never by scan",
        )


class RefusedScan(TaucalError):  # noqa: N818 - a refusal is an answer, not a malfunction
    """One scan is left out, with the rule it broke; the batch goes on.

    Parameters
    ----------
    rule : str
        Short machine name of the rule, as in ``"missing-slices"``.
    problem, culprit, mend : str
        As in `TaucalError`.
    measured : str
        The value that was seen, for the table of refusals.
    """

    exit_code = 2

    def __init__(
        self, rule: str, problem: str, *, culprit: str = "", mend: str = "", measured: str = ""
    ) -> None:
        self.rule = rule
        self.measured = measured
        super().__init__(problem, culprit=culprit, mend=mend)


class BundleError(InputError):
    """A stored classifier is not whole, not ours, or newer than this program."""


class TrainingError(TaucalError):
    """Training cannot go on, as when the loss is not finite."""
