"""A cohort as it is learned from: its scans, their volumes, and which part of the split each is in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.learning.loading import LabelledVolumes
from pipeline.scan import PARTS, Cohort, Split

_FEW_CLASSES = 10


@dataclass(frozen=True, eq=False)
class SplitCohort:
    """A labelled cohort, its volumes, and its split; a cohort of images has volumes and no scans."""

    cohort: Cohort
    volumes: LabelledVolumes
    split: Split

    def part(self, name: str) -> LabelledVolumes:
        """Return the volumes of a part."""
        return self.volumes.subset(self.split.part(name))

    def sizes(self) -> str:
        """Return the number of scans of each class in each part; of many classes, the fewest and the most."""
        class_of = dict(zip(self.volumes.scan_ids, self.volumes.labels.tolist(), strict=True))
        names = self.volumes.class_names
        few = len(names) <= _FEW_CLASSES
        words = []
        for part in PARTS:
            ids = self.split.part(part)
            if not ids:
                continue
            counts = np.bincount([class_of[i] for i in ids], minlength=len(names))
            shown = "/".join(map(str, counts)) if few else f"{counts.min()} to {counts.max()} a class"
            title = "development" if self.split.cross_fitted and part == "train" else part
            words.append(f"{title} {len(ids)} ({shown})")
        return ", ".join(words) + " scans of " + ("/".join(names) if few else f"{len(names)} classes")
