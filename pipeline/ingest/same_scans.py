"""What two sources hold alike: one image under two names, two people under one label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from pipeline.errors import RefusedScan
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.found import FoundScan
from pipeline.ingest.outcomes import ScanOutcome
from pipeline.ingest.people import alike, id_and_issuer, spelled
from pipeline.ingest.records import ScanRecord, read_records, record_path, remove_files

SAME_IMAGE = "same-image"
_YEARS_APART = 12.0
"""Ages that differ by more are of two people; less, and one is at enrolment, the other at the scan."""


def refuse_copies(bids: Path, listed: Collection[str]) -> dict[Path, ScanOutcome]:
    """Refuse all but one of the scans that have the same bytes: two subjects cannot share an image.

    Parameters
    ----------
    bids : Path
    listed : collection of str
        Scans that the tables list already: of two, such a one stays.

    Returns
    -------
    dict
        Outcomes of the scans that were refused, by record.
    """
    groups: dict[str, dict[Path, ScanRecord]] = defaultdict(dict)
    for path, record in read_records(bids).items():
        if record is not None and record.suvr is not None and record.image and record.is_whole(bids):
            groups[record.image][path] = record
    refused = {}
    for group in groups.values():
        first = min(group, key=lambda path: (group[path].outcome.scan not in listed, path.name))
        for path in group.keys() - {first}:
            refused[path] = _refuse_copy(bids, path, group[path], group[first].outcome.scan)
    return refused


def _refuse_copy(bids: Path, path: Path, record: ScanRecord, other: str) -> ScanOutcome:
    refusal = RefusedScan(
        SAME_IMAGE,
        f"The same image, to the byte, is in the dataset as {other}",
        hint="`taucal who` names both inputs: where a subject was renamed, ingest with --prune; where two "
        "people have one image, find out whose it is",
        measured=other,
    )
    outcome = ScanOutcome.of_refusal(record.outcome.scan, "conversion", refusal)
    replace(record, outcome=outcome, files={}, converted=None, suvr=None, regions={}).write(path)
    remove_files(bids, record.files)
    return outcome


def release_copies(bids: Path) -> None:
    """Let scans that were refused as copies be tried again where the other one is gone."""
    records = {path: record for path, record in read_records(bids).items() if record is not None}
    held = {record.image for record in records.values() if record.suvr is not None and record.is_whole(bids)}
    for path, record in records.items():
        if record.outcome.rule == SAME_IMAGE and record.key and record.image not in held:
            replace(record, key="").write(path)


def as_known(
    scans: Iterable[FoundScan],
    known: Collection[str],
    records: Mapping[Path, ScanRecord | None],
    names: Pseudonymiser,
) -> list[FoundScan]:
    """Call each subject as the dataset does where a source spells the ID in another way.

    As within one source, case, blanks, leading zeros and a missing issuer do not matter, unless the source
    itself, or a contradiction in sex or age, distinguishes the spellings.

    Parameters
    ----------
    scans : iterable of FoundScan
    known : collection of str
        Labels of the dataset's subjects, from the private map.
    records : mapping
        Of the dataset.
    names : Pseudonymiser
    """
    scans = list(scans)
    spellings, here = _by_spelling(known), _by_spelling(spelled(scan.subject_label) for scan in scans)
    of_subject = _by_subject(records.values())

    def called(scan: FoundScan) -> FoundScan:
        common = alike(scan.subject_label)
        if scan.subject_label in known or not common:
            return scan
        exact, like = _spellings(scan.subject_label, spellings[common])
        if exact or len(here[common]) > 1:
            return replace(scan, subject_label=exact or scan.subject_label)
        if len(like) != 1:
            return replace(scan, doubt=_SEVERAL_SPELLINGS) if like else scan
        found = replace(scan, subject_label=like[0])
        others = of_subject[names.subject(like[0])]
        return scan if any(_are_two(found, record, names) for record in others) else found

    return [called(scan) for scan in scans]


def _by_spelling(labels: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        found[alike(label)].add(label)
    return found


def _by_subject(records: Iterable[ScanRecord | None]) -> dict[str, list[ScanRecord]]:
    found: dict[str, list[ScanRecord]] = defaultdict(list)
    for record in records:
        if record is not None and record.converted is not None:
            found[record.converted["subject"]].append(record)
    return found


def _spellings(label: str, known: Collection[str]) -> tuple[str, list[str]]:
    """Return the known label that differs in case and blanks alone, and all that no issuer excludes."""
    issuer = id_and_issuer(label)[1]
    like = sorted(o for o in known if not issuer or id_and_issuer(o)[1] in ("", issuer))
    return next((other for other in like if spelled(other) == spelled(label)), ""), like


_SEVERAL_SPELLINGS = (
    "The dataset has several subjects whose IDs are spelled like this one but for leading zeros or an issuer",
    "Find out which of them it is, and write the ID as the dataset has it; `taucal who` prints it",
)


def compare_people(
    scans: Iterable[FoundScan],
    records: Mapping[Path, ScanRecord | None],
    source: str,
    bids: Path,
    names: Pseudonymiser,
) -> tuple[list[FoundScan], list[str]]:
    """Mark scans whose subject label is another person's in another source.

    Parameters
    ----------
    scans : iterable of FoundScan
    records : mapping
        Of the dataset.
    source : str
        The code of the source of these scans.
    bids : Path
    names : Pseudonymiser

    Returns
    -------
    scans : list of FoundScan
        Sex or age of those with a new `doubt` contradict what the other source states.
    shared : list of str
        Pseudonyms of subjects with new scans who came from another source alone until now.
    """
    known = _by_subject(record for record in records.values() if record is not None and record.sources)
    checked, shared = [], []
    for scan in scans:
        subject = names.subject(scan.subject_label)
        others = [record for record in known[subject] if source not in record.sources]
        new = record_path(bids, scan, names) not in records
        if new and any(_are_two(scan, record, names) for record in others):
            checked.append(replace(scan, doubt=_TWO_PEOPLE))
            continue
        if new and others and len(others) == len(known[subject]):
            shared.append(subject)
        checked.append(scan)
    return checked, sorted(set(shared))


_TWO_PEOPLE = (
    "Another source holds a person of another sex or age under the same subject label",
    "Rename the subjects of one source, or ingest each source into a dataset of its own",
)


def _are_two(scan: FoundScan, record: ScanRecord, names: Pseudonymiser) -> bool:
    converted = record.converted or {}
    facts = converted.get("facts", {})
    sexes = {sex for sex in (scan.sex, facts.get("sex")) if sex in ("M", "F")}
    age = facts.get("age")
    if len(sexes) == 2 or scan.age is None or not isinstance(age, (int, float)):
        return len(sexes) == 2
    years = 0.0
    if scan.scan_date is not None and converted.get("acquired_on"):
        shifted = names.shift_date(scan.subject_label, scan.scan_date)
        years = (shifted - date.fromisoformat(converted["acquired_on"])).days / 365.25
    return abs(scan.age - age - years) > _YEARS_APART
