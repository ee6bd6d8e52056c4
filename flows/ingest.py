"""Ingest: a folder of scans becomes one de-identified BIDS-PET dataset with SUVR and a cohort table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.ingestion.ingest_tables import DatasetTables, IngestResult, ScanDone, result_of, write_tables
from flows.ingestion.scan_jobs import ScanJob, ingest_scans
from flows.running.console import progress, say, show_table
from flows.running.jobs import Runner
from flows.running.locks import locked
from flows.running.steps import as_flow, as_task
from pipeline.config import DaskSettings, ImagingSettings, IngestSettings, Study
from pipeline.errors import ConfigError
from pipeline.files import remove_unfinished
from pipeline.ingest.deidentify import Pseudonymiser, key_beside, load_or_make_key
from pipeline.ingest.records import ScanRecord, keep_sessions, no_longer_held, read_records, remove_files
from pipeline.ingest.source_map import log_failures, remember_sources
from pipeline.ingest.sources import find_scans

_NO_CLUSTER = DaskSettings()


def ingest(
    source: Path,
    bids: Path,
    settings: IngestSettings,
    imaging: ImagingSettings,
    classes: tuple[str, ...],
    dask: DaskSettings = _NO_CLUSTER,
) -> IngestResult:
    """Run the ingest as a Prefect flow; a scan that is done already is skipped.

    Parameters
    ----------
    source : Path
        Folder of scans in any layout `find_scans` knows.
    bids : Path
        The dataset to write.
    settings, imaging
        Sections of the study.
    classes : tuple of str
        Class names of the cohort table; other diagnoses become unknown.
    dask : DaskSettings
        The cluster where ``settings.runner`` is dask.

    Raises
    ------
    InputError
        If there is nothing to read, the folder cannot be written, or another ingest is writing it and
        ``settings.wait`` is not set.
    """
    return as_flow("ingest", lambda: _ingest(source, bids, settings, imaging, classes, dask))


def ingest_study(study: Study) -> IngestResult:
    """Ingest the source of a study into its dataset, as `ingest` does.

    Raises
    ------
    ConfigError
        If the study names no source.
    """
    if study.ingest.source is None:
        raise ConfigError(
            "The study names no source to ingest",
            where="ingest.source",
            hint="set ingest.source to the folder of scans",
        )
    return ingest(
        study.ingest.source, study.cohort.path, study.ingest, study.imaging, study.cohort.classes, study.dask
    )


def _ingest(
    source: Path,
    bids: Path,
    settings: IngestSettings,
    imaging: ImagingSettings,
    classes: tuple[str, ...],
    dask: DaskSettings = _NO_CLUSTER,
) -> IngestResult:
    found = find_scans(source, settings.layout, settings.tracer)
    # A folder that cannot be written is refused before the key is made or a scan is read.
    with locked(bids.parent / f".{bids.name}.lock", "dataset", wait=settings.wait) as waited:
        if waited:
            # More may have come to the source meanwhile.
            found = find_scans(source, settings.layout, settings.tracer)
        remove_unfinished(bids)
        key_file = settings.key_file or key_beside(bids)
        names = Pseudonymiser(load_or_make_key(key_file, bids))
        place = names.code("source", str(source.resolve()))
        left_alone = _in_words(found.ignored)
        say(f"Found {len(found.scans)} PET series ({found.layout} layout); left alone: {left_alone}.")
        scans = keep_sessions(found.scans, read_records(bids), bids, names)
        remember_sources(key_file, scans, names)
        jobs = [
            ScanJob(scan, bids, names.key, settings.tracer, settings.max_days_to_diagnosis, imaging, place)
            for scan in scans
        ]
        with progress("ingest") as tick:
            runner = _runner(settings, dask, len(jobs))
            done = as_task("ingest scans", lambda: ingest_scans(jobs, runner, tick))
        log = log_failures(key_file, {s.outcome.scan: (s.place, s.trace) for s in done if s.trace})
        missing = no_longer_held(bids, place, [scan.record for scan in done])
        pruned = _prune(missing, place, bids) if settings.prune else 0
        tables = write_tables(found, place, bids, classes)
        result = result_of(done, tables, found.layout, bids, pruned)
        _show(result, {scan.outcome.scan: scan for scan in done}, log)
        _show_others(len(missing) - pruned, tables)
        return result


def _prune(missing: Mapping[Path, ScanRecord], source: str, bids: Path) -> int:
    """List what no source holds any more, then remove it; return how many scans."""
    alone = {path: record for path, record in missing.items() if record.sources == (source,)}
    for record in alone.values():
        say(f"To be removed, its source does not hold it any more: {record.outcome.scan}.")
    for path, record in missing.items():
        if path in alone:
            remove_files(bids, record.files)
            path.unlink()
        else:
            record.without(source).write(path)
    return len(alone)


def _runner(settings: IngestSettings, dask: DaskSettings, scans: int) -> Runner:
    alone = settings.runner == "processes" and (settings.workers == 1 or scans < 3)
    return Runner("local" if alone else settings.runner, settings.workers, retries=1, dask=dask)


def _show(result: IngestResult, done: Mapping[str, ScanDone], log: Path | None) -> None:
    """Say what became of the scans of this source, with the input of each refused one: console only."""
    say(f"{result.accepted} accepted, {result.warned} with a warning, {result.refused} refused.")
    if result.refusals:
        shown = [done[refusal["scan"]] for refusal in result.refusals[:12]]
        rows = [[s.outcome.scan, s.place, s.outcome.stage, s.outcome.rule, s.outcome.measured] for s in shown]
        more = f" (first 12 of {result.refused})" if result.refused > 12 else ""
        show_table(f"Refused scans{more}", ["scan", "input", "stage", "rule", "measured"], rows)
    if log is not None:
        say(f"{result.failed} failed unexpectedly; tracebacks are in {log}.")


def _show_others(missing: int, tables: DatasetTables) -> None:
    if missing:
        say(f"{missing} scans that were in this source are not there now; they stay (see --prune).")
    if tables.gone:
        say(f"Files of {len(tables.gone)} scans are missing; no table lists them: {_first(tables.gone)}.")


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def _in_words(ignored: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(ignored.items())) or "nothing"
