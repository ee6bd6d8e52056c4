"""Numbers and tables as pages write them, and whether a cell is a metric of the JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from page_seen import rows_of

Found = Iterator[str]
NUMBER = r"[-+\u2212]?\d+(?:\.\d+)?"
_CELL = re.compile(rf"({NUMBER})( %)? ({NUMBER}) to ({NUMBER})(?: noise ({NUMBER})(?: %)?)?")


def one_line(text: str) -> str:
    """Return a text with single spaces and plain hyphens."""
    return " ".join(text.replace("\u00a0", " ").replace("−", "-").split())


def tables_of(html: str) -> list[tuple[tuple[str, ...], ...]]:
    """Return the tables of a page, each as its rows of cells."""
    return [rows for t in re.findall(r"<table.*?</table>", html, re.DOTALL) if (rows := rows_of(t))]


def table_with(tables: Sequence[tuple[tuple[str, ...], ...]], *first: str) -> list[dict[str, str]]:
    """Return the rows of the table with these first headings, by heading."""
    of = next((t for t in tables if t[0][: len(first)] == first), ((),))
    return [dict(zip(of[0], row, strict=False)) for row in of[1:]]


def is_written(text: str, value: float) -> bool:
    """Return whether a written number is a value, to the digits it has."""
    return abs(float(text.replace("\u2212", "-")) - value) <= 0.5001 * 10.0 ** -len(text.partition(".")[2])


def cell_agrees(cell: str, found: Mapping[str, float] | None, noise: float | None = None) -> bool:
    """Return whether a cell is a metric with its interval and noise floor; a dash is none."""
    if found is None:
        return cell == "\u2013"
    read = _CELL.fullmatch(cell)
    if read is None:
        return False
    scale = 100 if read[2] else 1
    ends = ((1, "value"), (3, "low"), (4, "high"))
    same = all(is_written(read[n], scale * found[k]) for n, k in ends) and (read[5] is None) == (
        noise is None
    )
    return same and (noise is None or is_written(read[5], scale * noise))


def metrics_agree(
    tables: Sequence[tuple[tuple[str, ...], ...]], heading: str, rows: Mapping[str, Mapping[str, Any]]
) -> Found:
    """Hold each cell of a table of metrics against one metric of its row, no metric twice."""
    by_name = {one_line(name): row for name, row in rows.items()}
    for row in table_with(tables, heading):
        known = by_name.get(row[heading])
        if known is None:
            yield f"a row of metrics is of {row[heading]}"
            continue
        for title, cell in row.items():
            if title in (heading, "Seeds") or (cell == "\u2013"):
                continue
            noise = known.get("noise", {})
            if not any(cell_agrees(cell, m, noise.get(name)) for name, m in known["metrics"].items()):
                yield f"{row[heading]}, {title}: {cell} is no metric of this row"


_CHANGE = re.compile(rf"({NUMBER})( points)? ({NUMBER}) to ({NUMBER})")


def is_change(cell: str, found: Mapping[str, float]) -> bool:
    """Return whether a cell is a difference, in percentage points where it says so."""
    read = _CHANGE.fullmatch(cell)
    scale = 100 if read and read[2] else 1
    ends = ((1, "value"), (3, "low"), (4, "high"))
    return read is not None and all(is_written(read[n], scale * found[k]) for n, k in ends)
