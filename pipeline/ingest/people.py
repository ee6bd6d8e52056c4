"""Whose image it is: what the images of one series must agree on, and which belong to another person."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

from pipeline.errors import RefusedScan
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.times import parse_date

# What a de-identifier leaves in place of a name or an ID: it identifies nobody.
_BLANK = re.compile(
    r"(pseud)?anon[a-z]*|pseudonym[a-z]*|unknown|undefined|unnamed|none|null|nil|no|n|a|na|not|available"
    r"|removed|deleted|redacted|masked|hidden|confidential|private|secret|blank|empty|dummy|default|test"
    r"|de|(de)?identified|(no)?(patient|subject|pat|p)?(name|id)?|x+|0+|9{5,}|12345678(90?)?"
)
_WORD = re.compile(r"[^\W_]+")
_PARTS = re.compile(r"[\s_./-]+")
YEARS_APART = 12.0
"""Ages that differ by more are of two people; less, and one is at enrolment, the other at the scan."""
WITH_AND_WITHOUT_ISSUER = (
    "the Patient ID (0010,0020) is stated with and without its issuer (0010,0021); taken as one person"
)
BLANK_DAYS = ("1800-01-01", "1900-01-01", "1901-01-01")
"""What a de-identifier writes in place of a date."""

_Member = TypeVar("_Member")


@dataclass(frozen=True)
class Person:
    """Who an image is of, spelled in one way; what the header leaves open is empty and agrees with anything.

    Parameters
    ----------
    patient_id : str
        Case, blanks and leading zeros do not matter: tables and forms lose them.
    name : frozenset of str
        The words of the name in every script it is written in, without case, accents and order.
    birth : str
        ISO date.
    sex : {"M", "F", ""}
    issuer : str
        Who gave the ID.
    """

    patient_id: str
    name: frozenset[str]
    birth: str
    sex: str
    issuer: str = ""

    @property
    def key(self) -> Hashable:
        """What distinguishes people: ID and issuer, else name and date of birth; empty where all is blank."""
        if self.patient_id:
            return self.patient_id, self.issuer
        return (self.name, self.birth) if self.name else ""

    @property
    def rank(self) -> tuple[bool, bool, int, bool]:
        """Those that state more come first."""
        return not self.patient_id, not self.issuer, -len(self.name), not self.birth


_NAME = "Patient's Name (0010,0010)"
_FIELDS: dict[str, Callable[[Person], str]] = {
    "Patient ID (0010,0020)": lambda person: person.patient_id,
    "Patient's Birth Date (0010,0030)": lambda person: person.birth,
    "Patient's Sex (0010,0040)": lambda person: person.sex,
}


def conflicts(people: Iterable[Person]) -> list[str]:
    """Return what some state differently, as DICOM names it; a name may lack words of another."""
    seen = set(people)
    found = [what for what, field in _FIELDS.items() if len({field(p) for p in seen} - {""}) > 1]
    names = sorted({person.name for person in seen}, key=len)
    return found if all(a <= b for a, b in pairwise(names)) else [*found, _NAME]


def person_of(header: SeriesHeader) -> Person:
    """Return who an image is of."""
    keywords = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID")
    return _person(*(header.text(keyword) or "" for keyword in keywords))


@lru_cache(1024)
def _person(patient_id: str, name: str, birth: str, sex: str, issuer: str) -> Person:
    day = str(parse_date(birth) or "")
    number, authority = id_and_issuer(patient_id)
    plain = unicodedata.normalize("NFKD", _decoded(name)).casefold()
    words = _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))
    return Person(
        spelled(stated(number)).lstrip("0"),
        frozenset(words) if stated(name) else frozenset(),
        "" if day in BLANK_DAYS else day,
        sex.upper() if sex.upper() in ("M", "F") else "",
        spelled(stated(issuer or authority)),
    )


def _decoded(name: str) -> str:
    """Return a name whose UTF-8 was taken for Latin-1, as where no character set is stated, as it was."""
    try:
        return name.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return name


def spelled(text: str) -> str:
    """Return an ID such that case, blanks and the width of letters do not matter."""
    return " ".join(unicodedata.normalize("NFKC", text).split()).casefold()


def id_and_issuer(text: str) -> tuple[str, str]:
    """Part an ID that HL7 wrote with its issuer (CX); by DICOM these are (0010,0020) and (0010,0021).

    Examples
    --------
    >>> id_and_issuer("77^^^HOSP&1.2.3&ISO^MR"), id_and_issuer("77"), id_and_issuer("Doe^Jane")
    (('77', 'HOSP'), ('77', ''), ('Doe^Jane', ''))
    """
    number, _, rest = text.partition("^")
    parts = rest.split("^")
    if len(parts) < 3 or not re.search(r"\d", number):
        return text, ""
    return number, parts[2].partition("&")[0]


def with_issuer(label: str, issuer: str) -> str:
    """Return an ID written with its issuer, as HL7 does.

    Examples
    --------
    >>> with_issuer("77", "hosp"), with_issuer("77^^^HOSP", "hosp"), id_and_issuer("77^^^hosp")
    ('77^^^hosp', '77^^^HOSP', ('77', 'hosp'))
    """
    return label if not issuer or id_and_issuer(label)[1] else f"{label}^^^{issuer}"


def alike(label: str) -> str:
    """Return what two spellings of one ID share: not case, leading zeros, the issuer or what parts its words.

    That words are parted at all counts: 1-12 and 11-2 are two people.

    Examples
    --------
    >>> alike("002_S_1234") == alike("2-s 1234 "), alike("0077^^^HOSP") == alike("77"), alike("1-12")
    (True, True, '1 12')
    """
    return _PARTS.sub(" ", spelled(id_and_issuer(label)[0])).strip().lstrip("0")


def stated(text: str | None) -> str:
    """Return a text, or nothing where every word of it replaces a removed one.

    Examples
    --------
    >>> stated("Doe^Jane"), stated("ANON001"), stated("ANONYMOUS^PATIENT"), stated("0000")
    ('Doe^Jane', 'ANON001', '', '')
    """
    return "" if text is None or all(map(_BLANK.fullmatch, _WORD.findall(text.casefold()))) else text


def split_series(
    members: Sequence[_Member], header: Callable[[_Member], SeriesHeader]
) -> list[list[_Member]]:
    """Part the images of one Series UID by study and person.

    Images without a study join the only one. Where each image states a study of its own, as some
    de-identifiers leave them, they stay together, for `check_one_person` to refuse once; so do the images of
    two people that lie beside each other in one frame of reference, for they are one scan.
    """
    studies: dict[str, list[_Member]] = defaultdict(list)
    for member in members:
        studies[header(member).text("StudyInstanceUID") or ""].append(member)
    each_its_own = len(studies) > 2 and all(len(group) == 1 for group in studies.values())
    together = each_its_own or len(studies.keys() - {""}) < 2
    found = []
    for group in [list(members)] if together else list(studies.values()):
        parts = _split_by_person(group, header)
        found += [group] if _are_one_scan([[*map(header, part)] for part in parts]) else parts
    return found


def _are_one_scan(parts: Sequence[Sequence[SeriesHeader]]) -> bool:
    places = [{header.text("ImagePositionPatient") for header in part} for part in parts]
    frames = {header.text("FrameOfReferenceUID") for part in parts for header in part}
    apart = sum(map(len, places)) == len(set().union(*places))
    return len(parts) > 1 and len(frames) == 1 and None not in frames and apart


def _split_by_person(
    members: Sequence[_Member], header: Callable[[_Member], SeriesHeader]
) -> list[list[_Member]]:
    """Part the images of one series by person; those that state none join the only person they fit."""
    groups: dict[Hashable, list[_Member]] = defaultdict(list)
    for member in members:
        groups[person_of(header(member)).key].append(member)
    found: list[tuple[Person, list[_Member]]] = []
    # Who states an ID first, with its issuer before without, then who states most of a name.
    for group in sorted(groups.values(), key=lambda g: person_of(header(g[0])).rank):
        person = person_of(header(group[0]))
        own = person.patient_id
        fitting = [
            whose
            for other, whose in found
            if not conflicts((person, other)) and own in ("", other.patient_id)
        ]
        if (own and person.issuer) or len(fitting) != 1:
            found.append((person, group))
        else:
            fitting[0].extend(group)
    return [group for _, group in found]


def check_one_person(headers: Sequence[SeriesHeader]) -> None:
    """Refuse a series whose images disagree on who was scanned, in which study or frame of reference.

    Raises
    ------
    RefusedScan
        ``"two-people"``, ``"mixed-studies"`` or ``"mixed-geometry"``.
    """
    people = set(map(person_of, headers))
    found = conflicts(people)
    if len({person.issuer for person in people} - {""}) > 1:
        found.append("Issuer of Patient ID (0010,0021)")
    # Headers of one series share what they state: each injection is looked at once.
    drugs = {id(h.get(_DRUG)): h for h in headers}.values()
    for keyword, what in _ONE_PERSON.items():
        among = (h.item(_DRUG) for h in drugs) if keyword.startswith("Radio") else headers
        sizes = {size for one in among if (size := one.number(keyword)) and size > 0}
        if sizes and max(sizes) > 1.001 * min(sizes):
            found.append(what)
    if found:
        raise RefusedScan(
            "two-people",
            f"The images of the series disagree on {', '.join(found)}",
            hint="Find out whose images these are, and export each person's series alone",
            measured=", ".join(found),
        )
    for keyword, what, rule in _ONE_EACH:
        uids = {uid for header in headers if (uid := header.text(keyword))}
        if len(uids) > 1:
            raise RefusedScan(
                rule,
                f"The images of the series have {len(uids)} different values of {what}",
                hint="Export the original series alone",
                measured=f"{len(uids)} values of {what}",
            )


_DRUG = "RadiopharmaceuticalInformationSequence"
_ONE_PERSON = {
    "PatientSize": "Patient's Size (0010,1020)",
    "PatientWeight": "Patient's Weight (0010,1030)",
    "RadionuclideTotalDose": "Radionuclide Total Dose (0018,1074)",
}
_ONE_EACH = (
    ("StudyInstanceUID", "Study Instance UID (0020,000D)", "mixed-studies"),
    ("SOPClassUID", "SOP Class UID (0008,0016)", "mixed-geometry"),
    ("FrameOfReferenceUID", "Frame of Reference UID (0020,0052)", "mixed-geometry"),
)


def are_two_people(first: Person, second: Person) -> bool:
    """Return whether two series under one Patient ID are of two people: a changed name alone is no sign.

    Examples
    --------
    >>> one = Person("001", frozenset({"doe", "jane"}), "", "F")
    >>> are_two_people(one, Person("001", frozenset({"smith", "jane"}), "", "F"))
    False
    >>> are_two_people(one, Person("001", frozenset({"roe", "anna"}), "", "F"))
    True
    """
    facts = [what for what in conflicts((first, second)) if what != _NAME]
    strangers = first.name and second.name and not first.name & second.name
    same_birth = first.birth and first.birth == second.birth
    issuers = first.issuer and second.issuer and first.issuer != second.issuer
    known = same_birth or first.name & second.name
    return bool(facts) or bool(strangers and not same_birth) or bool(issuers and not known)
