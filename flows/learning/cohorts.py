"""What a study learns from: volumes, labels, regional features, split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.ingestion.ingest_tables import COHORT_TABLE, REGION_TABLE
from flows.running.console import say
from models.card import RegionNorm
from pipeline.config import Study
from pipeline.errors import CohortError
from pipeline.learning.images import read_images
from pipeline.learning.imbalance import long_tail
from pipeline.learning.loading import LabelledVolumes, load_volumes
from pipeline.learning.medmnist import load_medmnist
from pipeline.learning.split import split_subjects
from pipeline.scan import PARTS, Cohort, Split

_CLASSES_TOLD = 10


def cohort_and_split(study: Study) -> tuple[Cohort, LabelledVolumes, Split]:
    """Return the labelled cohort of a study, its volumes, and who is in which part.

    Raises
    ------
    CohortError
        If the cohort is not there, no scan has a diagnosis, or a class has too few subjects.
    """
    cohort, volumes, official = load_cohort(study)
    return cohort, volumes, official or split_of(study, cohort)


def cache_of(study: Study) -> Path:
    """Return the folder of a study's prepared volumes."""
    return study.output / "cache"


def load_cohort(study: Study) -> tuple[Cohort, LabelledVolumes, Split | None]:
    """Return the labelled cohort of a study, its volumes, and the split where the data have one of their own.

    A cohort of images has no scans, only volumes.

    Raises
    ------
    CohortError
        If the cohort is not there or no scan has a diagnosis.
    """
    cache = cache_of(study)
    if study.cohort.kind != "bids":
        volumes, split = _published(study, cache)
        split = made_rarer(study, split, volumes)
        return Cohort((), volumes.class_names), volumes, split
    labelled = labelled_cohort(study)
    # Refused before the volumes are read: a class with two subjects need not wait for that.
    split_of(study, labelled)
    return labelled, load_volumes(labelled, study.preprocessing, cache), None


def whole_cohort(study: Study) -> Cohort:
    """Return every scan of a cohort of kind bids that has an SUVR volume, with a diagnosis or without.

    Raises
    ------
    CohortError
        If the cohort's table is not there.
    """
    return Cohort.read_tsv(study.cohort.path / COHORT_TABLE, study.cohort.classes)


def labelled_cohort(study: Study) -> Cohort:
    """Return the scans of a cohort of kind bids that have a diagnosis; tell how many have none.

    Raises
    ------
    CohortError
        If the cohort is not there or no scan has a diagnosis.
    """
    cohort = whole_cohort(study)
    labelled = cohort.labelled()
    if not labelled.scans:
        raise CohortError(
            "A cohort to learn from needs diagnoses, no scan has one",
            where=str(study.cohort.path / COHORT_TABLE),
            hint="put the diagnosis table beside the scans and ingest again",
        )
    if len(labelled) < len(cohort):
        without = [s.scan_id for s in cohort.scans if s.diagnosis is None]
        say(f"{len(without)} scans without a diagnosis are left out: {', '.join(without[:5])}.")
    return labelled


def _published(study: Study, cache: Path) -> tuple[LabelledVolumes, Split]:
    cohort, seed = study.cohort, study.seed
    if cohort.kind == "medmnist":
        return load_medmnist(cohort.path, cohort.classes, validation=study.split.validation, seed=seed)
    return read_images(cohort, study.split, seed=seed, cache=cache)


def split_of(study: Study, cohort: Cohort) -> Split:
    """Split a cohort by subject as its study asks, the training part as rare as it asks."""
    least = study.cohort.min_subjects_per_class
    split = split_subjects(cohort, study.split, seed=study.seed, min_subjects=least)
    return made_rarer(study, split, cohort)


def made_rarer(study: Study, split: Split, of: Cohort | LabelledVolumes) -> Split:
    """Return a split with its training part as imbalanced as the study asks; every split comes by here."""
    label_of = dict(zip(of.scan_ids, of.labels.tolist(), strict=True))
    return long_tail(split, label_of, of.class_names, ratio=study.imbalance.ratio, seed=study.seed)


def sizes_in_words(split: Split, volumes: LabelledVolumes) -> str:
    """Tell how many scans of each class each part has; of many classes, the fewest and the most."""
    class_of = dict(zip(volumes.scan_ids, volumes.labels.tolist(), strict=True))
    names = volumes.class_names
    few = len(names) <= _CLASSES_TOLD
    words = []
    for part in PARTS:
        counts = np.bincount([class_of[i] for i in split.part(part)], minlength=len(names))
        told = "/".join(map(str, counts)) if few else f"{counts.min()} to {counts.max()} a class"
        words.append(f"{part} {len(split.part(part))} ({told})")
    return ", ".join(words) + " scans of " + ("/".join(names) if few else f"{len(names)} classes")


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


def regional_norms_of(table: pd.DataFrame, scan_ids: list[str]) -> tuple[RegionNorm, ...]:
    """Return mean, SD and count of every region and composite over normal scans."""
    rows = []
    for column, values in table.loc[scan_ids].items():
        side, _, region = str(column).partition("_")
        place = "both" if side == "composite" else side
        known = values.dropna()
        if len(known) > 1:
            mean, sd = float(known.mean()), float(known.std())
            rows.append(RegionNorm(region=region, side=place, mean=mean, sd=sd, n=len(known)))
    return tuple(rows)
