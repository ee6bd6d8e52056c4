"""Ingest: a folder of scans becomes one de-identified BIDS-PET dataset with SUVR and a cohort table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from flows.ingestion.ingest_tables import IngestResult, write_tables
from flows.ingestion.scan_jobs import ScanJob, ingest_scans
from flows.running.console import progress, say, show_table
from flows.running.jobs import Runner
from flows.running.locks import locked
from flows.running.steps import as_flow, as_task
from pipeline.config import DaskSettings, ImagingSettings, IngestSettings, Study
from pipeline.errors import ConfigError
from pipeline.files import remove_unfinished
from pipeline.ingest.deidentify import load_or_make_key
from pipeline.ingest.outcomes import ScanOutcome
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
            "A study that ingests must name a source, got none",
            where="ingest.source",
            hint="set ingest.source to the folder of scans",
        )
    return ingest(
        study.ingest.source, study.cohort.path, study.ingest, study.imaging, study.cohort.classes, study.dask
    )


def key_beside(bids: Path) -> Path:
    """Return where the key of a dataset lies when no other place was named."""
    return bids.with_name(bids.name + ".key")


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
            # Tables of what was there before would drop what another has added since.
            found = find_scans(source, settings.layout, settings.tracer)
        remove_unfinished(bids)
        key = load_or_make_key(settings.key_file or key_beside(bids), bids)
        left_alone = _in_words(found.ignored)
        say(f"Found {len(found.scans)} PET series ({found.layout} layout); left alone: {left_alone}.")
        jobs = [
            ScanJob(scan, bids, key, settings.tracer, settings.max_days_to_diagnosis, imaging)
            for scan in found.scans
        ]
        with progress("ingest") as tick:
            runner = _runner(settings, dask, len(jobs))
            done = as_task("ingest scans", lambda: ingest_scans(jobs, runner, tick))
        _tell([scan.outcome for scan in done])
        return write_tables(done, found.ignored, found.layout, bids, classes)


def _runner(settings: IngestSettings, dask: DaskSettings, scans: int) -> Runner:
    alone = settings.runner == "processes" and (settings.workers == 1 or scans < 3)
    return Runner("local" if alone else settings.runner, settings.workers, retries=1, dask=dask)


def _tell(outcomes: list[ScanOutcome]) -> None:
    verdicts = Counter(o.verdict for o in outcomes)
    accepted, warned = verdicts["accepted"], verdicts["warned"]
    say(f"{accepted} accepted, {warned} with a warning, {verdicts['refused']} refused.")
    refused = [o for o in outcomes if o.verdict == "refused"]
    if refused:
        rows = [[o.scan, o.stage, o.rule, str(o.measured)] for o in refused[:12]]
        more = f" (first 12 of {len(refused)})" if len(refused) > 12 else ""
        show_table(f"Refused scans{more}", ["scan", "stage", "rule", "measured"], rows)


def _in_words(ignored: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(ignored.items())) or "nothing"
