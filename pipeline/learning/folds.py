"""Cross-validation folds by subject: every subject is tested once."""

from __future__ import annotations

import hashlib

from pipeline.config import SplitSettings
from pipeline.learning.split import assign_parts, check_classes, split_by, subject_classes
from pipeline.scan import Cohort, Split

_FEWEST = 6
"""Subjects of a class: if two folds test three each, three are left for the other parts."""


def split_folds(
    cohort: Cohort,
    settings: SplitSettings,
    folds: int,
    *,
    seed: int,
    min_subjects: int = 8,
    calibration: bool = True,
) -> tuple[Split, ...]:
    """Return one split per fold: the fold is its test part, the other parts are cut from the rest.

    Every class is distributed over the folds separately, ordered by a keyed hash of the subjects' names:
    folds differ by at most one subject of a class. Validation and calibration get their shares of `settings`,
    scaled to what remains without its test part.

    Parameters
    ----------
    cohort : Cohort
        Every scan with a diagnosis.
    settings : SplitSettings
        Its share for testing is not used: it is 1 / `folds`.
    folds : int
        At least 2.
    min_subjects : int
        Fewest subjects of a class that are accepted.
    calibration : bool
        Whether a part of its own calibrates. If false, the scans that the other folds test do.

    Raises
    ------
    CohortError
        If a class has too few subjects.

    Examples
    --------
    >>> from pathlib import Path
    >>> from pipeline.scan import Scan
    >>> scans = [Scan(f"{n:02}", "M0", Path(), diagnosis="CN" if n % 2 else "AD") for n in range(50)]
    >>> splits = split_folds(Cohort(tuple(scans), ("CN", "AD")), SplitSettings(), folds=5, seed=0)
    >>> [len(split.test) for split in splits]
    [10, 10, 10, 10, 10]
    """
    class_of = subject_classes(
        cohort.subjects, [cohort.class_names[k] for k in cohort.labels], cohort.scan_ids
    )
    least = max(_FEWEST, folds, min_subjects)
    needs = f". {folds} folds need two classes or more with at least {least} each"
    # Fewer folds help where they are what asks for so many.
    fewer = "Use fewer folds" if folds > max(_FEWEST, min_subjects) else ""
    check_classes(class_of, cohort.class_names, least, needs, fewer=fewer)
    # Counted on from class to class: else the first folds would get one more subject of each.
    in_order = sorted(class_of, key=lambda subject: (class_of[subject], _rank(seed, subject)))
    fold_of = {subject: place % folds for place, subject in enumerate(in_order)}
    left = 1 - settings.test
    shares = {"validation": settings.validation / left}
    if calibration:
        shares["calibration"] = settings.calibration / left
    splits = []
    for fold in range(folds):
        rest = {s: c for s, c in class_of.items() if fold_of[s] != fold}
        # Each fold has its own order: else all would calibrate on nearly the same subjects.
        part_of = assign_parts(rest, shares, seed=seed * folds + fold + 1)
        splits.append(split_by(cohort, dict.fromkeys(class_of, "test") | part_of))
    return tuple(splits)


def _rank(seed: int, subject: str) -> bytes:
    return hashlib.sha256(f"fold:{seed}:{subject}".encode()).digest()
