"""The report of an ingest: which scans were refused and why, and which classes the others have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.diagnoses import DIAGNOSIS
from pipeline.files import write_text
from pipeline.ingest.outcomes import ScanOutcome
from pipeline.reporting.ingest.outlines import outline_path
from pipeline.reporting.page.facts import Facts, Named, Text
from pipeline.reporting.page.html import Page, data_uri
from pipeline.scan import Cohort


class OutcomeRow(Facts):
    """One scan; `message` states what is wrong and what to do."""

    scan: Text
    verdict: Text
    stage: Text
    rule: Text
    measured: Text
    message: Text


class IngestReport(Facts):
    """All facts of the page; without a date, so that the same scans give the same bytes."""

    report_date: Text = ""
    run_id: Text = ""
    synthetic: bool
    layout: Text
    refused: tuple[OutcomeRow, ...]
    warned: tuple[OutcomeRow, ...]
    accepted: tuple[OutcomeRow, ...]
    rules: tuple[Named, ...]
    ignored: tuple[Named, ...]
    subjects: int
    classes: dict[str, tuple[int, int]]
    without_diagnosis: int
    silent: int = 0
    target: Text = DIAGNOSIS

    @property
    def found(self) -> int:
        """Number of PET scans."""
        return len(self.refused) + len(self.warned) + len(self.accepted)

    @property
    def all_silent(self) -> bool:
        """Whether no source states the target of any usable scan: counts by class would be zeros."""
        usable = self.without_diagnosis + sum(scans for scans, _ in self.classes.values())
        return 0 < self.silent == usable


def build_ingest_report(
    outcomes: Sequence[ScanOutcome],
    ignored: Mapping[str, int],
    layout: str,
    cohort: Cohort,
    *,
    silent: int = 0,
    target: str = DIAGNOSIS,
) -> IngestReport:
    """Assemble the report of an ingest.

    Parameters
    ----------
    outcomes : sequence of ScanOutcome
        One for each scan of the dataset.
    ignored : mapping of str to int
        What is no scan of the tracer, counted.
    layout : str
        Of the source.
    cohort : Cohort
        The scans that can be used, with their diagnoses.
    silent : int
        Scans of the cohort about which no source states anything.
    target : str
        What the classes are of.
    """
    rows = [OutcomeRow(**asdict(o)) for o in sorted(outcomes, key=lambda o: (o.rule, o.scan))]
    rules = Counter(row.rule for row in rows if row.verdict == "refused")
    of_class = {c: [s.subject for s in cohort.scans if s.diagnosis == c] for c in cohort.class_names}
    return IngestReport(
        synthetic=any(scan.posterior is not None for scan in cohort.scans),
        layout=layout,
        refused=tuple(row for row in rows if row.verdict == "refused"),
        warned=tuple(row for row in rows if row.verdict == "warned"),
        accepted=tuple(row for row in rows if row.verdict == "accepted"),
        rules=tuple(Named(label=rule, value=n) for rule, n in rules.most_common()),
        ignored=tuple(Named(label=what, value=n) for what, n in sorted(ignored.items())),
        subjects=len({scan.subject for scan in cohort.scans}),
        classes={c: (len(subjects), len(set(subjects))) for c, subjects in of_class.items()},
        without_diagnosis=sum(scan.diagnosis is None for scan in cohort.scans),
        silent=silent,
        target=target,
    )


def write_ingest_page(report: IngestReport, folder: Path, images: Mapping[str, Path] | None = None) -> Path:
    """Write ``ingest_report.html``; return its path. Tables for programs are written by the ingest.

    Parameters
    ----------
    images : mapping of str to Path, optional
        Normalised image of each scan, by its name on the page. The picture beside it is shown, where there is
        one: scans that were ingested by earlier versions have none.
    """
    pictures = {scan: outline_path(image) for scan, image in (images or {}).items()}
    outlines = {scan: data_uri(path.read_bytes()) for scan, path in pictures.items() if path.is_file()}
    page = Page("ingest.html.j2", report, "Ingest report", {"outlines": outlines})
    return write_text(folder / "ingest_report.html", page.html())
