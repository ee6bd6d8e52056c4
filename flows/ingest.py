"""Ingest: a folder of scans becomes one de-identified BIDS-PET dataset with SUVR and a cohort table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from flows.ingestion.ingest_tables import DERIVATIVES, IngestResult, ScanDone, write_tables
from flows.running.console import Tick, progress, say, show_table
from flows.running.jobs import Runner, WorkerKilled
from flows.running.locks import locked
from flows.running.runners import finished
from flows.running.steps import as_flow, as_task, is_done
from pipeline.config import DaskSettings, ImagingSettings, IngestSettings, Study
from pipeline.errors import ConfigError, RefusedScan
from pipeline.files import fingerprint, read_json, remove_unfinished, write_json
from pipeline.imaging import process
from pipeline.ingest import bids as bids_files
from pipeline.ingest.convert import convert_scan
from pipeline.ingest.deidentify import Pseudonymiser, load_or_make_key
from pipeline.ingest.outcomes import ScanOutcome
from pipeline.ingest.sources import FoundScan, find_scans
from pipeline.processes import give_back_memory

_NO_CLUSTER = DaskSettings()

# Raised whenever a change of code changes what a scan becomes: old records no longer count as done.
_REVISION = 2


@dataclass(frozen=True)
class _Order:
    """Everything one worker needs for one scan."""

    found: FoundScan
    bids: Path
    key: bytes
    tracer: str
    max_days_to_diagnosis: int
    imaging: ImagingSettings


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
        orders = [
            _Order(scan, bids, key, settings.tracer, settings.max_days_to_diagnosis, imaging)
            for scan in found.scans
        ]
        with progress("ingest") as tick:
            runner = _runner(settings, dask, len(orders))
            done = as_task("ingest scans", lambda: ingest_scans(orders, runner, tick))
        _tell([scan.outcome for scan in done])
        return write_tables(done, found.ignored, found.layout, bids, classes)


def ingest_scans(orders: Sequence[_Order], runner: Runner, tick: Tick) -> list[ScanDone]:
    """Take every scan from its source to SUVR; one bad scan never stops the others.

    A batch whose worker was killed is done again scan by scan; a scan that kills its worker is refused.
    """
    done: dict[int, ScanDone] = {}
    refused = 0
    todo, size = list(range(len(orders))), _BATCH if runner.kind == "dask" else 1
    while todo:
        batches = [todo[start : start + size] for start in range(0, len(todo), size)]
        todo = []
        for outcome in finished(_ingest_batch, [[orders[n] for n in batch] for batch in batches], runner):
            batch, found = batches[outcome.index], outcome.result
            if isinstance(outcome.error, WorkerKilled):
                if size > 1:
                    todo += batch
                    continue
                found = [_that_killed(orders[n]) for n in batch]
            elif outcome.error is not None:
                raise outcome.error
            done.update(zip(batch, found, strict=True))
            refused += sum(scan.outcome.verdict == "refused" for scan in found)
            tick(len(done), len(orders), f"{refused} refused")
        size = 1
    return [done[n] for n in range(len(orders))]


_BATCH = 4
"""Scans of a job on Dask, which takes 70 ms a job."""


def _ingest_batch(batch: Sequence[_Order]) -> list[ScanDone]:
    done = [ingest_scan(order) for order in batch]
    give_back_memory()
    return done


def _that_killed(order: _Order) -> ScanDone:
    refusal = RefusedScan(
        "worker-killed",
        "A scan must not end the process that reads it",
        hint="look at its files; see whether the machine is out of memory",
    )
    label = order.found.label(Pseudonymiser(order.key))
    return ScanDone(ScanOutcome.of_refusal(label, "conversion", refusal))


def _runner(settings: IngestSettings, dask: DaskSettings, scans: int) -> Runner:
    alone = settings.runner == "processes" and (settings.workers == 1 or scans < 3)
    return Runner("local" if alone else settings.runner, settings.workers, retries=1, dask=dask)


def ingest_scan(order: _Order) -> ScanDone:
    """Convert, normalise and record one scan, where that is not done already."""
    pseudonymiser = Pseudonymiser(order.key)
    record = order.bids / DERIVATIVES / ".records" / f"{pseudonymiser.subject(order.found.identity)}.json"
    settings = (order.tracer, order.max_days_to_diagnosis, order.imaging.model_dump())
    try:
        key = fingerprint(_REVISION, order.found.fingerprint(), settings)
    except RefusedScan as refusal:
        return ScanDone(ScanOutcome.of_refusal(order.found.label(pseudonymiser), "conversion", refusal))
    if not is_done(record, key, order.bids):
        outcome, scan, files = _work(order)
        facts = {
            "key": key,
            "files": {path.relative_to(order.bids).as_posix(): path.stat().st_size for path in files},
            "outcome": asdict(outcome),
            **scan,
        }
        write_json(record, facts)
    return ScanDone(ScanOutcome(**read_json(record)["outcome"]), record)


def _work(order: _Order) -> tuple[ScanOutcome, dict[str, Any], list[Path]]:
    pseudonymiser = Pseudonymiser(order.key)
    stage, label = "conversion", order.found.label(pseudonymiser)
    scan: dict[str, Any] = {}
    files: list[Path] = []
    try:
        converted = convert_scan(
            order.found, order.bids, pseudonymiser, order.tracer, order.max_days_to_diagnosis
        )
        label, scan = converted.scan_id, {"converted": converted.to_dict(order.bids)}
        files = [converted.path, *converted.companions]
        stage = "imaging"
        folder = order.bids / DERIVATIVES / f"sub-{converted.subject}" / f"ses-{converted.session}" / "pet"
        # What an ingest with other settings left must not outlive a refusal.
        for stale in folder.glob(f"{converted.stem}_*"):
            stale.unlink()
        normalised = process.normalise(bids_files.read_pet(converted.path), order.imaging)
        image = process.write_derivative(normalised, folder, converted.stem)
        files += sorted(folder.glob(f"{converted.stem}_*"))
        scan |= {
            "suvr": image.relative_to(order.bids).as_posix(),
            "regions": _wide(normalised.regions, normalised.composites),
        }
        outcome = ScanOutcome.of_findings(label, normalised.findings, converted.warnings)
    except RefusedScan as refusal:
        outcome = ScanOutcome.of_refusal(label, stage, refusal)
    return outcome, scan, files


def _wide(regions: pd.DataFrame, composites: dict[str, float]) -> dict[str, float]:
    names = regions["side"] + "_" + regions["region"]
    suvr = dict(zip(names, regions["suvr"].astype(float), strict=True))
    return suvr | {f"composite_{name}": value for name, value in composites.items()}


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
