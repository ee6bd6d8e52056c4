"""Train, validation, calibration and test by subject, stratified by class."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.config import SplitSettings
from pipeline.diagnoses import ClassWords, spelling
from pipeline.errors import CohortError
from pipeline.learning.class_labels import merge_line, quoted
from pipeline.scan import PARTS, Cohort, Split
from pipeline.wording import counted


def split_subjects(
    cohort: Cohort,
    settings: SplitSettings,
    *,
    seed: int,
    min_subjects: int = 8,
    cross_fit: bool = False,
    words: ClassWords | None = None,
) -> Split:
    """Split the subjects of a cohort into the four parts.

    Every class is split separately, so each part has each class in about the proportion of the cohort. A
    subject's class is the diagnosis of most of its scans; on a tie, that of the last session.
    Subjects are ordered by a keyed hash of their name, not shuffled, so the split depends on neither the
    order of the scans nor the platform, and most subjects stay in their part when a cohort grows.

    Parameters
    ----------
    cohort : Cohort
        Every scan with a diagnosis.
    settings : SplitSettings
        Shares of subjects; the remainder is for training.
    min_subjects : int
        Fewest subjects of a class that are accepted, at least 4: one in each part.
    cross_fit : bool
        Whether all parts but the test part will be one: an error names the parts.
    words : ClassWords, optional
        The classes of the study, for the settings that an error proposes.

    Raises
    ------
    CohortError
        If the cohort is empty, has one class only, or a class has too few subjects.

    Examples
    --------
    >>> from pathlib import Path
    >>> from pipeline.scan import Scan
    >>> scans = [Scan(f"{n:02}", "M0", Path(), diagnosis="CN" if n % 2 else "AD") for n in range(40)]
    >>> split = split_subjects(Cohort(tuple(scans), ("CN", "AD")), SplitSettings(), seed=0)
    >>> {part: len(split.part(part)) for part in PARTS}
    {'train': 18, 'validation': 4, 'calibration': 8, 'test': 10}
    """
    if not len(cohort):
        raise CohortError(
            "The cohort has no scans",
            hint="Run `taucal ingest`, and check in its ingest_report.tsv that diagnoses were found",
        )
    class_of = subject_classes(
        cohort.subjects, [cohort.class_names[k] for k in cohort.labels], cohort.scan_ids
    )
    least = max(4, min_subjects)
    parts = "Cross-fitting and the test part" if cross_fit else ", ".join(PARTS)
    needs = f". {parts} together need at least {least} of each class"
    check_classes(class_of, cohort.class_names, least, needs, words=words)
    shares = {"validation": settings.validation, "calibration": settings.calibration, "test": settings.test}
    part_of = assign_parts(class_of, shares, seed=seed)
    return split_by(cohort, part_of)


def split_by(cohort: Cohort, part_of: Mapping[str, str]) -> Split:
    """Return the split of a cohort whose subjects are in these parts."""
    scans: dict[str, list[str]] = {part: [] for part in PARTS}
    for scan in cohort.scans:
        scans[part_of[scan.subject]].append(scan.scan_id)
    subject_of = dict(zip(cohort.scan_ids, cohort.subjects, strict=True))
    return Split(**{part: tuple(ids) for part, ids in scans.items()}, subject_of=subject_of)


def subject_classes(
    subjects: Sequence[str], diagnoses: Sequence[str], scan_ids: Sequence[str]
) -> dict[str, str]:
    """Return each subject's class: the diagnosis of most of its scans, on a tie that of the last session."""
    seen: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for subject, diagnosis, scan_id in zip(subjects, diagnoses, scan_ids, strict=True):
        seen[subject].append((scan_id, diagnosis))
    classes = {}
    for subject, visits in seen.items():
        ordered = [diagnosis for _, diagnosis in sorted(visits)]
        counts = Counter(ordered)
        last = {diagnosis: place for place, diagnosis in enumerate(ordered)}
        classes[subject] = max(counts, key=lambda d: (counts[d], last[d]))
    return classes


def assign_parts(class_of: Mapping[str, str], shares: Mapping[str, float], *, seed: int) -> dict[str, str]:
    """Return the part of every subject: every named part gets its share of each class, at least one.

    Parameters
    ----------
    shares : mapping of part to share
        The remainder goes to ``"train"``.
    """
    part_of = {}
    for name in sorted(set(class_of.values())):
        members = sorted((s for s, c in class_of.items() if c == name), key=lambda s: _rank(seed, s))
        start = 0
        for part, share in shares.items():
            stop = start + max(1, round(share * len(members)))
            part_of.update(dict.fromkeys(members[start:stop], part))
            start = stop
        part_of.update(dict.fromkeys(members[start:], "train"))
    return part_of


def development(split: Split) -> Split:
    """Return a split whose training part holds every scan outside the test part, for cross-fitting.

    Examples
    --------
    >>> development(Split(("a",), ("b",), ("c",), ("d",), {i: i for i in "abcd"})).train
    ('a', 'b', 'c')
    """
    whole = split.train + split.validation + split.calibration
    return replace(split, train=whole, validation=(), calibration=())


def extend_split(
    earlier: Split, cohort: Cohort, settings: SplitSettings, *, seed: int, train: bool = True
) -> Split:
    """Split a cohort that has grown: subjects stay in their part, new ones are assigned to one.

    New scans of a subject go to its part, so every old test subject stays in test. The part of a new subject
    depends on its name and the seed alone: however the cohort grows, and whichever split is extended, it is
    the same. Where the earlier split was cross-fitted, only the test part is settled; subjects of
    the others are assigned again.

    Parameters
    ----------
    earlier : Split
        Its scans that are no longer in the cohort are left out.
    cohort : Cohort
        Every scan with a diagnosis.
    settings : SplitSettings
        Probabilities of each part for a new subject; the remainder is for training.
    train : bool
        If false, for a recalibration: new subjects go to calibration and test only, in the proportion of
        their shares. A cross-fitted split has no calibration part, and its networks together have learned
        from all development scans, so the new scans alone calibrate.

    Raises
    ------
    CohortError
        If `train` is false and no scan is for calibration.
    """
    parts = ("test",) if earlier.cross_fitted and train else PARTS
    part_of = {earlier.subject_of[i]: part for part in parts for i in earlier.part(part)}
    settled = {earlier.subject_of[i] for i in earlier.train} - part_of.keys()
    chances = {"calibration": settings.calibration, "test": settings.test}
    if train:
        chances = {"validation": settings.validation, **chances}
    else:
        chances = {part: share / sum(chances.values()) for part, share in chances.items()}
    new = {s: _part_by_chance(seed, s, chances) for s in cohort.subjects if s not in part_of}
    # Earlier networks learned from these: they are no test subjects.
    left = {"validation": settings.validation, "calibration": settings.calibration}
    left = {part: share / (1 - settings.test) for part, share in left.items()}
    new |= {s: _part_by_chance(seed, s, left) for s in cohort.subjects if s in settled}
    extended = split_by(cohort, part_of | new)
    if not (train or extended.calibration):
        raise CohortError(
            "Recalibration needs labelled scans that the networks have not learned from, found none of new "
            "subjects in the calibration part",
            hint="Add diagnoses of new subjects, or train the study again",
        )
    return extended


def _part_by_chance(seed: int, subject: str, chances: Mapping[str, float]) -> str:
    place = int.from_bytes(_rank(seed, subject)[:8], "big") / 2**64
    reached = 0.0
    for part, chance in chances.items():
        reached += chance
        if place < reached:
            return part
    return "train" if reached < 1 - 1e-9 else list(chances)[-1]


def _rank(seed: int, subject: str) -> bytes:
    return hashlib.sha256(f"{seed}:{subject}".encode()).digest()


def check_classes(
    class_of: Mapping[str, str],
    class_names: Sequence[str],
    least: int,
    needs: str,
    *,
    fewer: str = "",
    words: ClassWords | None = None,
) -> None:
    """Refuse a cohort with a class of too few subjects; the hint names only what would then be accepted.

    Parameters
    ----------
    class_of : mapping of subject to class
    class_names : sequence of str
    least : int
        Fewest subjects of a class.
    needs : str
        Follows "CN has 3 subjects": what needs more of them.
    fewer : str
        What else helps, as ``"Use fewer folds"``.
    words : ClassWords, optional
        The classes of the study with the words that are merged already, which the hint repeats.

    Raises
    ------
    CohortError
    """
    counts = Counter(class_of.values())
    present = [name for name in class_names if counts[name]]
    if len(present) < 2:
        absent = ", ".join(n for n in class_names if n not in present) or "another class"
        only = f"{present[0]} ({counted(counts[present[0]], 'subject')})"
        raise CohortError(
            f"The only class is {only}. Expected at least two classes",
            hint=f"Add subjects of {absent}",
        )
    few = [name for name in class_names if counts[name] < least]
    if few:
        found = ", ".join(
            f"{name} has {counted(counts[name], 'subject')}" for name in (present if fewer else few)
        )
        ways = _ways(few, counts, words or ClassWords(tuple(class_names)), least)
        raise CohortError(
            f"{found}{needs}",
            where=f"class {', '.join(few)}",
            hint=", or ".join(filter(None, (fewer, *ways))),
        )


def _ways(few: list[str], counts: Mapping[str, int], words: ClassWords, least: int) -> list[str]:
    """Return what a person can do about classes of too few subjects, each with all settings it takes."""
    names = words.names
    enough = [name for name in names if name not in few]
    ways = [f"Add subjects of {' and '.join(few)}"]
    group = few
    if len(few) == 1 or sum(counts[name] for name in few) < least:
        # The class beside it, where one besides these is left.
        after = [name for name in enough if names.index(name) > names.index(few[-1])]
        group = sorted([*few, after[0] if after else enough[-1]], key=names.index) if len(enough) > 1 else []
    # The first class is that of healthy people: it is not proposed to be one with patients.
    if group and enough and names[0] not in group:
        ways.append(f"merge {' and '.join(group)}: {_merging(group, words)}")
    if len(enough) > 1:
        others = {name: listed for name, listed in words.merge.items() if name not in few}
        line = f" with {merge_line(others)}" if others != words.merge else ""
        ways.append(f"leave {' and '.join(few)} out: {_class_line(enough)}{line}")
    return ways


def _merging(group: Sequence[str], words: ClassWords) -> str:
    """Return the settings that unite classes; the words that other classes list stay theirs."""
    united = "impaired" if {*group} <= {"MCI", "AD", "impaired"} else "_".join(group)
    others = {name: listed for name, listed in words.merge.items() if name not in group}
    taken = {spelling(word) for listed in others.values() for word in listed}
    own = {spelling(word): word for name in group for word in (name, *words.merge.get(name, ()))}
    merge = {**others, united: [word for spelt, word in own.items() if spelt not in taken]}
    classes = dict.fromkeys(united if name in group else name for name in words.names)
    return f"{merge_line(merge)} with {_class_line(classes)}"


def _class_line(names: Iterable[str]) -> str:
    return f"cohort.classes: [{', '.join(map(quoted, names))}]"
