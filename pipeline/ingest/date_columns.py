"""Dates in the columns of tables; the whole column shows whether the day or the month comes first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from pipeline.ingest.side_files import SideFileError, is_missing

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ISO = re.compile(r"(\d{4})(?:([-./])(\d{1,2})\2(\d{1,2})|(\d{2})(\d{2}))(?:[T ].*)?")
_PARTS = re.compile(r"(\d{1,2})([-./])(\d{1,2})\2(\d{4}|\d{2})(?:[T ].*)?")
_NAMED = re.compile(r"(\d{1,2})[-./ ]?([A-Za-z]{3})[a-z]*[-./ ]?(\d{4}|\d{2})(?:[T ].*)?")


def with_iso_dates(
    rows: list[dict[str, str]],
    column: str,
    path: Path,
    century: int = 2000,
    others: str = "(?!)",
) -> tuple[list[dict[str, str]], int]:
    """Return rows whose dates in one column are ISO dates, and how many cells hold no date.

    The whole column decides whether the day or the month comes first: one value above 12 is enough. With
    dots the day comes first.

    Parameters
    ----------
    rows : list of dict
    column : str
    path : Path
        Of the table, for errors.
    century : int
        Of years with two digits.
    others : str
        Pattern of cells that stay as they are.

    Returns
    -------
    rows : list of dict
        Cells that are no date are empty.
    unreadable : int

    Raises
    ------
    SideFileError
        If the order of day and month is not clear, or no cell of the column is a date.
    """
    cells = [row[column] for row in rows if not is_missing(row.get(column, ""))]
    filled = [text for text in cells if not re.fullmatch(others, text)]
    day_first = _day_first(filled, column, path)
    dates = {text: _date(text, day_first, century) for text in filled}
    unreadable = Counter(text for text in filled if dates[text] is None)
    if filled and len(unreadable) == len(dates) and len(filled) == len(cells):
        raise SideFileError(
            f"No cell of column {column} is a date, the first is {filled[0][:40]!r}",
            where=str(path),
            hint="write dates as YYYY-MM-DD",
        )
    written = {text: day.isoformat() if day else "" for text, day in dates.items()}
    found = [{**row, column: written[row[column]]} if row.get(column) in written else row for row in rows]
    return found, sum(unreadable.values())


def _day_first(values: Iterable[str], column: str, path: Path) -> Mapping[str, bool]:
    """Return for each separator whether the day comes before the month."""
    seen: dict[str, list[tuple[int, int]]] = {}
    for text in values:
        match = _PARTS.fullmatch(text.strip())
        if match:
            seen.setdefault(match[2], []).append((int(match[1]), int(match[3])))
    return {mark: _order(pairs, mark, column, path) for mark, pairs in seen.items()}


def _order(pairs: list[tuple[int, int]], mark: str, column: str, path: Path) -> bool:
    first, second = any(a > 12 for a, _ in pairs), any(b > 12 for _, b in pairs)
    if first and second:
        problem = f"Column {column} has the day first in some dates and the month first in others"
    elif first or second or mark == "." or all(a == b for a, b in pairs):
        return not second
    else:
        a, b = next((a, b) for a, b in pairs if a != b)
        problem = f"Column {column} does not show whether the day or the month is first in {a}{mark}{b}"
    raise SideFileError(problem, where=str(path), hint="write dates as YYYY-MM-DD")


def date_named(day: str, month: str, year: str) -> date | None:
    """Return a date whose month is named in English, None where it is none.

    Examples
    --------
    >>> date_named("18", "Nov", "2026"), date_named("31", "Feb", "2026")
    (datetime.date(2026, 11, 18), None)
    """
    name = month.lower()[:3]
    try:
        return date(int(year), _MONTHS.index(name) + 1, int(day))
    except ValueError:
        return None


def _date(text: str, day_first: Mapping[str, bool], century: int) -> date | None:
    text = text.strip()
    if match := _ISO.fullmatch(text):
        year, month, day = int(match[1]), int(match[3] or match[5]), int(match[4] or match[6])
    elif match := _PARTS.fullmatch(text):
        first, second, year = int(match[1]), int(match[3]), int(match[4])
        day, month = (first, second) if day_first[match[2]] else (second, first)
    elif (match := _NAMED.fullmatch(text)) and match[2].lower() in _MONTHS:
        day, month, year = int(match[1]), _MONTHS.index(match[2].lower()) + 1, int(match[3])
    else:
        return None
    try:
        return date(year + century if year < 100 else year, month, day)
    except ValueError:
        return None
