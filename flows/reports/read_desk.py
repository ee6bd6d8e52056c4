"""Where readers answer: from the command line or the form, an answer becomes the same entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.reports.report_lists import list_reports
from pipeline import tracking
from pipeline.config import Study, load_study
from pipeline.errors import InputError
from pipeline.evaluation.monitoring.reads import AskedRead, RecordedRead, next_read
from pipeline.files import exclusive


@dataclass(frozen=True, eq=False)
class ReadDesk:
    """The reads of a study.

    Parameters
    ----------
    study : Study
        Its classes, and whether reads are blind.
    output : Path
        Its output folder.
    """

    study: Study
    store: tracking.Store
    output: Path

    @classmethod
    def of(cls, study: Study) -> ReadDesk:
        """Return the desk of a resolved study."""
        return cls(study, tracking.store_of(study.tracking, study.output), study.output)

    @classmethod
    def at(cls, named: Path, output: Path) -> ReadDesk:
        """Return the desk of a trained study, given its YAML file or its output folder."""
        file = named if named.is_file() else output / "study.yaml"
        return cls(load_study(file), tracking.store_at(named), output)

    def find(self, pseudonym: str) -> tuple[tracking.LedgerEntry, tuple[RecordedRead, ...]]:
        """Return the last answer about a scan, and all reads of the scan.

        Parameters
        ----------
        pseudonym : str
            Of the scan, or of a subject with one scan.

        Raises
        ------
        InputError
            If there is no answer, or the subject has several scans.
        """
        entries = tracking.answered_scans(self.store, scan=pseudonym)
        scans = sorted({entry.scan for entry in entries})
        if not scans:
            raise InputError(
                "No report or prediction of this scan is recorded",
                where=pseudonym,
                hint="give the pseudonym of a scan as `taucal reports` lists it",
            )
        if len(scans) > 1:
            raise InputError(
                f"The subject has {len(scans)} scans", where=pseudonym, hint=f"give one of {', '.join(scans)}"
            )
        return entries[0], tuple(read for entry in entries for read in entry.reads)

    def asked(self, entry: tracking.LedgerEntry) -> AskedRead:
        """Return what a reader is asked about an answer."""
        classes, blind = self.study.cohort.classes, self.study.report.blind_reads
        return AskedRead(entry.trace_id, entry.answer, classes, blind)

    def record(self, pseudonym: str, given: Mapping[str, str]) -> tuple[tracking.LedgerEntry, RecordedRead]:
        """Store what a reader answers about a scan; return the answer that was read, and the read.

        Raises
        ------
        InputError
            If the scan has no answer, or the read is incomplete or contradicts itself.
        """
        with exclusive(self.output / ".reads.lock", "reads of this study"):
            entry, reads = self.find(pseudonym)
            read = next_read(given, reads, self.asked(entry))
            stored = tracking.record_read(self.store, tracking.audit_of(self.output), entry, read)
            list_reports(self.study.model_copy(update={"output": self.output}))
            return entry, stored
