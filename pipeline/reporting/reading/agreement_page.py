"""The page of agreement: how often readers change the model's answers, and where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files import write_text
from pipeline.reporting.page.facts import Facts, Named, Text, counted_share, percent_range
from pipeline.reporting.page.html import Page

if TYPE_CHECKING:  # the list of reports does without statistics
    from pipeline.evaluation.monitoring.agreement import Agreement, OverrideRate

AGREEMENT_NAME = "agreement.html"
TITLES = {
    "confidence": "By the confidence of the finding",
    "decision": "By the model's decision",
    "version": "By version of the model",
    "blind": "By what the reader had seen",
    "month": "By month of the read",
}


class RateRow(Facts):
    """The overrides of one group of reads."""

    label: Text
    overrides: int
    reads: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, rate: OverrideRate) -> RateRow:
        """Take it from what was counted."""
        return cls(
            label=rate.label,
            overrides=rate.overrides,
            reads=rate.reads,
            share=rate.share,
            low=rate.low,
            high=rate.high,
        )

    @property
    def words(self) -> str:
        """The share with its interval; of no read nothing is known."""
        if not self.reads:
            return "no read"
        return f"{counted_share(self.overrides, self.reads)} ({percent_range(self.low, self.high)})"


class AgreementReport(Facts):
    """All facts of the page."""

    report_date: Text
    run_id: Text = ""
    synthetic: bool = False
    title: Text
    overall: RateRow
    scans: int
    readers: int
    open_reads: int
    groups: dict[str, tuple[RateRow, ...]]
    reasons: tuple[Named, ...]
    read_twice: int
    agreed: int
    classed: int
    same_class: int
    labels: Text


def build_agreement_report(
    agreement: Agreement, title: str, date: str, labels: str, *, synthetic: bool = False
) -> AgreementReport:
    """Take the facts of the page from what was counted; `labels` states whether reads become labels."""
    return AgreementReport(
        report_date=date,
        synthetic=synthetic,
        title=title,
        overall=RateRow.of(agreement.overall),
        scans=agreement.scans,
        readers=agreement.readers,
        open_reads=agreement.open_reads,
        groups={name: tuple(map(RateRow.of, rates)) for name, rates in agreement.groups.items()},
        reasons=tuple(Named(label=name, value=n) for name, n in agreement.reasons),
        read_twice=agreement.read_twice,
        agreed=agreement.agreed,
        classed=agreement.classed,
        same_class=agreement.same_class,
        labels=labels,
    )


def write_agreement_page(report: AgreementReport, folder: Path) -> Path:
    """Write ``agreement.html``; return its path."""
    page = Page("agreement.html.j2", report, f"Agreement of {report.title}", {"titles": TITLES})
    return write_text(folder / AGREEMENT_NAME, page.html())
