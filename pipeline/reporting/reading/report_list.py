"""The list of all reports in a folder: a page that needs no server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

from pipeline.evaluation.monitoring.reads import AnsweredRead
from pipeline.files import read_json, write_text
from pipeline.reporting.page.facts import Facts, Text
from pipeline.reporting.page.html import Page
from pipeline.reporting.page.reasons import in_words
from pipeline.reporting.reading.agreement_page import AGREEMENT_NAME
from pipeline.reporting.scan.scan_numbers import Quality, Verdict
from pipeline.reporting.scan.tau_status import TauStatus
from pipeline.reporting.scan.viewer_page import VIEWER_NAME

LIST_NAME = "index.html"
QUALITIES = {"pass": "passed", "warn": "warning", "refuse": "refused"}


class ListedReport(Facts):
    """One report; the answer is hidden in a blind study as long as nobody has read the scan.

    The viewer holds no answer of the model, so it is never hidden.
    """

    scan: Text
    link: str
    pdf: str = ""
    viewer: str = ""
    date: Text
    version: Text
    verdict: Verdict
    headline: Text
    tau: Text
    reasons: tuple[Text, ...]
    quality: Quality
    reads: tuple[Text, ...]
    hidden: bool


class ReportList(Facts):
    """All facts of the page; `report_date` is that of the newest report."""

    report_date: Text
    run_id: Text = ""
    synthetic: bool
    title: Text
    reports: tuple[ListedReport, ...]
    unreadable: tuple[Text, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each decision, and how many that nobody has read."""
        verdicts = [r.verdict for r in self.reports]
        found = {name: verdicts.count(name) for name in get_args(Verdict)}
        return found | {"unread": sum(not r.reads for r in self.reports)}


@dataclass(frozen=True)
class _Found:
    report: ListedReport
    synthetic: bool
    written_ns: int


def build_report_list(
    folder: Path, reads: Iterable[AnsweredRead], title: str, *, blind: bool = False
) -> ReportList:
    """Read the reports below a folder, the newest first.

    Parameters
    ----------
    folder : Path
        Holds a folder with a ``report.json`` for each scan.
    reads : iterable of AnsweredRead
        Of the study.
    title : str
        Of the study.
    blind : bool
        Whether a reader must not see an answer before the read.
    """
    by_scan: dict[str, list[AnsweredRead]] = {}
    for read in reads:
        by_scan.setdefault(read.scan, []).append(read)
    found, unreadable = [], []
    for path in sorted(folder.glob("*/report.json")):
        try:
            found.append(_listed(path, by_scan, blind=blind))
        except (OSError, ValueError, KeyError, TypeError):
            unreadable.append(path.parent.name)
    found.sort(key=lambda f: (f.report.date, f.written_ns, f.report.scan), reverse=True)
    return ReportList(
        report_date=found[0].report.date if found else "",
        synthetic=any(f.synthetic for f in found),
        title=title,
        reports=tuple(f.report for f in found),
        unreadable=tuple(unreadable),
    )


def write_report_list(report: ReportList, folder: Path, *, follows_reads: bool = True) -> Path:
    """Write ``index.html``; return its path.

    Parameters
    ----------
    report : ReportList
    folder : Path
        Where the reports are.
    follows_reads : bool
        Whether the page is written again with each read, as that of a study's own folder is.
    """
    study = "study/study.html" if (folder / "study" / "study.html").is_file() else ""
    agreement = AGREEMENT_NAME if (folder / AGREEMENT_NAME).is_file() else ""
    drawn = {"study": study, "agreement": agreement, "qualities": QUALITIES, "follows_reads": follows_reads}
    page = Page("report_list.html.j2", report, f"Reports of {report.title}", drawn)
    return write_text(folder / LIST_NAME, page.html())


def _listed(path: Path, by_scan: Mapping[str, Sequence[AnsweredRead]], *, blind: bool) -> _Found:
    """Read what the list shows; the whole report, with its regions, would take ten times as long."""
    stored = read_json(path)
    scan = f"sub-{stored['subject']}_ses-{stored['session']}"
    version = str(stored["model"]["version"])
    reads = tuple(_words(read, version) for read in by_scan.get(scan, ()) if not read.recorded.superseded)
    place = path.parent
    pdf, viewer = place / "report.pdf", place / VIEWER_NAME
    report = ListedReport(
        scan=scan,
        link=f"{quote(place.name)}/report.html",
        pdf=f"{quote(place.name)}/report.pdf" if pdf.is_file() else "",
        viewer=f"{quote(place.name)}/{VIEWER_NAME}" if viewer.is_file() else "",
        date=stored["report_date"],
        version=version,
        verdict=stored["verdict"],
        headline=stored["headline"],
        tau=_tau_title(stored.get("tau")),
        reasons=tuple(in_words(r, stored.get("prediction_set", ())) for r in stored.get("reasons", ())),
        quality=stored["quality"],
        reads=reads,
        hidden=blind and not reads,
    )
    return _Found(report, bool(stored["synthetic"]), path.stat().st_mtime_ns)


def _tau_title(stored: Any) -> str:
    return TauStatus.model_validate(stored).title if stored else ""


def _words(read: AnsweredRead, version: str) -> str:
    """Return who has read the scan, with which verdict, and about which version if it is another."""
    other = f" of version {read.version}" if read.version not in ("", version) else ""
    verdict = {"accept": "accepts", "modify": "modifies", "reject": "rejects"}
    found = read.recorded.read
    answer = f"{verdict[found.verdict]} the answer{other}" if found.verdict else "no verdict yet"
    return f"{found.reader}: {answer}"
