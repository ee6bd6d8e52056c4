"""The dataset that ingest writes: the tables beside its scans, and what became of each scan found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.files import read_json, write_json
from pipeline.imaging.derivative import write_region_table
from pipeline.ingest import bids as bids_files
from pipeline.ingest.converted import ConvertedScan
from pipeline.ingest.found import Found
from pipeline.ingest.outcomes import ScanOutcome, write_outcomes
from pipeline.ingest.records import ScanRecord, usable_records
from pipeline.ingest.same_scans import SAME_IMAGE
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
    changed : str
        How its diagnosis changed since the last ingest.
    """

    outcome: ScanOutcome
    record: Path
    place: str = ""
    failed: bool = False
    trace: str = ""
    changed: str = ""


@dataclass(frozen=True)
class IngestResult:
    """What an ingest left on disk, and what became of the scans of its source.

    Parameters
    ----------
    bids, cohort, report : Path
    layout : str
        Of the sources.
    converted, accepted, warned, refused, failed : int
        Scans of these sources. The tables hold those of every source.
    scans : int
        In the cohort table.
    pruned : int
        Scans that were removed because their source does not hold them any more.
    refusals : tuple of dict
        ``scan``, ``input``, ``rule`` and ``message`` of every refused scan of these sources. Private: the
        input may name a person.
    unopened : tuple of str
        Folders of the sources that cannot be opened. Private as well.
    empty : tuple of str
        Sources in which nothing was found. Private as well.
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
    unopened: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 where a scan failed unexpectedly, a folder was not opened, or of those found none was usable.

        A refusal by a rule is no failure, nor is a source without anything new; a copy is in the dataset.
        """
        copies = sum(refusal["rule"] == SAME_IMAGE for refusal in self.refusals)
        unusable = self.refused > copies and self.accepted + self.warned + copies == 0
        return int(self.failed > 0 or bool(self.unopened) or unusable)


@dataclass(frozen=True)
class DatasetTables:
    """What the tables hold: every scan on disk, of whatever source."""

    scans: int
    report: Path
    gone: tuple[str, ...]


def write_tables(
    sources: Mapping[str, Found], bids: Path, classes: tuple[str, ...], key_check: str
) -> DatasetTables:
    """Write what is beside the scans: tables, outcomes, the report of the ingest.

    Parameters
    ----------
    sources : mapping of str to Found
        What each source holds, by its code: its layout, and what was left alone.
    bids : Path
    classes : tuple of str
        Other diagnoses become unknown.
    key_check : str
        By which the key of the dataset is known again.

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
    before = _stored(bids)
    known = before.get("ignored_by_source", {})
    same = _same_sources({*known, *before.get("layouts", {})}, sources, records.values())
    ignored = {code: counts for code, counts in known.items() if code not in same}
    ignored |= {code: dict(found.ignored) for code, found in sources.items()}
    layouts = {code: layout for code, layout in before.get("layouts", {}).items() if code not in same}
    layouts |= {code: found.layout for code, found in sources.items()}
    left_alone = sum((Counter(counts) for counts in ignored.values()), Counter())
    write_json(
        bids / DERIVATIVES / "ingest.json",
        {
            "outcomes": [asdict(o) for o in outcomes],
            "ignored": left_alone,
            "ignored_by_source": ignored,
            "layouts": layouts,
            "key_check": key_check,
        },
    )
    write_outcomes(outcomes, bids / DERIVATIVES)
    report = build_ingest_report(outcomes, left_alone, ", ".join(sorted({*layouts.values()})), cohort)
    page = write_ingest_page(report, bids / DERIVATIVES)
    return DatasetTables(len(scans), page, tuple(gone))


def _same_sources(before: Iterable[str], now: Iterable[str], records: Iterable[ScanRecord]) -> set[str]:
    """Return codes of sources of earlier ingests that were read now under another path.

    A folder was moved, copied or mounted elsewhere where one that was read now holds every scan of it.
    """
    here, sources = set(now), [set(record.sources) for record in records]
    held = {code: [names for names in sources if code in names] for code in set(before) - here}
    return {code for code, found in held.items() if found and here.intersection(*found)}


def result_of(
    done: Sequence[ScanDone], tables: DatasetTables, sources: Iterable[Found], bids: Path, pruned: int = 0
) -> IngestResult:
    """Return the result of an ingest."""
    found = list(sources)
    verdicts = Counter(scan.outcome.verdict for scan in done)
    refused = [scan for scan in done if scan.outcome.verdict == "refused"]
    return IngestResult(
        bids=bids,
        cohort=bids / COHORT_TABLE,
        report=tables.report,
        layout=", ".join(sorted({one.layout for one in found})),
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
        unopened=tuple(str(path) for one in found for path in one.unopened),
    )


def read_outcomes(bids: Path) -> tuple[list[ScanOutcome], dict[str, int]]:
    """Return what became of every scan of the dataset, and what the ingests left alone."""
    stored = _stored(bids)
    return [ScanOutcome(**o) for o in stored.get("outcomes", ())], stored.get("ignored", {})


def stored_key_check(bids: Path) -> str:
    """Return the code by which the key of a dataset is known again; empty in a new dataset or an old one."""
    return str(_stored(bids).get("key_check", ""))


def _stored(bids: Path) -> dict[str, Any]:
    path = bids / DERIVATIVES / "ingest.json"
    try:
        return dict(read_json(path)) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise InputError(
            "The list of what was ingested cannot be read",
            where=str(path),
            hint="remove this file and ingest again: it is made from the records of the scans",
        ) from error


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
