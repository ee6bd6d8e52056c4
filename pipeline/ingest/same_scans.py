"""What two sources hold alike: one image under two names, two people under one label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from pipeline.errors import RefusedScan
from pipeline.files import sha256_of_file
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.found import FoundScan
from pipeline.ingest.outcomes import ScanOutcome
from pipeline.ingest.people import (
    WITH_AND_WITHOUT_ISSUER,
    YEARS_APART,
    Person,
    alike,
    are_two_people,
    id_and_issuer,
    spelled,
    with_issuer,
)
from pipeline.ingest.records import ScanRecord, read_records, record_path, remove_files
from pipeline.ingest.source_map import coded

SAME_IMAGE = "same-image"


def refuse_copies(bids: Path, listed: Collection[str]) -> dict[Path, ScanOutcome]:
    """Refuse all but one of the scans that show the same image: two subjects cannot share one.

    Their files are the same to the byte, or they became the same volume, as DICOM and a conversion of it do.

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
    held = {
        path: record if record.volume else _with_volume(bids, path, record)
        for path, record in read_records(bids).items()
        if record is not None and record.suvr is not None and record.is_whole(bids)
    }
    refused: dict[Path, ScanOutcome] = {}
    for kind in ("image", "volume"):
        groups: dict[str, set[Path]] = defaultdict(set)
        for path in held.keys() - refused.keys():
            groups[getattr(held[path], kind)].add(path)
        for image, group in groups.items():
            first = min(group, key=lambda path: (held[path].outcome.scan not in listed, path.name))
            for path in group - {first} if image else ():
                refused[path] = _refuse_copy(bids, path, held[path], held[first].outcome.scan)
    return refused


def _with_volume(bids: Path, path: Path, record: ScanRecord) -> ScanRecord:
    """Add to the record of an earlier version what its scan became."""
    image = bids / str((record.converted or {}).get("path"))
    if not image.is_file():
        return record
    known = replace(record, volume=sha256_of_file(image))
    known.write(path)
    return known


def _refuse_copy(bids: Path, path: Path, record: ScanRecord, other: str) -> ScanOutcome:
    refusal = RefusedScan(
        SAME_IMAGE,
        f"The same image is in the dataset as {other}",
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
    held = [record for record in records.values() if record.suvr is not None and record.is_whole(bids)]
    known = {record.image for record in held} | {record.volume for record in held if record.volume}
    for path, record in records.items():
        if record.outcome.rule == SAME_IMAGE and record.key and not {record.image, record.volume} & known:
            replace(record, key="").write(path)


def as_known(
    scans: Iterable[FoundScan],
    known: Mapping[str, Collection[Person]],
    records: Mapping[Path, ScanRecord | None],
    bids: Path,
    names: Pseudonymiser,
) -> list[FoundScan]:
    """Call each subject as the dataset does where a source spells the ID in another way.

    Case, leading zeros, a missing issuer and what parts the words of an ID do not matter, unless the source
    itself, or a contradiction in what headers and tables state, distinguishes the spellings: then they are
    two people, with a warning. One number of
    two issuers is of two people, unless name or date of birth agree: the later one is called with its issuer.
    An ID without issuer is that of the only person with this number; of several, it is in doubt.

    Parameters
    ----------
    scans : iterable of FoundScan
    known : mapping
        Labels of the dataset's subjects and whom their headers stated, from the private map.
    records : mapping
        Of the dataset.
    bids : Path
        The dataset.
    names : Pseudonymiser
    """
    scans = list(scans)
    spellings, here = _by_spelling(known), _by_spelling(spelled(scan.subject_label) for scan in scans)
    of_subject = _by_subject(records.values())

    def called(scan: FoundScan) -> FoundScan:
        common, label = alike(scan.subject_label), scan.subject_label
        person, issuer = _person(scan, names), _issuer(scan)
        like = sorted(spellings[common]) if common else []
        ours = [one for one in like if not _is_of_another_issuer(person, one, known[one], names)]
        full = with_issuer(label, issuer) if len(ours) < len(like) or label not in ours else label
        exact = next((one for one in ours if spelled(one) in (spelled(full), spelled(label))), "")
        only_issuer = {one for one in ours if id_and_issuer(one)[1] and not issuer} - {exact}
        if exact and only_issuer and record_path(bids, scan, names) not in records:
            return replace(scan, doubt=scan.doubt or _SEVERAL_SPELLINGS)
        if exact or not ours or len(here[common]) > 1:
            return replace(scan, subject_label=exact or (full if like and not ours else label))
        if len(ours) > 1:
            return replace(scan, doubt=_SEVERAL_SPELLINGS)
        found = replace(scan, subject_label=ours[0])
        others = of_subject[names.subject(ours[0])]
        two = any(are_two_people(person, other) for other in known[ours[0]])
        if two or any(_are_two(found, record, names) for record in others):
            return replace(scan, notes=(*scan.notes, _TAKEN_AS_TWO))
        return found

    return [_warned_of_issuer(called(scan), known, names) for scan in scans]


def _issuer(scan: FoundScan) -> str:
    """Return who gave the ID of a scan, by its header or its label."""
    return (scan.person.issuer if scan.person else "") or spelled(id_and_issuer(scan.subject_label)[1])


def _person(scan: FoundScan, names: Pseudonymiser) -> Person:
    nobody = Person("", frozenset(), "", "")
    return coded(replace(scan.person or nobody, issuer=_issuer(scan)), names)


def _is_of_another_issuer(
    person: Person, label: str, people: Collection[Person], names: Pseudonymiser
) -> bool:
    written = spelled(id_and_issuer(label)[1])
    nobody = Person("", frozenset(), "", "", written)
    issued = [one for one in (*people, coded(nobody, names)) if one.issuer]
    return bool(person.issuer and issued) and all(
        one.issuer != person.issuer and are_two_people(person, one) for one in issued
    )


def _warned_of_issuer(
    scan: FoundScan, known: Mapping[str, Collection[Person]], names: Pseudonymiser
) -> FoundScan:
    people = known.get(scan.subject_label, ())
    if scan.person is None or not people or WITH_AND_WITHOUT_ISSUER in scan.notes:
        return scan
    issuers = {one.issuer for one in (*people, _person(scan, names))}
    both = "" in issuers and len(issuers) > 1
    return replace(scan, notes=(*scan.notes, WITH_AND_WITHOUT_ISSUER)) if both else scan


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


_SEVERAL_SPELLINGS = (
    "The dataset has several subjects whose IDs are spelled like this one but for leading zeros or an issuer",
    "Find out which of them it is, and write the ID as the dataset has it; `taucal who` prints it",
)


_TAKEN_AS_TWO = "an ID in the dataset differs from this one in its spelling alone; taken as two people"


def compare_people(
    scans: Iterable[FoundScan],
    known: Mapping[str, Collection[Person]],
    records: Mapping[Path, ScanRecord | None],
    source: str,
    bids: Path,
    names: Pseudonymiser,
) -> tuple[list[FoundScan], list[str]]:
    """Mark scans whose subject label is another person's in another source.

    Parameters
    ----------
    scans : iterable of FoundScan
    known : mapping
        As in `as_known`.
    records : mapping
        Of the dataset.
    source : str
        The code of the source of these scans.
    bids : Path
    names : Pseudonymiser

    Returns
    -------
    scans : list of FoundScan
        What is stated of those with a new `doubt` contradicts what is known of the subject.
    shared : list of str
        Pseudonyms of subjects with new scans who came from another source alone until now.
    """
    of_subject = _by_subject(record for record in records.values() if record is not None and record.sources)
    checked, shared = [], []
    for scan in scans:
        subject = names.subject(scan.subject_label)
        others = [record for record in of_subject[subject] if source not in record.sources]
        record = records.get(record_path(bids, scan, names))
        new = record is None or record.converted is None  # a refused one is compared each time
        if new and any(_are_two(scan, record, names) for record in others):
            checked.append(replace(scan, doubt=scan.doubt or _TWO_PEOPLE))
            continue
        person, before = _person(scan, names), known.get(scan.subject_label, ())
        if new and scan.person and any(are_two_people(person, other) for other in before):
            checked.append(replace(scan, doubt=scan.doubt or _ANOTHER_PERSON))
            continue
        if new and others and len(others) == len(of_subject[subject]):
            shared.append(subject)
        checked.append(scan)
    return checked, sorted(set(shared))


_ANOTHER_PERSON = (
    "The dataset has another person under this ID: name, birth date, sex or issuer of the ID differ",
    "Find out whose images these are; give one of them another ID, or use a dataset for each site",
)
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
    return abs(scan.age - age - years) > YEARS_APART
