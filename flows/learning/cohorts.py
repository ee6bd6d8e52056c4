"""The cohort of a study: volumes, labels, regional SUVR, split."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from flows.ingestion.ingest_tables import COHORT_TABLE, REGION_TABLE
from flows.running.console import Tick, say
from flows.running.locks import locked
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import CohortError
from pipeline.evaluation.monitoring.read_labels import (
    LABEL_FROM,
    diagnosed,
    labels_from,
    trained_on_reads,
    with_read_labels,
)
from pipeline.files import write_json
from pipeline.ingest.deidentify import key_beside
from pipeline.ingest.label_table import with_labels
from pipeline.learning.class_labels import in_words, silent_scans, with_classes
from pipeline.learning.cross_fitting import least_subjects, scheme_of
from pipeline.learning.images import read_images
from pipeline.learning.imbalance import long_tail
from pipeline.learning.loading import LabelledVolumes, load_volumes
from pipeline.learning.medmnist import load_medmnist
from pipeline.learning.region_table import RegionTable
from pipeline.learning.split import development, split_subjects
from pipeline.learning.split_cohort import SplitCohort
from pipeline.scan import Cohort, Split

READ_LABELS = "read_labels.json"
"""File of the output folder: the labels that reads gave, with their readers and entries of the audit log."""


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
    return labelled, prepare_volumes(study, labelled), None


def prepare_volumes(study: Study, cohort: Cohort) -> LabelledVolumes:
    """Return the volumes of a labelled cohort; show a bar where some are missing, or who prepares them now.

    Raises
    ------
    CohortError
        If a scan's file is missing, unreadable, or not SUVR on the template grid.
    """
    with contextlib.ExitStack() as shown:
        ticks: list[Tick] = []

        def tick(done: int, total: int) -> None:
            if not ticks:
                from flows.running.task_runs import shared_progress  # workers of a comparison have no Prefect

                ticks.append(shown.enter_context(shared_progress("volumes")))
            ticks[0](done, total, "")

        wait = functools.partial(locked, wait=True)
        return load_volumes(cohort, study.preprocessing, cache_of(study), tick, wait)


def whole_cohort(study: Study) -> Cohort:
    """Return every scan of a cohort of kind bids that has an SUVR volume, with a class or without.

    The classes are those of the study now: what a scan states is in the cohort's table, or in the table of
    labels that the study names, and no ingest is needed to merge classes or to leave one out.

    Raises
    ------
    CohortError
        If the cohort's table is not there, or the table of labels has no row of a scan.
    """
    return _with_classes(study)[0]


def _with_classes(study: Study) -> tuple[Cohort, list[str], frozenset[str]]:
    """Return the cohort with the study's classes, what to print, and the scans that state nothing."""
    settings, sentences = study.cohort, []
    cohort = Cohort.read_tsv(settings.path / COHORT_TABLE)
    if settings.labels is not None:
        key_file = study.ingest.key_file or key_beside(settings.path)
        limit = study.ingest.max_days_to_diagnosis
        found = with_labels(cohort, settings.labels, settings.target, key_file, limit)
        cohort = found.cohort
        table = f"{found.matched} of {len(cohort)} scans have a label in {settings.labels.file.name}."
        sentences += [table, *found.notes]
    silent = silent_scans(cohort, settings.words)
    cohort, left_out = with_classes(cohort, settings.words)
    return cohort, sentences + in_words(left_out, settings.words), silent


def labelled_cohort(study: Study) -> Cohort:
    """Return the scans of a cohort of kind bids that have a class; print how many have none.

    With `labels.from_reads` those that readers gave are among them, and listed in ``read_labels.json``.

    Raises
    ------
    CohortError
        If the cohort is not there or no scan has a class.
    """
    cohort, sentences, silent = _with_classes(study)
    labelled = cohort.labelled()
    if not labelled.scans:
        what = study.cohort.target
        seen = " ".join(sentences)
        raise CohortError(
            f"No scan of the cohort has a {what} of one of the classes {', '.join(study.cohort.classes)}"
            + (f". {seen.removesuffix('.')}" if seen else ""),
            where=str(study.cohort.path / COHORT_TABLE),
            hint="name classes that the scans state in cohort.classes, or list the words of each class in "
            "cohort.merge"
            if seen
            else "add the diagnosis table to the source and ingest again, or name it by cohort.labels",
        )
    for sentence in sentences:
        say(sentence)
    if study.labels.from_reads:
        cohort = _with_reads(study, cohort, silent)
        labelled = cohort.labelled()
    without = [scan.scan_id for scan in cohort.scans if scan.diagnosis is None]
    _say_left_out([i for i in without if i not in silent], f"whose {study.cohort.target} is in no class")
    _say_left_out([i for i in without if i in silent], f"without a {study.cohort.target}")
    return labelled


def _say_left_out(scans: Sequence[str], why: str) -> None:
    if scans:
        count = "1 scan {} is" if len(scans) == 1 else f"{len(scans)} scans {{}} are"
        say(f"{count.format(why)} left out: {', '.join(scans[:5])}{', and more' if len(scans) > 5 else ''}.")


def _with_reads(study: Study, cohort: Cohort, silent: frozenset[str]) -> Cohort:
    """Return the cohort with the labels that readers gave, whose source is stored beside the study."""
    reads = tracking.audited_reads(tracking.audit_of(study.output))
    found = labels_from(reads, study.cohort.classes, study.labels)
    labelled = with_read_labels(cohort, found, silent)
    used = {scan.scan_id for scan in labelled.scans if LABEL_FROM in scan.facts}
    rows = [asdict(label) for scan, label in found.by_scan.items() if scan in used]
    write_json(study.output / READ_LABELS, rows)
    say(f"{len(used)} scans without a {study.cohort.target} have the class that readers gave.")
    return labelled


def _published(study: Study, cache: Path) -> tuple[LabelledVolumes, Split]:
    cohort, seed = study.cohort, study.seed
    if cohort.kind == "medmnist":
        return load_medmnist(cohort.path, cohort.classes, validation=study.split.validation, seed=seed)
    return read_images(cohort, study.split, seed=seed, cache=cache)


def split_of(study: Study, cohort: Cohort) -> Split:
    """Split a cohort by subject, with the training part as imbalanced as the study sets.

    Labels from reads are for that part alone. Where the study is cross-fitted, it holds all scans outside the
    test part.
    """
    of_diagnoses = diagnosed(cohort)
    least = least_subjects(study, len(of_diagnoses))
    cross_fit = scheme_of(study, len(of_diagnoses)) == "cross_fit"
    split = split_subjects(
        of_diagnoses,
        study.split,
        seed=study.seed,
        min_subjects=least,
        cross_fit=cross_fit,
        words=study.cohort.words,
    )
    if cross_fit:
        split = development(split)
    return made_rarer(study, trained_on_reads(split, cohort), cohort)


def made_rarer(study: Study, split: Split, of: Cohort | LabelledVolumes) -> Split:
    """Return a split with its training part as imbalanced as the study sets; used for every split."""
    label_of = dict(zip(of.scan_ids, of.labels.tolist(), strict=True))
    return long_tail(split, label_of, of.class_names, ratio=study.imbalance.ratio, seed=study.seed)


def region_table(study: Study) -> RegionTable | None:
    """Return the regional SUVR of a study's cohort, or None where the cohort has no such table."""
    path = study.cohort.path / REGION_TABLE
    return RegionTable.read(path) if study.cohort.kind == "bids" and path.is_file() else None
