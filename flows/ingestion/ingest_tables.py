"""The dataset that ingest writes: the tables beside its scans, and what became of each scan found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import PRESET_CLASSES
from pipeline.diagnoses import ClassWords
from pipeline.errors import CohortError, InputError
from pipeline.files import read_json, write_json
from pipeline.imaging.derivative import write_region_table
from pipeline.ingest import bids as bids_files
from pipeline.ingest.converted import ConvertedScan
from pipeline.ingest.found import Found
from pipeline.ingest.outcomes import ScanOutcome, write_outcomes
from pipeline.ingest.records import ScanRecord, usable_records
from pipeline.ingest.same_scans import SAME_IMAGE
from pipeline.learning.class_labels import in_words, silent_scans, with_classes
from pipeline.reporting.ingest.ingest_page import build_ingest_report, write_ingest_page
from pipeline.scan import STATED, Cohort, Fact, Scan

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
    without_label : int
        Of these, scans about which no source states anything: no diagnosis, or nothing of the study's target.
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
    without_label: int = 0
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
    left_out: tuple[str, ...] = ()
    """A sentence for each diagnosis that belongs to no class: for the console, it has words of a table."""
    without_label: int = 0


def write_tables(
    sources: Mapping[str, Found], bids: Path, words: ClassWords, key_check: str
) -> DatasetTables:
    """Write what is beside the scans: tables, outcomes, the report of the ingest.

    Parameters
    ----------
    sources : mapping of str to Found
        What each source holds, by its code: its layout, and what was left alone.
    bids : Path
    words : ClassWords
        The classes that the report counts; the cohort's table has every diagnosis as it is stated.
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
            scans.append(_scan_of(converted[-1], record, bids))
            regions.append({"scan_id": scans[-1].scan_id, **record.regions})
    bids_files.write_dataset_files(bids, converted)
    cohort, left_out, silent = _write_cohort(scans, bids, words)
    write_region_table(regions, bids / REGION_TABLE)
    outcomes = [record.outcome for record in records.values()]
    left_alone, all_layouts = _write_ingest(sources, records.values(), bids, key_check)
    write_outcomes(outcomes, bids / DERIVATIVES)
    report = build_ingest_report(
        outcomes, left_alone, all_layouts, cohort, silent=silent, target=words.target
    )
    images = {r.outcome.scan: bids / r.suvr for r in records.values() if r.suvr is not None}
    page = write_ingest_page(report, bids / DERIVATIVES, images)
    return DatasetTables(len(scans), page, tuple(gone), left_out, silent)


def _write_ingest(
    sources: Mapping[str, Found], records: Collection[ScanRecord], bids: Path, key_check: str
) -> tuple[Counter[str], str]:
    """Write what became of every scan, and what each source held, those of earlier ingests among them.

    Return what the sources left alone, and their layouts in words.
    """
    before = _stored(bids)
    known = before.get("ignored_by_source", {})
    same = _same_sources({*known, *before.get("layouts", {})}, sources, records)
    ignored = {code: counts for code, counts in known.items() if code not in same}
    ignored |= {code: dict(found.ignored) for code, found in sources.items()}
    layouts = {code: layout for code, layout in before.get("layouts", {}).items() if code not in same}
    layouts |= {code: found.layout for code, found in sources.items()}
    left_alone = sum((Counter(counts) for counts in ignored.values()), Counter())
    write_json(
        bids / DERIVATIVES / "ingest.json",
        {
            "outcomes": [asdict(record.outcome) for record in records],
            "ignored": left_alone,
            "ignored_by_source": ignored,
            "layouts": layouts,
            "key_check": key_check,
        },
    )
    return left_alone, ", ".join(sorted({*layouts.values()}))


def _write_cohort(
    scans: Sequence[Scan], bids: Path, words: ClassWords
) -> tuple[Cohort, tuple[str, ...], int]:
    """Write every diagnosis as it is stated.

    Return the cohort by class, what belongs to no class, and how many scans state nothing.
    """
    table = Cohort(tuple(scans), _names_in(scans, words))
    table.write_tsv(bids / COHORT_TABLE)
    try:
        cohort, left_out = with_classes(table, words)
    except CohortError:  # no source states the target: a table of labels may
        return Cohort(tuple(replace(scan, diagnosis=None) for scan in scans), words.names), (), len(scans)
    return cohort, tuple(in_words(left_out, words)), len(silent_scans(table, words))


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
        without_label=tables.without_label,
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


def _names_in(scans: Sequence[Scan], words: ClassWords) -> tuple[str, ...]:
    """Return the names of the table: those of the true probabilities, in their order, then what is stated."""
    shares = next((len(scan.posterior) for scan in scans if scan.posterior), None)
    own = words.names if not words.merge else ()
    known = [own, *PRESET_CLASSES.values()] if shares else [("CN", "MCI", "AD")]
    first = next((names for names in known if shares in (None, len(names))), words.names)
    return tuple(dict.fromkeys([*first, *sorted({s.diagnosis for s in scans if s.diagnosis})]))


def _scan_of(converted: ConvertedScan, record: ScanRecord, bids: Path) -> Scan:
    facts: dict[str, Fact] = {
        **{k: converted.facts.get(k) for k in ("age", "sex", "site", "manufacturer", "model")},
        "days_to_diagnosis": converted.facts.get("days_to_diagnosis"),
        "quality": record.outcome.verdict,
        "meta_roi": record.regions.get("composite_meta_roi"),
        "pet": converted.path.relative_to(bids).as_posix(),
        STATED: converted.stated or None,
    }
    # No column of a source takes the place of one of the table.
    facts = {**converted.reads, **facts}
    return Scan(
        subject=converted.subject,
        session=converted.session,
        path=(bids / str(record.suvr)).resolve(),
        tracer=converted.tracer,
        diagnosis=converted.diagnosis,
        facts={k: v for k, v in facts.items() if v is not None},
        posterior=converted.posterior,
    )
