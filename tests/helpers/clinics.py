"""A dataset as ingest leaves it, made without an ingest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from flows.ingestion.ingest_tables import COHORT_TABLE, REGION_TABLE
from models.preprocessing import TEMPLATE_SHAPE
from pipeline.config import Study
from pipeline.scan import Cohort, Scan

CLASSES = ("CN", "AD")
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@dataclass
class Clinic:
    """A dataset as ingest leaves it, without the ingest: scans can be added."""

    bids: Path
    scans: list[Scan] = field(default_factory=list)
    regions: list[dict[str, float | str]] = field(default_factory=list)

    def add(self, subjects: int, *, shifted: float = 0.0, model: str = "PET-1") -> None:
        """Add a scan of so many new subjects; `shifted` is added to the SUVR of the whole brain."""
        for number in range(len(self.scans), len(self.scans) + subjects):
            rng = np.random.default_rng(number)
            label = number % 2
            volume = np.full(TEMPLATE_SHAPE, 1.0 + shifted, dtype=np.float32)
            volume[30:60, 30:60, 30:60] += 0.6 * label + 0.35 * rng.standard_normal()
            path = self.bids / f"sub-{number:03d}_suvr.nii"
            nib.save(nib.Nifti1Image(volume, AFFINE), path)
            facts = {"manufacturer": "ACME", "model": model, "quality": "accepted"}
            scan = Scan(f"{number:03d}", f"2020{1 + number // 28:02d}{1 + number % 28:02d}", path,
                        diagnosis=CLASSES[label], facts=facts)  # fmt: skip
            self.scans.append(scan)
            # The table's regions tell nothing of the class: what is learned must come from the volume.
            drawn = dict(zip(("left_a", "right_a", "left_b"), 1 + 0.05 * rng.standard_normal(3), strict=True))
            self.regions.append(
                {"scan_id": scan.scan_id, **{name: value + shifted for name, value in drawn.items()}}
            )
        Cohort(tuple(self.scans), CLASSES).write_tsv(self.bids / COHORT_TABLE)
        pd.DataFrame(self.regions).to_csv(self.bids / REGION_TABLE, sep="\t", index=False)


def study_of(clinic: Clinic, *, epochs: int = 12, **sections: object) -> Study:
    """Return a study of a clinic with a network that learns in seconds."""
    given = {
        "split": {"validation": 0.1, "calibration": 0.3, "test": 0.3},
        "preprocessing": {"spacing_mm": 8},
        "augmentation": {"probability": 0},
        "network": {"options": {"width": 4}},
        "training": {"epochs": epochs, "learning_rate": 0.01, "batch_size": 16},
        "evaluation": {"draws": 50},
        "decision": {"coverage": 0.8},
    }
    return Study(
        name="clinic",
        output=clinic.bids.parent / "study",
        cohort={"path": clinic.bids, "classes": CLASSES},
        **given | sections,
    )
