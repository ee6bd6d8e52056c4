"""Read the files beside images, sidecars and tables, as people save them; unreadable is not absent.

Byte order marks, UTF-16, Windows-1252, semicolons, decimal commas and trailing commas have one meaning
each and are read. What has two meanings, or none, is an error that names file, line and reason.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = ",;\t|"
_NO_VALUE = frozenset({"", "-1", "-4", "n/a", "na", "nan", "none", "null", ".", "-", "unknown"})


class SideFileError(InputError):
    """A sidecar or table that is there and cannot be read."""


def read_text(path: Path) -> str:
    """Read text as UTF-8, as UTF-16 or UTF-32 with its mark, or else as Windows-1252.

    Raises
    ------
    SideFileError
        If it is none of them, or the system does not let it be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SideFileError(f"The file cannot be read: {error.strerror}", where=str(path)) from error
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise SideFileError(
            "The file is a spreadsheet under the name of a text file",
            where=str(path),
            hint="open it in a spreadsheet program and save it as CSV",
        )
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    for encoding in (marked,) if marked else _likely(content[:200]):
        try:
            text = content.decode(encoding)
        except UnicodeError:
            continue
        if "\0" not in text:
            return text
    raise SideFileError(
        "The file is no text: it is neither UTF-8, UTF-16 nor Windows-1252",
        where=str(path),
        hint="save it again as UTF-8",
    )


def _likely(start: bytes) -> tuple[str, ...]:
    """Return encodings to try: of UTF-16 without a mark, the zero of each letter shows the byte order."""
    if b"\0" not in start:
        return ("utf-8", "cp1252")
    return ("utf-16-be",) if start[:1] == b"\0" else ("utf-16-le",)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; a comma before a closing bracket is skipped.

    Raises
    ------
    SideFileError
        If it cannot be read, holds no object, or states one key twice with different values.
    """
    text = read_text(path)
    # A comma outside of strings that a bracket follows means nothing, and editors leave them.
    text = re.sub(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', lambda found: found[1] or "", text)
    try:
        found = json.loads(text, object_pairs_hook=_without_contradiction)
    except json.JSONDecodeError as error:
        raise SideFileError(
            f"Line {error.lineno} is not JSON: {error.msg}", where=str(path), hint="correct this line"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SideFileError(f"The file is not JSON: {reason}", where=str(path)) from error
    if not isinstance(found, dict):
        raise SideFileError(
            f"The file holds a {type(found).__name__}, expected a JSON object", where=str(path)
        )
    return found


def _without_contradiction(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ValueError(f"a key is stated twice with different values: {key[:40]!r}")
        found[key] = value
    return found


def read_table(
    path: Path, required: Iterable[Iterable[str]] = (), used: Iterable[str] = ()
) -> list[dict[str, str]]:
    """Read the rows of a table with a header, whatever delimiter it was saved with.

    Parameters
    ----------
    path : Path
        Commas, semicolons, tabs or bars; also with Excel's line ``sep=;``.
    required : iterable of iterable of str
        Of each group at least one column must be there, whatever its case.
    used : iterable of str
        Columns that are there twice with different values are an error if they are used, else left empty.

    Returns
    -------
    list of dict
        Stripped text by the column's name as the file has it; an empty cell is ``""``.

    Raises
    ------
    SideFileError
        Naming the line, where a row does not fit the header, or the columns, where a required one is missing.
    """
    lines, delimiter = _lines_of(path)
    header, rows, _ = _cells(path, lines, delimiter, {name.upper() for name in used})
    for group in required:
        names = tuple(group)
        if not {name.upper() for name in names} & {name.upper() for name in header}:
            raise SideFileError(
                f"The table has no column {' or '.join(names)}; it has {', '.join(header[:12])}",
                where=str(path),
                hint="export the table again with its header",
            )
    return rows


def row_lines(path: Path) -> list[int]:
    """Return the line of the file in which each row of `read_table` ends, from 1."""
    lines, delimiter = _lines_of(path)
    above = len(read_text(path).splitlines()) - len(lines.splitlines())
    return [above + line for line in _cells(path, lines, delimiter, {""})[2]]


_BLANK_LINES = re.compile(r"^(?:[ ,;|\t\"]*(?:\r\n|\r|\n))+")
"""Before the header: empty, or with empty cells."""


def _lines_of(path: Path) -> tuple[str, str]:
    """Return the text of a table from its header on, and the delimiter."""
    text = _BLANK_LINES.sub("", read_text(path))
    first, _, rest = text.partition("\n")
    stated = re.fullmatch(r'"?sep=(.)"?', first.strip("\r "), re.IGNORECASE)
    if stated:
        return rest, stated[1]
    if not first.strip():
        raise SideFileError("The table is empty", where=str(path), hint="export it again")
    bare = re.sub(r'"[^"]*"', "", first)
    counts = sorted(((bare.count(mark), mark) for mark in _DELIMITERS), reverse=True)
    if counts[0][0] and counts[0][0] == counts[1][0]:
        raise SideFileError(
            "Line 1 has as many of one delimiter as of another", where=str(path), hint="save it with commas"
        )
    return text, counts[0][1] if counts[0][0] else ","


def _cells(
    path: Path, text: str, delimiter: str, used: set[str]
) -> tuple[list[str], list[dict[str, str]], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[dict[str, str]] = []
    header: list[str] = []
    ends: list[int] = []
    length = 0
    try:
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if not header:
                header = values
            elif any(values):
                rows.append(_row(f"{path}, line {reader.line_num}", header, values, used))
                ends.append(reader.line_num)
                length = len(values)
    except csv.Error as error:
        raise SideFileError(f"Line {reader.line_num}: {error}", where=str(path)) from error
    if rows and length < len(header) and not text.endswith(("\n", "\r")):
        raise SideFileError(
            f"The table breaks off in line {reader.line_num}", where=str(path), hint="fetch it again"
        )
    return header, rows, ends


def _row(where: str, header: list[str], values: list[str], used: set[str]) -> dict[str, str]:
    path, line = where.rsplit(", line ", 1)
    if any(values[len(header) :]):
        raise SideFileError(
            f"Line {line} has {len(values)} cells, the header {len(header)}",
            where=path,
            hint="quote cells that hold the delimiter"
            if len(header) > 1
            else "remove the lines above the header",
        )
    stated: dict[str, set[str]] = {name: set() for name in header}
    for name, value in zip(header, values, strict=False):
        stated[name] |= {value} - {""}
    for name, found in stated.items():
        if len(found) > 1 and name and (name.upper() in used or not used):
            raise SideFileError(f"Line {line} has two values of column {name}", where=path)
    return {name: found.pop() if len(found) == 1 else "" for name, found in stated.items()}


def number_of(text: object) -> float | None:
    """Read a number, with a decimal comma or point; None where it is none.

    Examples
    --------
    >>> number_of("71,5"), number_of(" 71.5 "), number_of("1,234,5"), number_of("n/a")
    (71.5, 71.5, None, None)
    """
    found = str(text).strip()
    if re.fullmatch(r"[+-]?\d+,\d+", found):
        found = found.replace(",", ".")
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", found):
        return None
    value = float(found)
    return value if math.isfinite(value) else None


def is_missing(text: str) -> bool:
    """Return whether a cell is a way to write that nothing is known."""
    return text.strip().lower() in _NO_VALUE
