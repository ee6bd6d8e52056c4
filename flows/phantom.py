"""Write the synthetic cohort, once."""

from __future__ import annotations

from pathlib import Path

from flows.console import progress, say
from flows.steps import run_once
from pipeline.config import PhantomSettings
from pipeline.files import fingerprint
from pipeline.phantom import write_cohort


def make_phantom(settings: PhantomSettings, out: Path, seed: int) -> None:
    """Write `settings.scans` synthetic scans as PET DICOM in an ADNI tree below `out`.

    Scans that are there already are kept; a finished cohort is not written again.
    """

    def work() -> list[Path]:
        with progress("phantom") as tick:
            write_cohort(settings, out, seed, lambda done, of: tick(done, of, ""))
        return sorted((out / "tables").glob("*.csv"))

    say(f"Writing {settings.scans} synthetic AV1451 scans of {settings.subjects} subjects as PET DICOM.")
    run_once(out / ".phantom.json", fingerprint(settings.model_dump(exclude={"workers"}), seed), work)
