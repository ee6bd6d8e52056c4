"""Public image sets, read and split as a study does."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import CohortSettings, SplitSettings
from pipeline.learning.images import read_images
from pipeline.scan import PARTS

SHARES = SplitSettings(validation=0.1, calibration=0.2, test=0.2)


def read(kind: str, path: Path, cache: Path | None = None, *, seed: int = 0, **cohort):
    settings = CohortSettings(kind=kind, path=path, **cohort)
    return read_images(settings, SHARES, seed=seed, cache=cache or path.parent / "cache")


def sizes(split) -> dict[str, int]:
    return {part: len(split.part(part)) for part in PARTS}
