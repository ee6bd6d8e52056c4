"""The name of each report of a call; the same scan in several packings has one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flows.running.console import say
from pipeline.ingest.copies import are_copies
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.found import FoundScan
from pipeline.ingest.source_map import place_of


class _Named(NamedTuple):
    """A scan with its pseudonym, and the name of its report."""

    scan: FoundScan
    label: str
    name: str

    def may_be(self, scan: FoundScan, label: str) -> bool:
        """Whether another scan may be this one: a scan without a date is named by where it lies, too."""
        person, series = self.scan.subject_label, self.scan.series_uid
        return self.label == label or (
            bool(series) and (person, series) == (scan.subject_label, scan.series_uid)
        )


def named_reports(
    scans: Iterable[FoundScan], pseudonymiser: Pseudonymiser
) -> Iterator[tuple[FoundScan, str]]:
    """Yield each scan with the name of its report; a copy of one that came before is printed and left out.

    Other images of the same person and day, as another reconstruction, get a number: two paths are two
    sources, of which neither knows that its scan is the second of its day.
    """
    taken: list[_Named] = []
    for scan in scans:
        label = scan.label(pseudonymiser)
        same = next((one for one in taken if one.may_be(scan, label) and are_copies(one.scan, scan)), None)
        if same is not None:
            say(f"{place_of(scan)} holds the same images as {place_of(same.scan)}: one report, {same.name}.")
            continue
        before = [one for one in taken if one.label == label]
        name = f"{label}n{len(before) + 1}" if before else label
        if before:
            known = place_of(before[0].scan)
            say(f"{place_of(scan)} holds other images of the person and day of {known}: report {name}.")
        taken.append(_Named(scan, label, name))
        yield scan, name
