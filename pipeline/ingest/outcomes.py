"""What became of each scan: a table and one page that say what was accepted, warned about and left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Literal, Protocol, Self

from pipeline.errors import RefusedScan, TaucalError
from pipeline.files import write_text

COLUMNS = ("scan", "verdict", "stage", "rule", "measured", "message")


class FindingLike(Protocol):
    """What a quality check says: a rule, a verdict, the value and its limit."""

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
    def of_findings(cls, scan: str, findings: Iterable[FindingLike], warnings: Sequence[str] = ()) -> Self:
        """Return the outcome of a scan that went through, with what is to be known about it."""
        warned = [f for f in findings if f.verdict == "warn"]
        rules = [f.rule for f in warned] + ["conversion"] * bool(warnings)
        return cls(
            scan,
            "warned" if rules else "accepted",
            "done",
            ", ".join(dict.fromkeys(rules)),
            ", ".join(f"{f.measured:.4g}" for f in warned),
            "; ".join([*(f.message for f in warned), *warnings]),
        )


def write_ingest_report(
    outcomes: Sequence[ScanOutcome], ignored: Mapping[str, int], layout: str, bids: Path
) -> Path:
    """Write ``ingest_report.tsv`` and ``ingest_report.html`` beside the derivatives.

    Parameters
    ----------
    outcomes : sequence of ScanOutcome
        One a scan found.
    ignored : mapping
        What was not read, counted.
    layout : str
        What the source was recognised as.
    bids : Path
        The dataset.

    Returns
    -------
    Path
        The page.
    """
    folder = bids / "derivatives" / "taucal"
    rows = [[str(asdict(outcome)[column]) for column in COLUMNS] for outcome in outcomes]
    lines = ["\t".join(_cell(value) for value in row) for row in ([*COLUMNS], *rows)]
    write_text(folder / "ingest_report.tsv", "\n".join(lines) + "\n")
    return write_text(folder / "ingest_report.html", _page(outcomes, ignored, layout))


def _cell(value: str) -> str:
    return " ".join(value.split()) or "n/a"


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1a1d21}
table{border-collapse:collapse;width:100%;margin:1rem 0 2rem}th,td{text-align:left;vertical-align:top;
padding:.35rem .6rem;border-bottom:1px solid #d8dce1}th{font-weight:600}
td:first-child{font-family:ui-monospace,monospace}
.refused td:nth-child(2){color:#a11212;font-weight:600}.warned td:nth-child(2){color:#7a5200;font-weight:600}
footer{color:#555c64;border-top:1px solid #d8dce1;padding-top:.5rem}
"""
# No script, no address outside the page: what a header smuggled in could do nothing, escaped or not.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _page(outcomes: Sequence[ScanOutcome], ignored: Mapping[str, int], layout: str) -> str:
    counts = Counter(outcome.verdict for outcome in outcomes)
    rules = Counter(outcome.rule for outcome in outcomes if outcome.verdict == "refused")
    order = {"refused": 0, "warned": 1, "accepted": 2}
    listed = sorted(outcomes, key=lambda outcome: (order[outcome.verdict], outcome.scan))
    told = (
        f"{len(outcomes)} scans found ({layout} layout): {counts['accepted']} accepted, "
        f"{counts['warned']} with a warning, {counts['refused']} refused."
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Ingest report</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>Ingest report</h1><p>{escape(told)}</p>",
            _table(
                "Why scans were refused", ("rule", "scans"), [(k, str(n)) for k, n in rules.most_common()]
            ),
            _table("Left alone", ("what", "how many"), [(k, str(n)) for k, n in sorted(ignored.items())]),
            _table(
                "Every scan",
                COLUMNS,
                [tuple(str(asdict(o)[c]) for c in COLUMNS) for o in listed],
                [o.verdict for o in listed],
            ),
            "</main><footer>Research use only - not for diagnostic use.</footer></body></html>",
            "",
        ]
    )


def _table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] | None = None
) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr class="{escape(name)}">' + "".join(f"<td>{escape(value)}</td>" for value in row) + "</tr>"
        for row, name in zip(rows, classes or [""] * len(rows), strict=True)
    )
    return f"<h2>{escape(title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
