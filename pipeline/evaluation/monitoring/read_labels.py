"""Reads as labels for training: which count, and that none of them ever tests a classifier.

A reader who has seen the model's answer tends to follow it: a model that learned from such reads would learn
from itself, so only blind reads count by default. The test part holds what the study calls its diagnoses
alone, else the gate would ask whether a model agrees with readers who trained it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.config import ReadLabelSettings
from pipeline.evaluation.monitoring.reads import AnsweredRead, current_reads
from pipeline.scan import Cohort, Split

LABEL_FROM = "label_from"
"""Fact of a scan whose label is from reads: who read it, and the entries of the audit log."""


@dataclass(frozen=True)
class ReadLabel:
    """The class that readers gave a scan, with where it is recorded."""

    scan: str
    diagnosis: str
    readers: tuple[str, ...]
    entries: tuple[int, ...]
    blind: bool

    @property
    def source(self) -> str:
        """Readers and entries in words."""
        entries = ", ".join(map(str, self.entries))
        return f"read by {', '.join(self.readers)} (audit log {entries})"


@dataclass(frozen=True)
class ReadLabels:
    """The labels from reads.

    Parameters
    ----------
    by_scan : mapping of str to ReadLabel
    contested : tuple of str
        Scans to which readers gave different classes; they get no label.
    seen : int
        Reads with a class that do not count because the answer was in view.
    """

    by_scan: Mapping[str, ReadLabel]
    contested: tuple[str, ...]
    seen: int


def labels_from(
    reads: Iterable[AnsweredRead], classes: Sequence[str], settings: ReadLabelSettings
) -> ReadLabels:
    """Return the class of each scan about which all readers that count agree.

    Of each reader the last read of a scan counts; one that states no class of the study does not.
    """
    of_scan: dict[str, list[AnsweredRead]] = {}
    for read in reads:
        of_scan.setdefault(read.scan, []).append(read)
    labels, contested, seen = {}, [], 0
    for scan, found in sorted(of_scan.items()):
        last = [r for r in current_reads([f.recorded for f in found]) if r.read.diagnosis in classes]
        counted = [r for r in last if r.read.blind or not settings.blind_only]
        seen += len(last) - len(counted)
        given = {str(r.read.diagnosis) for r in counted}
        if len(given) > 1:
            contested.append(scan)
        elif given:
            readers, entries = (tuple(r.read.reader for r in counted), tuple(r.number for r in counted))
            blind = all(r.read.blind for r in counted)
            labels[scan] = ReadLabel(scan, given.pop(), readers, entries, blind)
    return ReadLabels(labels, tuple(contested), seen)


def with_read_labels(cohort: Cohort, labels: ReadLabels, silent: Collection[str]) -> Cohort:
    """Return the cohort with these labels where a scan has none of its own; each such scan names its source.

    Parameters
    ----------
    silent : collection of str
        Scans that state nothing: one that states a diagnosis which is no class of the study keeps that.

    Examples
    --------
    >>> from pathlib import Path
    >>> from pipeline.scan import Scan
    >>> scan = Scan("A", "1", Path())
    >>> label = ReadLabel("sub-A_ses-1", "AD", ("AB",), (12,), True)
    >>> cohort = Cohort((scan,), ("CN", "AD"))
    >>> (labelled,) = with_read_labels(cohort, ReadLabels({label.scan: label}, (), 0), {label.scan}).scans
    >>> labelled.diagnosis, labelled.facts[LABEL_FROM]
    ('AD', 'read by AB (audit log 12)')
    """
    scans = []
    for scan in cohort.scans:
        label = labels.by_scan.get(scan.scan_id)
        if label is not None and scan.scan_id in silent:
            scan = replace(scan, diagnosis=label.diagnosis, facts={**scan.facts, LABEL_FROM: label.source})
        scans.append(scan)
    return replace(cohort, scans=tuple(scans))


def diagnosed(cohort: Cohort) -> Cohort:
    """Return the scans whose label is not from reads: what a split is made of, and a classifier tested on."""
    return replace(cohort, scans=tuple(scan for scan in cohort.scans if LABEL_FROM not in scan.facts))


def trained_on_reads(split: Split, cohort: Cohort) -> Split:
    """Return a split of the diagnosed scans with the others of the cohort in its training part.

    A scan whose subject is in another part is left out: no subject is in two.
    """
    held = {split.subject_of[i] for part in ("validation", "calibration", "test") for i in split.part(part)}
    added = [s for s in cohort.scans if LABEL_FROM in s.facts and s.subject not in held]
    subject_of = {**split.subject_of, **{s.scan_id: s.subject for s in added}}
    return replace(split, train=split.train + tuple(s.scan_id for s in added), subject_of=subject_of)


def labels_sentence(labels: ReadLabels, settings: ReadLabelSettings) -> str:
    """Return whether reads are labels, of how many scans, and why so."""
    why = (
        "A reader who has seen the model's answer tends to follow it, so that a model trained on such reads "
        "would learn from itself."
    )
    if not settings.from_reads:
        return f"Reads are not used as labels (labels.from_reads). {why}"
    parts = [f"Reads give {len(labels.by_scan)} scans a class; a scan with a diagnosis keeps that."]
    if labels.contested:
        parts.append(f"{len(labels.contested)} scans have no label because their readers disagree.")
    if settings.blind_only:
        parts.append(f"Only blind reads count; {labels.seen} others with a class do not. {why}")
    else:
        parts.append(f"Reads with the answer in view count too (labels.blind_only is off). Beware: {why}")
    parts.append(
        "Such scans train a model, and calibrate it where it is cross-fitted. They are never in the test "
        "part: there the gate would ask whether a model agrees with the readers who trained it."
    )
    return " ".join(parts)
