"""ADNI's codes and tables: visits, diagnoses, demographics. Column names and codes only, no data."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from pipeline.ingest.times import parse_date

PTID = re.compile(r"^(\d{3})_S_(\d{4,5})$")
_DAYS_PER_MONTH = 30.4375
_BASELINE = frozenset({"bl", "sc", "scmri", "4_bl", "4_sc", "v01", "v02", "v03", "init", "4_init", "m00"})

Row = Mapping[str, str]


def roster_id(ptid: str) -> int | None:
    """Return the roster number of a PTID: what stands after ``_S_``, four digits or five.

    Examples
    --------
    >>> roster_id("011_S_4321"), roster_id("168_S_10065"), roster_id("phantom")
    (4321, 10065, None)
    """
    match = PTID.match(ptid.strip())
    return int(match[2]) if match else None


def months_of(viscode: str) -> int | None:
    """Return months since baseline of a visit code, or None where the code tells none.

    Examples
    --------
    >>> [months_of(code) for code in ("bl", "scmri", "m06", "m120", "4_m12", "uns1", "nv", "f")]
    [0, 0, 6, 120, 12, None, None, None]
    """
    code = viscode.strip().lower()
    if code in _BASELINE:
        return 0
    match = re.fullmatch(r"(?:4_)?m(\d{1,3})", code)
    return int(match[1]) if match else None


def _code(row: Row, column: str) -> int | None:
    text = row.get(column, "").strip()
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() and value > 0 else None


_CURRENT = {1: "CN", 2: "MCI", 3: "AD"}
_CHANGE = {1: "CN", 7: "CN", 9: "CN", 2: "MCI", 4: "MCI", 8: "MCI", 3: "AD", 5: "AD", 6: "AD"}
_NAMED = {
    "cn": "CN", "nl": "CN", "smc": "CN", "normal": "CN", "emci": "MCI", "lmci": "MCI", "mci": "MCI",
    "ad": "AD", "dementia": "AD",
}  # fmt: skip


def diagnosis_of(row: Row) -> str | None:
    """Return CN, MCI or AD of one row of a diagnosis table, of any ADNI phase; None for sentinels and gaps.

    DIAGNOSIS (ADNI3 and 4, back-filled) is asked first, then DXCHANGE (ADNIGO and 2), then DXCURREN (ADNI1),
    then the words of ADNIMERGE's DX. DXCHANGE tells a change: 9, from AD to normal, is CN.

    Examples
    --------
    >>> diagnosis_of({"DXCHANGE": "9"}), diagnosis_of({"DIAGNOSIS": "-4", "DXCURREN": "3"})
    ('CN', 'AD')
    """
    for column, names in (("DIAGNOSIS", _CURRENT), ("DXCHANGE", _CHANGE), ("DXCURREN", _CURRENT)):
        found = names.get(_code(row, column) or 0) or _NAMED.get(row.get(column, "").strip().lower())
        if found:
            return found
    return _NAMED.get(row.get("DX", "").strip().lower())


@dataclass(frozen=True)
class AdniVisit:
    """A dated diagnosis."""

    day: date
    diagnosis: str
    viscode: str


@dataclass(frozen=True)
class Person:
    """What the tables say of a subject."""

    visits: tuple[AdniVisit, ...] = ()
    sex: str | None = None
    born: date | None = None
    age_at: tuple[float, date] | None = None

    def nearest(self, day: date) -> AdniVisit | None:
        """Return the visit nearest to a day; of two, the later."""
        return min(self.visits, key=lambda v: (abs((v.day - day).days), -v.day.toordinal()), default=None)

    def age_on(self, day: date) -> float | None:
        """Return the age in years; 89 stands for all above, who are too few to hide among."""
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
    people : mapping of int to Person
        By roster number.
    truth : mapping of str to Truth
        By image number, phantoms only.
    names : tuple of str
        Which tables were read.
    """

    people: Mapping[int, Person] = field(default_factory=dict)
    truth: Mapping[str, Truth] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def person(self, ptid: str) -> Person:
        """Return what is known of a subject."""
        number = roster_id(ptid)
        return self.people.get(number, Person()) if number is not None else Person()


_WANTED = re.compile(r"^(DXSUM|ADNIMERGE|PTDEMOG|PHANTOM_TRUTH)", re.IGNORECASE)


def read_tables(root: Path) -> Tables:
    """Read the diagnosis and demographic tables anywhere below a folder.

    Dated names (``DXSUM_PDXCONV_18Nov2026.csv``) are read in order of name; where two tables tell of one day,
    the one read last wins, and DXSUM is read last. A table that cannot be parsed is as good as none.
    """
    found = sorted(p for p in root.rglob("*.[cC][sS][vV]") if _WANTED.match(p.name) and p.is_file())
    visits: dict[int, dict[date, AdniVisit]] = defaultdict(dict)
    people: dict[int, Person] = {}
    truth: dict[str, Truth] = {}
    read = []
    # DXSUM after ADNIMERGE, so that the table of record wins.
    for path in sorted(found, key=lambda p: (p.name.upper().startswith("DXSUM"), p.name)):
        rows = _rows(path)
        read += [path.name] if rows else []
        if path.name.upper().startswith("PHANTOM_TRUTH"):
            truth |= {row.get("IMAGEUID", "").strip().lstrip("I"): _truth(row) for row in rows}
            continue
        _read_visits(rows, visits)
        for row in rows:
            number = _number(row)
            if number is not None:
                people[number] = _merged(people.get(number, Person()), row)
    together = {
        n: Person(tuple(visits[n].values()), people[n].sex, people[n].born, people[n].age_at)
        for n in sorted(people)
    }
    return Tables(together, truth, tuple(read))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8", encoding_errors="replace"
        )
    except (ValueError, OSError):  # pandas' parser errors are ValueErrors
        return []
    table.columns = [str(c).strip().strip("\ufeff").upper() for c in table.columns]
    rows: list[dict[str, str]] = table.to_dict("records")
    return rows


def _number(row: Row) -> int | None:
    by_name = roster_id(row.get("PTID", ""))
    return by_name if by_name is not None else _code(row, "RID")


def _read_visits(rows: list[dict[str, str]], visits: dict[int, dict[date, AdniVisit]]) -> None:
    baselines = {}
    for row in rows:
        number, day = _number(row), parse_date(row.get("EXAMDATE"))
        if number is not None and day and months_of(_viscode(row)) == 0:
            baselines[number] = day
    for row in rows:
        number, diagnosis = _number(row), diagnosis_of(row)
        if number is None or diagnosis is None:
            continue
        code = _viscode(row)
        day = parse_date(row.get("EXAMDATE")) or _day_of_visit(code, baselines.get(number))
        if day:
            visits[number][day] = AdniVisit(day, diagnosis, code)


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


def _merged(person: Person, row: Row) -> Person:
    sex = _SEXES.get(row.get("PTGENDER", "").strip().lower())
    born = _born(row)
    age, baseline = row.get("AGE", ""), parse_date(row.get("EXAMDATE_BL"))
    try:
        age_at = (float(age), baseline) if baseline and float(age) > 0 else None
    except ValueError:
        age_at = None
    return Person((), sex or person.sex, born or person.born, age_at or person.age_at)


def _born(row: Row) -> date | None:
    whole = parse_date(row.get("PTDOB"))
    if whole:
        return whole
    match = re.fullmatch(r"(\d{1,2})/(\d{4})", row.get("PTDOB", "").strip())
    if match:
        month, year = int(match[1]), int(match[2])
    else:
        month, year = _code(row, "PTDOBMM") or 7, _code(row, "PTDOBYY") or 0
    if not (1880 < year < 2100 and 1 <= month <= 12):
        return None
    return date(year, month, 15)


def _truth(row: Row) -> Truth:
    columns = [c for c in row if c.startswith("POSTERIOR_")]
    try:
        posterior = tuple(float(row[c]) for c in columns) or None
    except ValueError:
        posterior = None
    return Truth(row.get("DIAGNOSIS", "").strip() or None, posterior, row.get("SPOILED", "").strip() or None)
