"""What a worker does to one scan: converted, normalised, recorded, or refused with the reason."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from flows.ingestion.ingest_tables import DERIVATIVES, ScanDone
from flows.running.console import Tick
from flows.running.jobs import Runner, WorkerKilled
from flows.running.runners import finished
from pipeline.config import ImagingSettings
from pipeline.errors import UNEXPECTED, OutputError, RefusedScan, unexpected
from pipeline.files import fingerprint, sha256_of_file, write_sha256
from pipeline.imaging import process
from pipeline.ingest import bids as bids_files
from pipeline.ingest.convert import convert_scan
from pipeline.ingest.converted import ConvertedScan
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.found import FoundScan
from pipeline.ingest.outcomes import ScanOutcome
from pipeline.ingest.records import ScanRecord, read_record, record_path, remove_files
from pipeline.ingest.source_map import place_of
from pipeline.processes import give_back_memory
from pipeline.reporting.ingest.outlines import write_outline

KILLED, VANISHED = "worker-killed", "vanished"
_TRY_AGAIN = (UNEXPECTED, KILLED, VANISHED, "no-permission")
"""Rules of refusals that say nothing about the scan: it is tried again, and an earlier version stays."""


@dataclass(frozen=True)
class ScanJob:
    """Everything one worker needs for one scan; `source` is the code of the folder it came from."""

    found: FoundScan
    bids: Path
    key: bytes
    tracer: str
    max_days_to_diagnosis: int
    imaging: ImagingSettings
    source: str = ""

    @property
    def names(self) -> Pseudonymiser:
        """Pseudonyms under the key of the dataset."""
        return Pseudonymiser(self.key)

    @property
    def record(self) -> Path:
        """Where the outcome is remembered."""
        return record_path(self.bids, self.found, self.names)

    @property
    def settings(self) -> str:
        """Fingerprint of everything but the scan that the result depends on."""
        return fingerprint(process.REVISION, self.tracer, self.max_days_to_diagnosis, self.imaging.written())


class Shown(Protocol):
    """Shows which scans are at work, as `flows.running.job_runs.JobRuns`, which workers do not import."""

    def started(self, *jobs: int) -> None:
        """Report that scans are at work."""

    def ended(self, *jobs: int) -> None:
        """Report that scans are done."""


def ingest_scans(jobs: Sequence[ScanJob], runner: Runner, tick: Tick, shown: Shown) -> list[ScanDone]:
    """Take every scan from its source to SUVR; one bad scan never stops the others.

    A batch whose worker was killed is done again scan by scan; a scan that kills its worker is refused.
    """
    done: dict[int, ScanDone] = {}
    refused = 0
    todo, size = list(range(len(jobs))), _BATCH if runner.kind == "dask" else 1
    while todo:
        batches = [todo[start : start + size] for start in range(0, len(todo), size)]
        todo = []
        begin = functools.partial(_begin, shown, batches)
        for outcome in finished(
            _ingest_batch, [[jobs[n] for n in batch] for batch in batches], runner, begin
        ):
            batch, found = batches[outcome.index], outcome.result
            if isinstance(outcome.error, WorkerKilled):
                if size > 1:
                    todo += batch
                    continue
                found = [_killed(jobs[n]) for n in batch]
            elif outcome.error is not None:
                raise outcome.error
            done.update(zip(batch, found, strict=True))
            shown.ended(*batch)
            refused += sum(scan.outcome.verdict == "refused" for scan in found)
            tick(len(done), len(jobs), f"{refused} refused")
        size = 1
    return [done[n] for n in range(len(jobs))]


def _begin(shown: Shown, batches: Sequence[Sequence[int]], index: int) -> None:
    shown.started(*batches[index])


_BATCH = 4
"""Scans of a job on Dask, which takes 70 ms a job."""


def _ingest_batch(batch: Sequence[ScanJob]) -> list[ScanDone]:
    done = [ingest_scan(job) for job in batch]
    give_back_memory()
    return done


def ingest_scan(job: ScanJob) -> ScanDone:
    """Convert, normalise and record one scan, where that is not done already.

    Whatever error a scan leads to refuses that scan alone.

    Raises
    ------
    OutputError
        If the dataset cannot be written.
    """
    before = read_record(job.record)
    work = _ScanWork(job, label=job.found.label(job.names))
    trace = ""
    seen_as = job.found.seen_as()
    seen_as = seen_as and job.names.code("seen as", seen_as)
    if before is not None and _is_unchanged(before, job, seen_as):
        return _recorded(job, before, before)
    try:
        digests = job.found.digests()
        content = job.found.fingerprint(digests)
        image = fingerprint(sorted(digests[path] for path in job.found.files))
        key = fingerprint(job.settings, content)
        known = before is not None and (before.key == key or _knows_more(before, job, image))
        if before is not None and known and before.is_whole(job.bids):
            return _recorded(job, replace(before.seen_in([job.source]), image=image, seen_as=seen_as), before)
        work.record = replace(work.record, key=key, content=content, image=image, seen_as=seen_as)
        _check_name_is_free(job, before, work.record)
        work.run()
    except OutputError:
        raise
    except RefusedScan as refusal:
        work.refuse(refusal)
    except Exception as error:  # noqa: BLE001 - one bad scan never stops the others
        trace = traceback.format_exc()
        work.refuse(unexpected(error))
    return _recorded(job, work.record, before, trace)


def _is_unchanged(before: ScanRecord, job: ScanJob, seen_as: str) -> bool:
    """Return whether the scan was read before as it is now, by what its folder shows of its files."""
    same = bool(before.key and seen_as) and before.seen_as == seen_as and before.settings == job.settings
    return same and job.source in before.sources and before.is_whole(job.bids)


@dataclass
class _ScanWork:
    """One scan on its way: the record so far, and where it stopped."""

    job: ScanJob
    label: str
    stage: str = "conversion"
    record: ScanRecord = field(init=False)

    def __post_init__(self) -> None:
        outcome = ScanOutcome(self.label, "refused", self.stage)
        self.record = ScanRecord("", outcome, sources=(self.job.source,), settings=self.job.settings)

    def run(self) -> None:
        """Take the scan from its source to SUVR."""
        job = self.job
        converted = convert_scan(job.found, job.bids, job.names, job.tracer, job.max_days_to_diagnosis)
        self._remember(converted, [converted.path, *converted.companions])
        self.record = replace(self.record, volume=sha256_of_file(converted.path))
        self.stage = "imaging"
        folder = job.bids / DERIVATIVES / f"sub-{converted.subject}" / f"ses-{converted.session}" / "pet"
        # What an ingest with other settings left must not outlive a refusal.
        for stale in folder.glob(f"{converted.stem}_*"):
            stale.unlink()
        normalised = process.normalise(bids_files.read_pet(converted.path), job.imaging)
        image = process.write_derivative(normalised, folder, converted.stem)
        write_outline(normalised.suvr.array, image)
        write_sha256(image)  # a training need not read every volume to know what it learns from
        self._remember(
            converted, [converted.path, *converted.companions, *sorted(folder.glob(f"{converted.stem}_*"))]
        )
        self.record = replace(
            self.record,
            outcome=ScanOutcome.of_findings(
                self.label, normalised.findings, converted.warnings, converted.label_notes
            ),
            suvr=image.relative_to(job.bids).as_posix(),
            regions=normalised.region_values(),
        )

    def refuse(self, refusal: RefusedScan) -> None:
        """Take down why the scan is left out."""
        key = "" if refusal.rule in _TRY_AGAIN else self.record.key
        outcome = ScanOutcome.of_refusal(self.label, self.stage, refusal)
        self.record = replace(self.record, key=key, outcome=outcome)

    def _remember(self, converted: ConvertedScan, files: Sequence[Path]) -> None:
        sizes = {path.relative_to(self.job.bids).as_posix(): path.stat().st_size for path in files}
        self.record = replace(self.record, converted=converted.to_dict(self.job.bids), files=sizes)


def _knows_more(before: ScanRecord, job: ScanJob, image: str) -> bool:
    """Return whether another source holds the same image with the diagnosis that this one lacks."""
    return (
        job.found.diagnosis is None
        and before.image == image
        and before.settings == job.settings
        and before.suvr is not None
        and bool({*before.sources} - {job.source})
        and diagnosis_in(before) is not None
    )


def diagnosis_in(record: ScanRecord) -> str | None:
    """Return the diagnosis a record holds."""
    found = (record.converted or {}).get("diagnosis")
    return None if found is None else str(found)


def _check_name_is_free(job: ScanJob, before: ScanRecord | None, record: ScanRecord) -> None:
    """Refuse a bare image that is named as another one of another source, which it would replace."""
    if job.found.format == "dicom" or before is None or not before.sources or not before.content:
        return
    same = before.image == record.image if before.image else before.content == record.content
    if job.source not in before.sources and not same:
        raise RefusedScan(
            _NAME_TAKEN,
            "Another source holds a different image under the same name",
            hint="rename the subject or the file, so that two people or scans never share a name",
        )


_NAME_TAKEN = "name-taken"


def _killed(job: ScanJob) -> ScanDone:
    work = _ScanWork(job, label=job.found.label(job.names))
    work.refuse(
        RefusedScan(
            KILLED,
            "The process that read this scan was ended by the system",
            hint="look at its files, and at whether the machine is out of memory",
        )
    )
    return _recorded(job, work.record, read_record(job.record), "The worker process was killed.")


def _recorded(job: ScanJob, record: ScanRecord, before: ScanRecord | None, trace: str = "") -> ScanDone:
    """Write the record of a scan; a version that was accepted before outlives a source that broke."""
    outcome, path = record.outcome, job.record
    failed = outcome.rule in (UNEXPECTED, KILLED)
    if before is not None and before is not record:
        if outcome.rule == _NAME_TAKEN:
            path = path.with_name(f"{job.names.code('name taken', job.source + path.stem)}.json")
            outcome = replace(outcome, scan=f"{outcome.scan}x{job.names.code('twin', job.source, 4)}")
            record = replace(record, outcome=outcome)
        elif _stays(record, before, job):
            message = f"{outcome.message} The version that was ingested before stays in the dataset."
            record, outcome = before, replace(outcome, message=message)
        else:
            record = record.seen_in(before.sources)
            remove_files(job.bids, sorted(set(before.files) - set(record.files)))
    if record != before:
        record.write(path)
    return ScanDone(outcome, path, place_of(job.found), failed, trace, _changed(before, record))


def _changed(before: ScanRecord | None, record: ScanRecord) -> str:
    """Return how the diagnosis of a scan changed, empty where it did not."""
    if before is None or before.suvr is None or record.suvr is None:
        return ""
    old, new = diagnosis_in(before), diagnosis_in(record)
    return "" if old == new else f"{old or 'none'} -> {new or 'none'}"


def _stays(record: ScanRecord, before: ScanRecord, job: ScanJob) -> bool:
    outcome = record.outcome
    if outcome.verdict != "refused" or outcome.stage != "conversion" or before.suvr is None:
        return False
    same = outcome.rule in _TRY_AGAIN or before.settings == record.settings
    return same and before.is_whole(job.bids)
