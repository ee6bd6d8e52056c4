"""Write the synthetic cohort and the batches that follow it, once."""

from __future__ import annotations

from pathlib import Path

from flows.running.console import progress, say
from flows.running.steps import run_once
from pipeline.config import PhantomSettings
from pipeline.files import fingerprint
from pipeline.phantom import write_batch, write_cohort


def make_phantom(settings: PhantomSettings, out: Path, seed: int) -> None:
    """Write `settings.scans` synthetic scans as PET DICOM in an ADNI tree below `out`.

    Scans that are there already are kept; a finished cohort is not written again.
    """

    def work() -> list[Path]:
        with progress("phantom") as tick:
            write_cohort(settings, out, seed, lambda done, of: tick(done, of, ""))
        return sorted((out / "tables").glob("*.csv"))

    say(f"Writing {settings.scans} synthetic AV1451 scans of {settings.subjects} subjects as PET DICOM.")
    key = fingerprint(settings.model_dump(exclude={"workers", "batches"}), seed)
    run_once(out / ".phantom.json", key, work)


def make_batch(settings: PhantomSettings, out: Path, seed: int, number: int) -> None:
    """Add the scans of a batch of `settings.batches` to the cohort below `out`, once; the first is 1."""

    def work() -> list[Path]:
        with progress("phantom") as tick:
            write_batch(settings, out, seed, number, lambda done, of: tick(done, of, ""))
        return sorted((out / "tables").glob(f"*_batch{number:02d}.csv"))

    key = fingerprint(settings.model_dump(exclude={"workers"}), seed, number)
    run_once(out / f".phantom-batch{number:02d}.json", key, work)
