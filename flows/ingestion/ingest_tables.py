"""The dataset that ingest writes: the tables beside its scans, and what became of each scan found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.files import read_json, write_json
from pipeline.imaging.derivative import write_region_table
from pipeline.ingest import bids as bids_files
from pipeline.ingest.converted import ConvertedScan
from pipeline.ingest.outcomes import ScanOutcome, write_ingest_report
from pipeline.scan import Cohort, Fact, Scan

DERIVATIVES = Path("derivatives") / "taucal"
COHORT_TABLE = DERIVATIVES / "cohort.tsv"
REGION_TABLE = DERIVATIVES / "regional_suvr.tsv"


@dataclass(frozen=True)
class IngestResult:
    """What an ingest left on disk."""

    bids: Path
    cohort: Path
    report: Path
    layout: str
    converted: int
    accepted: int
    warned: int
    refused: int


@dataclass(frozen=True)
class ScanDone:
    """What became of a scan that was found.

    Parameters
    ----------
    outcome : ScanOutcome
    record : Path or None
        The file that remembers the rest, some kB a scan, which is read when the tables are written.
    """

    outcome: ScanOutcome
    record: Path | None = None


def write_tables(
    done: Sequence[ScanDone],
    ignored: Mapping[str, int],
    layout: str,
    bids: Path,
    classes: tuple[str, ...],
) -> IngestResult:
    """Write what stands beside the scans: tables, outcomes, the report of the ingest.

    Parameters
    ----------
    done : sequence of ScanDone
        One for each scan found.
    ignored : mapping of str to int
        What else was found and left alone.
    layout : str
        Of the source.
    bids : Path
    classes : tuple of str
        Other diagnoses become unknown.
    """
    converted: list[ConvertedScan] = []
    scans: list[Scan] = []
    regions: list[dict[str, Any]] = []
    for record in _records(done):
        converted.append(ConvertedScan.from_dict(record["converted"], bids))
        if "suvr" in record:
            scans.append(_scan_of(converted[-1], record, bids, classes))
            regions.append({"scan_id": scans[-1].scan_id, **record["regions"]})
    bids_files.write_dataset_files(bids, converted)
    Cohort(tuple(scans), classes).write_tsv(bids / COHORT_TABLE)
    write_region_table(regions, bids / REGION_TABLE)
    outcomes = [scan.outcome for scan in done]
    write_json(
        bids / DERIVATIVES / "ingest.json",
        {"outcomes": [asdict(o) for o in outcomes], "ignored": dict(ignored)},
    )
    report = write_ingest_report(outcomes, ignored, layout, bids)
    verdicts = Counter(o.verdict for o in outcomes)
    return IngestResult(
        bids=bids,
        cohort=bids / COHORT_TABLE,
        report=report,
        layout=layout,
        converted=len(converted),
        accepted=verdicts["accepted"],
        warned=verdicts["warned"],
        refused=verdicts["refused"],
    )


def read_outcomes(bids: Path) -> tuple[list[ScanOutcome], dict[str, int]]:
    """Return what became of every scan the last ingest found, and what it left alone."""
    path = bids / DERIVATIVES / "ingest.json"
    if not path.is_file():
        return [], {}
    stored = read_json(path)
    return [ScanOutcome(**o) for o in stored["outcomes"]], stored["ignored"]


def _records(done: Sequence[ScanDone]) -> Iterator[dict[str, Any]]:
    """Yield what is remembered of each scan that was converted."""
    for scan in done:
        record = {} if scan.record is None else read_json(scan.record)
        if "converted" in record:
            yield record


def _scan_of(converted: ConvertedScan, record: dict[str, Any], bids: Path, classes: tuple[str, ...]) -> Scan:
    facts: dict[str, Fact] = {
        **{k: converted.facts.get(k) for k in ("age", "sex", "site", "manufacturer", "model")},
        "days_to_diagnosis": converted.facts.get("days_to_diagnosis"),
        "quality": record["outcome"]["verdict"],
        "meta_roi": record["regions"].get("composite_meta_roi"),
        "pet": converted.path.relative_to(bids).as_posix(),
    }
    return Scan(
        subject=converted.subject,
        session=converted.session,
        path=(bids / record["suvr"]).resolve(),
        tracer=converted.tracer,
        diagnosis=converted.diagnosis if converted.diagnosis in classes else None,
        facts={k: v for k, v in facts.items() if v is not None},
        posterior=converted.posterior,
    )
