"""ADNI's codes and tables: visits, diagnoses, demographics. Column names and codes only, no data."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar

from pipeline.errors import InputError
from pipeline.ingest.adni_codes import Row, code_in, diagnoses_of, months_of
from pipeline.ingest.date_columns import date_named, with_iso_dates
from pipeline.ingest.folders import files_below
from pipeline.ingest.side_files import is_missing, number_of, read_table
from pipeline.ingest.times import parse_date

PTID = re.compile(r"^(\d{3})_S_(\d{4,5})$")
_DAYS_PER_MONTH = 30.4375


def roster_id(ptid: str) -> int | None:
    """Return the roster number of a PTID: what follows ``_S_``, four digits or five.

    Examples
    --------
    >>> roster_id("011_S_4321"), roster_id("168_S_10065"), roster_id("phantom")
    (4321, 10065, None)
    """
    match = PTID.match(ptid.strip().upper())
    return int(match[2]) if match else None


@dataclass(frozen=True)
class AdniVisit:
    """A dated diagnosis."""

    day: date
    diagnosis: str
    viscode: str


@dataclass(frozen=True)
class AdniSubject:
    """What the tables state about a subject."""

    visits: tuple[AdniVisit, ...] = ()
    sex: str | None = None
    born: date | None = None
    age_at: tuple[float, date] | None = None

    def nearest(self, day: date) -> AdniVisit | None:
        """Return the visit nearest to a day; of two, the later."""
        return min(self.visits, key=lambda v: (abs((v.day - day).days), -v.day.toordinal()), default=None)

    def age_on(self, day: date) -> float | None:
        """Return the age in years; 89 means 89 or older, as so few people are older."""
        if self.age_at:
            years = self.age_at[0] + (day - self.age_at[1]).days / 365.25
        elif self.born:
            years = (day - self.born).days / 365.25
        else:
            return None
        return round(min(years, 89.0), 1) if 0 < years < 130 else None


@dataclass(frozen=True)
class Truth:
    """One row of a phantom's own table."""

    diagnosis: str | None
    posterior: tuple[float, ...] | None
    spoiled: str | None


@dataclass(frozen=True)
class Tables:
    """All tables found below a folder.

    Parameters
    ----------
    people : mapping of int to AdniSubject
        By roster number.
    truth : mapping of str to Truth
        By image number, phantoms only.
    names : tuple of str
        Which tables were read.
    """

    people: Mapping[int, AdniSubject] = field(default_factory=dict)
    truth: Mapping[str, Truth] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def person(self, ptid: str) -> AdniSubject:
        """Return what is known of a subject."""
        number = roster_id(ptid)
        return self.people.get(number, AdniSubject()) if number is not None else AdniSubject()


_SUBJECT = ("PTID", "RID")
_DIAGNOSES = ("DIAGNOSIS", "DXCHANGE", "DXCURREN", "DX")
_REQUIRED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "DXSUM": (_SUBJECT, _DIAGNOSES),
    "ADNIMERGE": (_SUBJECT,),
    "PTDEMOG": (_SUBJECT,),
    "PHANTOM_TRUTH": (("IMAGEUID",),),
}
"""Columns of each table, by the beginning of its name; of a group, one must be there."""
_USED = (
    *_SUBJECT, *_DIAGNOSES, "VISCODE", "VISCODE2", "EXAMDATE", "EXAMDATE_BL", "PTGENDER", "PTDOB", "PTDOBMM",
    "PTDOBYY", "AGE", "IMAGEUID", "SPOILED",
)  # fmt: skip
_WANTED = re.compile(f"^({'|'.join(_REQUIRED)})(?!.*DICT)", re.IGNORECASE)
_Fact = TypeVar("_Fact")
_TEXT, _SHEETS = (".csv", ".tsv"), (".xlsx", ".xls", ".ods")
_MONTH_AND_YEAR = r"\d{1,2}/\d{4}"


def read_tables(root: Path, unread: Counter[str] | None = None) -> Tables:
    """Read the diagnosis and demographic tables anywhere below a folder.

    Of two tables with the same day, the one read last wins: the one of the later date in its name
    (``DXSUM_PDXCONV_18Nov2026.csv``), and DXSUM before all others.

    Parameters
    ----------
    root : Path
    unread : Counter, optional
        Counts cells that hold a date or diagnosis which cannot be understood.

    Raises
    ------
    InputError
        If a table cannot be read, naming it: without it, nobody would have a diagnosis.
    """
    unread = Counter() if unread is None else unread
    visits: dict[int, dict[date, AdniVisit]] = defaultdict(dict)
    people: dict[int, AdniSubject] = {}
    truth: dict[str, Truth] = {}
    read = []
    for path in _table_files(root):
        rows = _rows(path, unread)
        read.append(path.name)
        if path.name.upper().startswith("PHANTOM_TRUTH"):
            truth |= {row.get("IMAGEUID", "").lstrip("I"): _truth(row, path) for row in rows}
            continue
        _read_visits(rows, visits, unread)
        mine: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            mine[_number(row) or 0].append(row)
        for number, own in mine.items():
            people[number] = _merged(people.get(number, AdniSubject()), own, unread)
    together = {
        n: AdniSubject(tuple(visits[n].values()), people[n].sex, people[n].born, people[n].age_at)
        for n in sorted(people)
    }
    return Tables(together, truth, tuple(read))


def _table_files(root: Path) -> list[Path]:
    """Return the tables as they are read: DXSUM after ADNIMERGE, so that the table of record wins."""
    found = [path for path in files_below(root, Counter()) if _WANTED.match(path.name)]
    tables = [path for path in found if path.suffix.lower() in _TEXT]
    named = {path.with_suffix("") for path in tables}
    for sheet in sorted(path for path in found if path.suffix.lower() in _SHEETS):
        if sheet.with_suffix("") not in named:
            raise InputError(
                "The table is a spreadsheet, which is not read",
                where=str(sheet),
                hint="save it as CSV beside it",
            )
    return sorted(tables, key=lambda p: (p.name.upper().startswith("DXSUM"), _day_in_name(p), p.name))


def _day_in_name(path: Path) -> date:
    named = re.search(r"(\d{1,2})[-_]?([A-Za-z]{3})[-_]?(20\d\d)", path.stem)
    iso = re.search(r"20\d\d[-_]?\d\d[-_]?\d\d", path.stem)
    day = date_named(*named.groups()) if named else parse_date(iso[0].replace("_", "-")) if iso else None
    return day or date.min


def _rows(path: Path, unread: Counter[str]) -> list[dict[str, str]]:
    match = _WANTED.match(path.name)
    kind = match[1].upper() if match else ""
    rows = [{k.upper(): v for k, v in row.items()} for row in read_table(path, _REQUIRED[kind], _USED)]
    for column, century in (("EXAMDATE", 2000), ("EXAMDATE_BL", 2000), ("PTDOB", 1900)):
        others = _MONTH_AND_YEAR if column == "PTDOB" else "(?!)"
        rows, lost = with_iso_dates(rows, column, path, century, others)
        if lost:
            unread[f"dates in {kind} that cannot be read"] += lost
    rows = rows if kind == "PHANTOM_TRUTH" else _of_one_subject(rows, kind, unread)
    lost = sum(
        not diagnoses_of(row) and any(not is_missing(row.get(name, "")) for name in _DIAGNOSES)
        for row in rows
        if kind in ("DXSUM", "ADNIMERGE")
    )
    if lost:
        unread[f"rows of {kind} whose diagnosis is not understood"] += lost
    return rows


def _of_one_subject(rows: list[dict[str, str]], kind: str, unread: Counter[str]) -> list[dict[str, str]]:
    """Leave out, and count, rows that name no subject or two."""
    numbers = [{roster_id(row.get("PTID", "")), code_in(row, "RID")} - {None} for row in rows]
    for seen, what in ((2, "whose PTID and RID disagree"), (0, "that name no subject")):
        if lost := sum(len(found) == seen for found in numbers):
            unread[f"rows of {kind} {what}"] += lost
    return [row for row, found in zip(rows, numbers, strict=True) if len(found) == 1]


def _number(row: Row) -> int | None:
    by_name = roster_id(row.get("PTID", ""))
    return by_name if by_name is not None else code_in(row, "RID")


def _read_visits(
    rows: list[dict[str, str]], visits: dict[int, dict[date, AdniVisit]], unread: Counter[str]
) -> None:
    """Add the visits of one table; a day on which it states two diagnoses has none, and is counted."""
    here: dict[tuple[int, date], list[AdniVisit]] = defaultdict(list)
    days = [(_number(row), parse_date(row.get("EXAMDATE")), _viscode(row)) for row in rows]
    baselines = {number: day for number, day, code in days if day and months_of(code) == 0}
    for row, (number, examined, code) in zip(rows, days, strict=True):
        day, found = examined or _day_of_visit(code, baselines.get(number)), diagnoses_of(row)
        if len(found) > 1:
            unread["rows with an ambiguous diagnosis (their columns disagree)"] += 1
        if number is not None and day is not None:
            here[number, day] += [AdniVisit(day, diagnosis, code) for diagnosis in sorted(found)]
    for (number, day), stated in here.items():
        if len({visit.diagnosis for visit in stated}) == 1:
            visits[number][day] = stated[-1]
        elif stated:
            visits[number].pop(day, None)
            unread["days with two diagnoses in one table"] += 1


def _viscode(row: Row) -> str:
    return (row.get("VISCODE2", "").strip() or row.get("VISCODE", "").strip()).lower()


def _day_of_visit(code: str, baseline: date | None) -> date | None:
    months = months_of(code)
    return (
        baseline + timedelta(days=round(months * _DAYS_PER_MONTH))
        if baseline and months is not None
        else None
    )


_SEXES = {"1": "M", "2": "F", "male": "M", "female": "F", "m": "M", "f": "F"}


def _merged(person: AdniSubject, rows: list[Row], unread: Counter[str]) -> AdniSubject:
    """Add what the rows of one table state; where they contradict each other, they state nothing."""
    sex = _only((_SEXES.get(row.get("PTGENDER", "").strip().lower()) for row in rows), "sexes", unread)
    born = _only(map(_born, rows), "dates of birth", unread)
    age_at = _only(map(_age_at, rows), "ages at baseline", unread)
    return AdniSubject((), sex or person.sex, born or person.born, age_at or person.age_at)


def _only(stated: Iterable[_Fact | None], what: str, unread: Counter[str]) -> _Fact | None:
    found = {fact for fact in stated if fact is not None}
    if len(found) > 1:
        unread[f"subjects with two {what} in one table"] += 1
    return found.pop() if len(found) == 1 else None


def _age_at(row: Row) -> tuple[float, date] | None:
    age, baseline = number_of(row.get("AGE", "")), parse_date(row.get("EXAMDATE_BL"))
    return (age, baseline) if baseline and age is not None and age > 0 else None


def _born(row: Row) -> date | None:
    whole = parse_date(row.get("PTDOB"))
    if whole:
        return whole
    match = re.fullmatch(r"(\d{1,2})/(\d{4})", row.get("PTDOB", "").strip())
    if match:
        month, year = int(match[1]), int(match[2])
    else:
        month, year = code_in(row, "PTDOBMM") or 7, code_in(row, "PTDOBYY") or 0
    if not (1880 < year < 2100 and 1 <= month <= 12):
        return None
    return date(year, month, 15)


def _truth(row: Row, path: Path) -> Truth:
    columns = [c for c in row if c.startswith("POSTERIOR_")]
    posterior = [number_of(row[c]) for c in columns]
    if None in posterior and any(row[c] for c in columns):
        problem = "A posterior probability is not a number"
        raise InputError(problem, where=str(path), hint="write the phantom again")
    known = tuple(p for p in posterior if p is not None)
    return Truth(
        row.get("DIAGNOSIS", "").strip() or None, known or None, row.get("SPOILED", "").strip() or None
    )
