"""The names of scan and report; the same scan in several packings has one, other images never replace it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from flows.running.console import say
from pipeline.ingest.copies import content_of
from pipeline.ingest.deidentify import Pseudonymiser, dataset_of_study
from pipeline.ingest.found import FoundScan
from pipeline.ingest.records import read_records
from pipeline.ingest.same_scans import as_known
from pipeline.ingest.source_map import known_labels, known_subjects, place_of


class NamedReport(NamedTuple):
    """A scan with its pseudonym, the name of its report, and what its images are known by, if they are."""

    scan: FoundScan
    label: str
    name: str
    images: str

    def shows(self, scan: FoundScan, label: str, images: str) -> bool:
        """Whether another scan is this one: a scan without a date is named by where it lies, too."""
        person, series = self.scan.subject_label, self.scan.series_uid
        alike = bool(series) and (person, series) == (scan.subject_label, scan.series_uid)
        return bool(images) and images == self.images and (self.label == label or alike)


def under_known_names(
    places: Iterable[Sequence[FoundScan]], key_file: Path, pseudonymiser: Pseudonymiser, study: Path
) -> list[FoundScan]:
    """Give each scan the subject label that its subject has under this key, as an ingest does.

    A scan of the key's own dataset, or of a copy of it, keeps the pseudonym and the session that it has.

    Parameters
    ----------
    places : iterable of sequence of FoundScan
        The scans at each path: those of one path may have IDs that differ in their spelling alone.
    key_file : Path
        Its private map holds the labels.
    study : Path
        Output folder of the study. Records of its dataset show whether two spellings are two people.
    """
    dataset = dataset_of_study(study)
    records = {} if dataset is None else read_records(dataset)
    known, bids, labels = known_subjects(key_file), dataset or study, known_labels(key_file)
    found = [scan for scans in places for scan in as_known(scans, known, records, bids, pseudonymiser)]
    return [_keeping_its_label(scan, labels) for scan in found]


def _keeping_its_label(scan: FoundScan, labels: Collection[str]) -> FoundScan:
    label = f"sub-{scan.subject_label}_ses-{scan.session_label}"
    return replace(scan, own_label=label) if label in labels else scan


def named_reports(
    scans: Iterable[FoundScan], pseudonymiser: Pseudonymiser, out: Path
) -> Iterator[NamedReport]:
    """Yield each scan with the name of its report; a copy of one that came before is printed and left out.

    Other images of the same person and day, as another reconstruction, get a number: two paths are two
    sources, of which neither knows that its scan is the second of its day.

    Parameters
    ----------
    out : Path
        Folder of the reports: one that is there is replaced only by a report of the same images.
    """
    taken: list[NamedReport] = []
    for scan in scans:
        label, content = scan.label(pseudonymiser), content_of(scan)
        images = pseudonymiser.code("images", content) if content else ""
        same = next((one for one in taken if one.shows(scan, label, images)), None)
        if same is not None:
            say(f"{place_of(scan)} holds the same images as {place_of(same.scan)}: one report, {same.name}.")
            continue
        name = _free_name(label, images, taken, out)
        if name != label:
            shown = next((place_of(one.scan) for one in taken if one.name == label), str(out / label))
            say(f"{place_of(scan)} holds other data of the person and day of {shown}: report {name}.")
        taken.append(NamedReport(scan, label, name, images))
        yield taken[-1]


def _free_name(label: str, images: str, taken: Iterable[NamedReport], out: Path) -> str:
    names = {one.name for one in taken}
    numbered = itertools.chain([label], (f"{label}n{number}" for number in itertools.count(2)))
    return next(name for name in numbered if name not in names and _may_write(out / name, images))


def _may_write(folder: Path, images: str) -> bool:
    """Whether a folder holds no report of other images; reports of earlier versions do not state theirs."""
    try:
        shown = json.loads((folder / "report.json").read_text()).get("images")
    except (OSError, ValueError, AttributeError):
        return True
    return shown is None or shown == images
