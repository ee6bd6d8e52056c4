"""What a row of an ADNI table states in codes: visits and diagnoses, of every phase."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.diagnoses import diagnosis_in
from pipeline.ingest.side_files import number_of

_BASELINE = frozenset({"bl", "sc", "scmri", "4_bl", "4_sc", "v01", "v02", "v03", "init", "4_init", "m00"})

Row = Mapping[str, str]


def months_of(viscode: str) -> int | None:
    """Return months since baseline of a visit code, or None where the code has none.

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


def code_in(row: Row, column: str) -> int | None:
    """Return the positive whole number in a cell, None for anything else."""
    value = number_of(row.get(column, ""))
    return int(value) if value is not None and value.is_integer() and value > 0 else None


_CURRENT = {1: "CN", 2: "MCI", 3: "AD"}
_CHANGE = {1: "CN", 7: "CN", 9: "CN", 2: "MCI", 4: "MCI", 8: "MCI", 3: "AD", 5: "AD", 6: "AD"}


def diagnosis_of(row: Row) -> str | None:
    """Return CN, MCI or AD of one row of a diagnosis table; None for sentinels, gaps and contradictions.

    Examples
    --------
    >>> diagnosis_of({"DXCHANGE": "9"}), diagnosis_of({"DIAGNOSIS": "-4", "DXCURREN": "3"})
    ('CN', 'AD')
    >>> diagnosis_of({"DIAGNOSIS": "1", "DXCHANGE": "5"})
    """
    found = diagnoses_of(row)
    return found.pop() if len(found) == 1 else None


def diagnoses_of(row: Row) -> set[str]:
    """Return what the columns of one row state, of any ADNI phase: more than one where they disagree.

    DIAGNOSIS is of ADNI3 and 4 and back-filled, DXCHANGE of ADNIGO and 2, DXCURREN of ADNI1, the words of DX
    of ADNIMERGE. DXCHANGE states a change: 9, from AD to normal, is CN.
    """
    columns: tuple[tuple[str, Mapping[int, str]], ...] = (
        ("DIAGNOSIS", _CURRENT),
        ("DXCHANGE", _CHANGE),
        ("DXCURREN", _CURRENT),
        ("DX", {}),
    )
    named = (
        names.get(code_in(row, column) or 0) or (diagnosis_in(row.get(column, "")) or ("",))[0]
        for column, names in columns
    )
    return {name for name in named if name}
