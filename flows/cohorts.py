"""What a study learns from: volumes, labels, regional features, split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.console import say
from flows.ingest import COHORT_TABLE, REGION_TABLE
from pipeline.config import Study
from pipeline.errors import CohortError
from pipeline.learning.loading import LabelledVolumes, load_medmnist, load_volumes
from pipeline.learning.split import split_subjects
from pipeline.scan import PARTS, Cohort, Split


def load_cohort(study: Study) -> tuple[Cohort, LabelledVolumes, Split | None]:
    """Return the labelled cohort of a study, its volumes, and the published split where there is one.

    Raises
    ------
    CohortError
        If the cohort is not there or no scan has a diagnosis.
    """
    if study.cohort.kind == "medmnist":
        volumes, split = load_medmnist(
            study.cohort.path, study.cohort.classes, validation=study.split.validation, seed=study.seed
        )
        return Cohort((), volumes.class_names), volumes, split
    table = study.cohort.path / COHORT_TABLE
    cohort = Cohort.read_tsv(table, study.cohort.classes)
    labelled = cohort.labelled()
    if not labelled.scans:
        raise CohortError(
            "A cohort to learn from needs diagnoses, no scan has one",
            culprit=str(table),
            mend="put the diagnosis table beside the scans and ingest again",
        )
    if len(labelled) < len(cohort):
        without = [s.scan_id for s in cohort.scans if s.diagnosis is None]
        say(f"{len(without)} scans without a diagnosis are left out: {', '.join(without[:5])}.")
    # Refused before the volumes are read: a class with two subjects need not wait for that.
    split_of(study, labelled)
    return labelled, load_volumes(labelled, study.preprocessing, study.output / "cache"), None


def split_of(study: Study, cohort: Cohort) -> Split:
    """Split a cohort by subject as its study asks."""
    least = study.cohort.min_subjects_per_class
    return split_subjects(cohort, study.split, seed=study.seed, min_subjects=least)


def sizes_in_words(split: Split, volumes: LabelledVolumes) -> str:
    """Tell how many scans of each class each part has."""
    class_of = dict(zip(volumes.scan_ids, volumes.labels.tolist(), strict=True))
    words = []
    for part in PARTS:
        counts = np.bincount([class_of[i] for i in split.part(part)], minlength=len(volumes.class_names))
        words.append(f"{part} {len(split.part(part))} ({'/'.join(map(str, counts))})")
    return ", ".join(words) + f" scans of {'/'.join(volumes.class_names)}"


def region_table(study: Study) -> pd.DataFrame | None:
    """Return regional SUVR, one row a scan id, or None where the cohort has none."""
    path = study.cohort.path / REGION_TABLE
    if study.cohort.kind != "bids" or not path.is_file():
        return None
    return pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False).set_index("scan_id")


def regional_features(table: pd.DataFrame, scan_ids: tuple[str, ...]) -> NDArray[np.float64]:
    """Return left and right regional SUVR, shape (scans, regions), for the baseline."""
    sided = [c for c in table.columns if c.startswith(("left_", "right_")) and table[c].notna().all()]
    features: NDArray[np.float64] = table.loc[list(scan_ids), sided].to_numpy(dtype=np.float64)
    return features


def regional_norms_of(table: pd.DataFrame, scan_ids: list[str]) -> list[dict[str, Any]]:
    """Return mean, SD and count of every region and composite over normal scans, as JSON-able rows."""
    rows = []
    for column, values in table.loc[scan_ids].items():
        side, _, region = str(column).partition("_")
        place = "both" if side == "composite" else side
        known = values.dropna()
        if len(known) > 1:
            stated = {"mean": float(known.mean()), "sd": float(known.std()), "n": len(known)}
            rows.append({"region": region, "side": place, **stated})
    return rows
