"""The dataset that ingest writes: the tables beside its scans, and what became of each scan found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.files import read_json, write_json
from pipeline.imaging.derivative import write_region_table
from pipeline.ingest import bids as bids_files
from pipeline.ingest.converted import ConvertedScan
from pipeline.ingest.found import Found
from pipeline.ingest.outcomes import ScanOutcome, write_outcomes
from pipeline.ingest.records import ScanRecord, usable_records
from pipeline.reporting.ingest.ingest_page import build_ingest_report, write_ingest_page
from pipeline.scan import Cohort, Fact, Scan

DERIVATIVES = Path("derivatives") / "taucal"
COHORT_TABLE = DERIVATIVES / "cohort.tsv"
REGION_TABLE = DERIVATIVES / "regional_suvr.tsv"


@dataclass(frozen=True)
class ScanDone:
    """What became of a scan that was found.

    Parameters
    ----------
    outcome : ScanOutcome
    record : Path
        The file that remembers the rest, some kB a scan, which is read when the tables are written.
    place : str
        Where the scan was found: for the console alone, it may name a person.
    failed : bool
        It met an error that no rule foresees.
    trace : str
        The traceback, for the private log.
    """

    outcome: ScanOutcome
    record: Path
    place: str = ""
    failed: bool = False
    trace: str = ""


@dataclass(frozen=True)
class IngestResult:
    """What an ingest left on disk, and what became of the scans of its source.

    Parameters
    ----------
    bids, cohort, report : Path
    layout : str
        Of the source.
    converted, accepted, warned, refused, failed : int
        Scans of this source. The tables hold those of every source.
    scans : int
        In the cohort table.
    pruned : int
        Scans that were removed because their source does not hold them any more.
    refusals : tuple of dict
        ``scan``, ``input``, ``rule`` and ``message`` of every refused scan of this source. Private: the input
        may name a person.
    """

    bids: Path
    cohort: Path
    report: Path
    layout: str
    converted: int
    accepted: int
    warned: int
    refused: int
    failed: int = 0
    scans: int = 0
    pruned: int = 0
    refusals: tuple[dict[str, str], ...] = ()

    @property
    def exit_code(self) -> int:
        """1 where a scan failed unexpectedly or none was usable; a refusal by a rule is no failure."""
        return int(self.failed > 0 or self.accepted + self.warned == 0)


@dataclass(frozen=True)
class DatasetTables:
    """What the tables hold: every scan on disk, of whatever source."""

    scans: int
    report: Path
    gone: tuple[str, ...]


def write_tables(found: Found, source: str, bids: Path, classes: tuple[str, ...]) -> DatasetTables:
    """Write what is beside the scans: tables, outcomes, the report of the ingest.

    Parameters
    ----------
    found : Found
        What the source holds: its layout, and what was left alone.
    source : str
        The code of the source.
    bids : Path
    classes : tuple of str
        Other diagnoses become unknown.

    Returns
    -------
    DatasetTables
        `gone` names scans in the records whose files were removed by hand: they are in no table.
    """
    records, gone = usable_records(bids)
    converted: list[ConvertedScan] = []
    scans: list[Scan] = []
    regions: list[dict[str, Any]] = []
    for record in records.values():
        if record.converted is not None:
            converted.append(ConvertedScan.from_dict(record.converted, bids))
        if record.suvr is not None:
            scans.append(_scan_of(converted[-1], record, bids, classes))
            regions.append({"scan_id": scans[-1].scan_id, **record.regions})
    bids_files.write_dataset_files(bids, converted)
    cohort = Cohort(tuple(scans), classes)
    cohort.write_tsv(bids / COHORT_TABLE)
    write_region_table(regions, bids / REGION_TABLE)
    outcomes = [record.outcome for record in records.values()]
    ignored = _ignored_of_all(bids, source, found)
    left_alone = sum((Counter(counts) for counts in ignored.values()), Counter())
    write_json(
        bids / DERIVATIVES / "ingest.json",
        {"outcomes": [asdict(o) for o in outcomes], "ignored": left_alone, "ignored_by_source": ignored},
    )
    write_outcomes(outcomes, bids / DERIVATIVES)
    report = build_ingest_report(outcomes, left_alone, found.layout, cohort)
    page = write_ingest_page(report, bids / DERIVATIVES)
    return DatasetTables(len(scans), page, tuple(gone))


def result_of(
    done: Sequence[ScanDone], tables: DatasetTables, layout: str, bids: Path, pruned: int = 0
) -> IngestResult:
    """Return the result of an ingest of one source."""
    verdicts = Counter(scan.outcome.verdict for scan in done)
    refused = [scan for scan in done if scan.outcome.verdict == "refused"]
    return IngestResult(
        bids=bids,
        cohort=bids / COHORT_TABLE,
        report=tables.report,
        layout=layout,
        converted=sum(scan.outcome.stage != "conversion" for scan in done),
        accepted=verdicts["accepted"],
        warned=verdicts["warned"],
        refused=verdicts["refused"],
        failed=sum(scan.failed for scan in done),
        scans=tables.scans,
        pruned=pruned,
        refusals=tuple(
            {"scan": s.outcome.scan, "input": s.place, "rule": s.outcome.rule, "message": s.outcome.message}
            for s in refused
        ),
    )


def read_outcomes(bids: Path) -> tuple[list[ScanOutcome], dict[str, int]]:
    """Return what became of every scan of the dataset, and what the ingests left alone."""
    path = bids / DERIVATIVES / "ingest.json"
    if not path.is_file():
        return [], {}
    stored = read_json(path)
    return [ScanOutcome(**o) for o in stored["outcomes"]], stored["ignored"]


def _ignored_of_all(bids: Path, source: str, found: Found) -> dict[str, Mapping[str, int]]:
    """Return what was left alone in each source, by its code, the newest counts of each."""
    path = bids / DERIVATIVES / "ingest.json"
    before = read_json(path).get("ignored_by_source", {}) if path.is_file() else {}
    return {**before, source: dict(found.ignored)}


def _scan_of(converted: ConvertedScan, record: ScanRecord, bids: Path, classes: tuple[str, ...]) -> Scan:
    facts: dict[str, Fact] = {
        **{k: converted.facts.get(k) for k in ("age", "sex", "site", "manufacturer", "model")},
        "days_to_diagnosis": converted.facts.get("days_to_diagnosis"),
        "quality": record.outcome.verdict,
        "meta_roi": record.regions.get("composite_meta_roi"),
        "pet": converted.path.relative_to(bids).as_posix(),
    }
    return Scan(
        subject=converted.subject,
        session=converted.session,
        path=(bids / str(record.suvr)).resolve(),
        tracer=converted.tracer,
        diagnosis=converted.diagnosis if converted.diagnosis in classes else None,
        facts={k: v for k, v in facts.items() if v is not None},
        posterior=converted.posterior,
    )
