"""The cohort of a study: volumes, labels, regional SUVR, split."""

from __future__ import annotations

from pathlib import Path

from flows.ingestion.ingest_tables import COHORT_TABLE, REGION_TABLE
from flows.running.console import say
from pipeline.config import Study
from pipeline.errors import CohortError
from pipeline.learning.cross_fitting import scheme_of
from pipeline.learning.images import read_images
from pipeline.learning.imbalance import long_tail
from pipeline.learning.loading import LabelledVolumes, load_volumes
from pipeline.learning.medmnist import load_medmnist
from pipeline.learning.region_table import RegionTable
from pipeline.learning.split import development, split_subjects
from pipeline.learning.split_cohort import SplitCohort
from pipeline.scan import Cohort, Split


def split_cohort(study: Study) -> SplitCohort:
    """Return the labelled cohort of a study, its volumes, and its split.

    Raises
    ------
    CohortError
        If the cohort is not there, no scan has a diagnosis, or a class has too few subjects.
    """
    cohort, volumes, published = load_cohort(study)
    return SplitCohort(cohort, volumes, published or split_of(study, cohort))


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
    # Raises before the volumes are read, which takes longer.
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
    """Return the scans of a cohort of kind bids that have a diagnosis; print how many have none.

    Raises
    ------
    CohortError
        If the cohort is not there or no scan has a diagnosis.
    """
    cohort = whole_cohort(study)
    labelled = cohort.labelled()
    if not labelled.scans:
        raise CohortError(
            "No scan of the cohort has a diagnosis",
            where=str(study.cohort.path / COHORT_TABLE),
            hint="check cohort.classes, or add the diagnosis table to the source and ingest again",
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
    """Split a cohort by subject, with the training part as imbalanced as the study sets.

    Where the study is cross-fitted, that part holds all scans outside the test part.
    """
    least = study.cohort.min_subjects_per_class
    split = split_subjects(cohort, study.split, seed=study.seed, min_subjects=least)
    if scheme_of(study, len(cohort)) == "cross_fit":
        split = development(split)
    return made_rarer(study, split, cohort)


def made_rarer(study: Study, split: Split, of: Cohort | LabelledVolumes) -> Split:
    """Return a split with its training part as imbalanced as the study sets; used for every split."""
    label_of = dict(zip(of.scan_ids, of.labels.tolist(), strict=True))
    return long_tail(split, label_of, of.class_names, ratio=study.imbalance.ratio, seed=study.seed)


def region_table(study: Study) -> RegionTable | None:
    """Return the regional SUVR of a study's cohort, or None where the cohort has no such table."""
    path = study.cohort.path / REGION_TABLE
    return RegionTable.read(path) if study.cohort.kind == "bids" and path.is_file() else None
