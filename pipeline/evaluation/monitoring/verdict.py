"""What the gate answers: the outcome of each check, and what follows from all of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

GateOutcome = Literal["promote", "reject", "wait"]


@dataclass(frozen=True)
class GateCheck:
    """One check of the challenger.

    Parameters
    ----------
    name : str
        ``"negative_log_likelihood"``, ``"classwise_ece"``, ``"balanced_accuracy"``, ``"baseline"`` or
        ``"conformal_coverage."`` with a class.
    value : float
        How much worse than its rival the challenger is, below zero where it is better; for coverage the share
        of scans whose set holds their class, NaN where there is no scan.
    low, high : float
        One-sided limits of `value`.
    limit : float
        The NLL passes where `high` is at or below it. Other comparisons fail where `value` is above it and
        `low` above zero, coverage where `value` is below it.
    undecided : bool
        The check has not passed, and more scans can change that.
    luck : float
        What of `value` is likely luck of a champion that was chosen on the same scans: `low` must exceed it
        to fail, and once later scans were looked at, `high` may exceed `limit` by it.
    """

    name: str
    passed: bool
    value: float
    low: float
    high: float
    limit: float
    sentence: str
    undecided: bool = False
    luck: float = 0.0

    @property
    def outcome(self) -> str:
        """``"passed"``, ``"undecided"`` or ``"failed"``."""
        return "passed" if self.passed else "undecided" if self.undecided else "failed"


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may become champion, and why.

    Examples
    --------
    >>> check = GateCheck("baseline", False, 0.1, 0.0, 0.2, 0.0, "NLL is 0.9, that of the baseline 0.8.")
    >>> Verdict(False, (check,)).outcome, Verdict(False, (check,)).reasons
    ('reject', ('NLL is 0.9, that of the baseline 0.8.',))
    """

    passed: bool
    checks: tuple[GateCheck, ...]

    @property
    def outcome(self) -> GateOutcome:
        """``"wait"`` where no check has failed, and the one that decides has not passed either."""
        if self.passed:
            return "promote"
        open_checks = all(check.passed or check.undecided for check in self.checks)
        return "wait" if open_checks else "reject"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences of the checks that failed; else of those that did not pass; else of all."""
        open_checks = tuple(check for check in self.checks if not check.passed)
        failed = tuple(check for check in open_checks if not check.undecided)
        return tuple(check.sentence for check in failed or open_checks or self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values; JSON has no NaN, so a value that is not known is None."""
        checks = [
            {
                name: None if isinstance(v, float) and not math.isfinite(v) else v
                for name, v in asdict(check).items()
            }
            for check in self.checks
        ]
        return {"passed": self.passed, "outcome": self.outcome, "checks": checks}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Verdict:
        """Read what `to_dict` returned."""
        numbers = ("value", "low", "high", "limit")
        checks = (
            GateCheck(**{**c, **{name: math.nan if c[name] is None else float(c[name]) for name in numbers}})
            for c in value["checks"]
        )
        return cls(bool(value["passed"]), tuple(checks))


@dataclass(frozen=True)
class Look:
    """One judgement of a challenger: on how many subjects, and the chance of error spent by then."""

    subjects: int
    spent: float
