"""What became of each scan: accepted, accepted with a warning, or refused and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

from pipeline.errors import RefusedScan, TaucalError
from pipeline.files import write_text

COLUMNS = ("scan", "verdict", "stage", "rule", "measured", "message")


class FindingLike(Protocol):
    """What a quality check found: a rule, a verdict, the value and its limit."""

    @property
    def rule(self) -> str: ...  # noqa: D102
    @property
    def verdict(self) -> str: ...  # noqa: D102
    @property
    def measured(self) -> float: ...  # noqa: D102
    @property
    def message(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class ScanOutcome:
    """What became of one scan.

    Parameters
    ----------
    scan : str
        Pseudonymous label.
    verdict : {"accepted", "warned", "refused"}
    stage : str
        Where it was decided: ``"conversion"``, ``"imaging"`` or ``"done"``.
    rule : str
        Machine name of the rule that was broken; several are joined by ``", "``; empty where none.
    measured : str
        The value seen.
    message : str
        In words.
    """

    scan: str
    verdict: Literal["accepted", "warned", "refused"]
    stage: str = "done"
    rule: str = ""
    measured: str = ""
    message: str = ""

    @classmethod
    def of_refusal(cls, scan: str, stage: str, refusal: RefusedScan) -> Self:
        """Return the outcome of a scan that was left out.

        Examples
        --------
        >>> refusal = RefusedScan("missing-slices", "A series must have every slice", measured="1 of 90")
        >>> ScanOutcome.of_refusal("sub-A_ses-B", "conversion", refusal).rule
        'missing-slices'
        """
        words = str(TaucalError(refusal.problem, hint=refusal.hint))
        return cls(scan, "refused", stage, refusal.rule, refusal.measured, words)

    @classmethod
    def of_findings(
        cls,
        scan: str,
        findings: Iterable[FindingLike],
        warnings: Sequence[str] = (),
        label_notes: Sequence[str] = (),
    ) -> Self:
        """Return the outcome of a scan that went through; that it has no label is stated, and no warning."""
        warned = [f for f in findings if f.verdict == "warn"]
        rules = [f.rule for f in warned] + ["conversion"] * bool(warnings)
        return cls(
            scan,
            "warned" if rules else "accepted",
            "done",
            ", ".join(dict.fromkeys(rules)),
            _values(warned),
            "; ".join([*(f.message for f in warned), *warnings, *label_notes]),
        )


def _values(findings: Sequence[FindingLike]) -> str:
    """Return the values of findings as their messages state them; nothing where none was measured."""
    if all(math.isnan(f.measured) for f in findings):
        return ""
    return ", ".join("n/a" if math.isnan(f.measured) else f"{f.measured:.3g}" for f in findings)


def write_outcomes(outcomes: Sequence[ScanOutcome], folder: Path) -> Path:
    """Write ``ingest_report.tsv``, one row a scan; return its path."""
    rows = [[str(asdict(outcome)[column]) for column in COLUMNS] for outcome in outcomes]
    lines = ["\t".join(_cell(value) for value in row) for row in ([*COLUMNS], *rows)]
    return write_text(folder / "ingest_report.tsv", "\n".join(lines) + "\n")


def _cell(value: str) -> str:
    return " ".join(value.split()) or "n/a"
