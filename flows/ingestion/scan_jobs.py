"""What a worker does to one scan: converted, normalised, recorded, or refused with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.ingestion.ingest_tables import DERIVATIVES, ScanDone
from flows.running.console import Tick
from flows.running.jobs import Runner, WorkerKilled
from flows.running.runners import finished
from flows.running.steps import is_done
from pipeline.config import ImagingSettings
from pipeline.errors import RefusedScan
from pipeline.files import fingerprint, read_json, write_json
from pipeline.imaging import process
from pipeline.ingest import bids as bids_files
from pipeline.ingest.convert import convert_scan
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.found import FoundScan
from pipeline.ingest.outcomes import ScanOutcome
from pipeline.processes import give_back_memory

# Raised whenever a change of code changes what a scan becomes: old records no longer count as done.
_REVISION = 2


@dataclass(frozen=True)
class ScanJob:
    """Everything one worker needs for one scan."""

    found: FoundScan
    bids: Path
    key: bytes
    tracer: str
    max_days_to_diagnosis: int
    imaging: ImagingSettings


def ingest_scans(jobs: Sequence[ScanJob], runner: Runner, tick: Tick) -> list[ScanDone]:
    """Take every scan from its source to SUVR; one bad scan never stops the others.

    A batch whose worker was killed is done again scan by scan; a scan that kills its worker is refused.
    """
    done: dict[int, ScanDone] = {}
    refused = 0
    todo, size = list(range(len(jobs))), _BATCH if runner.kind == "dask" else 1
    while todo:
        batches = [todo[start : start + size] for start in range(0, len(todo), size)]
        todo = []
        for outcome in finished(_ingest_batch, [[jobs[n] for n in batch] for batch in batches], runner):
            batch, found = batches[outcome.index], outcome.result
            if isinstance(outcome.error, WorkerKilled):
                if size > 1:
                    todo += batch
                    continue
                found = [_that_killed(jobs[n]) for n in batch]
            elif outcome.error is not None:
                raise outcome.error
            done.update(zip(batch, found, strict=True))
            refused += sum(scan.outcome.verdict == "refused" for scan in found)
            tick(len(done), len(jobs), f"{refused} refused")
        size = 1
    return [done[n] for n in range(len(jobs))]


_BATCH = 4
"""Scans of a job on Dask, which takes 70 ms a job."""


def _ingest_batch(batch: Sequence[ScanJob]) -> list[ScanDone]:
    done = [ingest_scan(job) for job in batch]
    give_back_memory()
    return done


def _that_killed(job: ScanJob) -> ScanDone:
    refusal = RefusedScan(
        "worker-killed",
        "A scan must not end the process that reads it",
        hint="look at its files; see whether the machine is out of memory",
    )
    label = job.found.label(Pseudonymiser(job.key))
    return ScanDone(ScanOutcome.of_refusal(label, "conversion", refusal))


def ingest_scan(job: ScanJob) -> ScanDone:
    """Convert, normalise and record one scan, where that is not done already."""
    pseudonymiser = Pseudonymiser(job.key)
    record = job.bids / DERIVATIVES / ".records" / f"{pseudonymiser.subject(job.found.identity)}.json"
    settings = (job.tracer, job.max_days_to_diagnosis, job.imaging.model_dump())
    try:
        key = fingerprint(_REVISION, job.found.fingerprint(), settings)
    except RefusedScan as refusal:
        return ScanDone(ScanOutcome.of_refusal(job.found.label(pseudonymiser), "conversion", refusal))
    if not is_done(record, key, job.bids):
        outcome, scan, files = _work(job)
        facts = {
            "key": key,
            "files": {path.relative_to(job.bids).as_posix(): path.stat().st_size for path in files},
            "outcome": asdict(outcome),
            **scan,
        }
        write_json(record, facts)
    return ScanDone(ScanOutcome(**read_json(record)["outcome"]), record)


def _work(job: ScanJob) -> tuple[ScanOutcome, dict[str, Any], list[Path]]:
    pseudonymiser = Pseudonymiser(job.key)
    stage, label = "conversion", job.found.label(pseudonymiser)
    scan: dict[str, Any] = {}
    files: list[Path] = []
    try:
        converted = convert_scan(job.found, job.bids, pseudonymiser, job.tracer, job.max_days_to_diagnosis)
        label, scan = converted.scan_id, {"converted": converted.to_dict(job.bids)}
        files = [converted.path, *converted.companions]
        stage = "imaging"
        folder = job.bids / DERIVATIVES / f"sub-{converted.subject}" / f"ses-{converted.session}" / "pet"
        # What an ingest with other settings left must not outlive a refusal.
        for stale in folder.glob(f"{converted.stem}_*"):
            stale.unlink()
        normalised = process.normalise(bids_files.read_pet(converted.path), job.imaging)
        image = process.write_derivative(normalised, folder, converted.stem)
        files += sorted(folder.glob(f"{converted.stem}_*"))
        scan |= {
            "suvr": image.relative_to(job.bids).as_posix(),
            "regions": normalised.region_values(),
        }
        outcome = ScanOutcome.of_findings(label, normalised.findings, converted.warnings)
    except RefusedScan as refusal:
        outcome = ScanOutcome.of_refusal(label, stage, refusal)
    return outcome, scan, files
