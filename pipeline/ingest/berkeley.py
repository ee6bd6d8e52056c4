"""UC Berkeley's tables of regional tau SUVR in ADNI."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pipeline.ingest.date_columns import with_iso_dates
from pipeline.ingest.side_files import SideFileError, is_missing, number_of, read_table
from pipeline.ingest.times import parse_date
from pipeline.ingest.vocabulary import canonical_tracer, squeeze, tracer_of
from pipeline.wording import counted

REFERENCE_COLUMN = "INFERIORCEREBELLUM_SUVR"
_TABLE_HINT = "give UC Berkeley's table of tau PET, UCBERKELEY_TAU_6MM or UCBERKELEYAV1451"
_COMPOSITES = {
    "composite_meta_roi_adni": "META_TEMPORAL",
    "composite_braak_1_2": "BRAAK1",
    "composite_braak_3_4": "BRAAK34",
    "composite_braak_5_6": "BRAAK56",
}
"""Of the same regions: BRAAK12 is not among them, as it has the hippocampus."""
_NUCLEI = {
    "amygdala": ("AMYGDALA",),
    "hippocampus": ("HIPPOCAMPUS",),
    "putamen": ("PUTAMEN",),
    "pallidum": ("PALLIDUM",),
    "caudate": ("CAUDATE",),
    "thalamus": ("THALAMUS_PROPER", "THALAMUS"),
    "accumbens": ("ACCUMBENS_AREA", "ACCUMBENS"),
    "ventral_dc": ("VENTRALDC",),
    "choroid_plexus": ("CHOROID_PLEXUS",),
}
_PASSES = {1: "partial pass", 2: "full pass"}


@dataclass(frozen=True, eq=False)
class BerkeleyRow:
    """One scan of the table: SUVR by the columns of a dataset's regional table, over inferior cerebellum."""

    person: int
    day: date
    suvr: Mapping[str, float]


@dataclass(frozen=True)
class BerkeleyTable:
    """The rows of a table, those that may be compared and those that may not.

    Parameters
    ----------
    rows : tuple of BerkeleyRow
    excluded : tuple of (BerkeleyRow, str)
        With the reason.
    notes : tuple of str
        What the table leaves open, in sentences.
    """

    rows: tuple[BerkeleyRow, ...]
    excluded: tuple[tuple[BerkeleyRow, str], ...]
    notes: tuple[str, ...] = ()

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows may not be compared, by reason."""
        return dict(Counter(why for _, why in self.excluded))


def read_berkeley(path: Path, tracer: str, columns: Sequence[str], least_flag: int = 2) -> BerkeleyTable:
    """Read one of UC Berkeley's tables: of 6 mm with TRACER and qc_flag, or the older one of AV1451 alone.

    Its SUVR columns are divided by that of the inferior cerebellum, as older tables are not; in newer ones
    this changes next to nothing.

    Parameters
    ----------
    path : Path
    tracer : str
        In any spelling; rows of another one are excluded.
    columns : sequence of str
        Of the dataset's regional table, ``left_entorhinal`` ... ``composite_meta_roi_adni``.
    least_flag : int
        Least qc_flag: 2 full pass, 1 partial pass.

    Raises
    ------
    SideFileError
        If the file is another table, values are corrected for partial volume, a cell of SUVR is no number,
        or none of its rows may be compared.
    """
    cells = [{name.upper(): value for name, value in row.items()} for row in read_table(path)]
    header, tracer = set(cells[0]) if cells else set(), canonical_tracer(tracer)
    day_column = _check(path, header)
    notes = _notes(path, header, tracer)
    cells, _ = with_iso_dates(cells, day_column, path)
    # A release may hold a row twice, with another stamp of its update.
    seen: dict[object, tuple[BerkeleyRow, str]] = {}
    unplaced = 0
    for line, cell in enumerate(cells, 2):
        day, person = parse_date(cell[day_column]), _person(cell)
        if day is None or person is None:
            unplaced += 1
            continue
        suvr, why = _suvr_or_why(cell, tracer, least_flag, columns, f"{path}: line {line}")
        seen.setdefault((person, day, why, tuple(suvr.items())), (BerkeleyRow(person, day, suvr), why))
    if unplaced:
        notes.append(f"{are(unplaced, 'row')} left out without a date or an ADNI number.")
    found = BerkeleyTable(
        tuple(row for row, why in seen.values() if not why),
        tuple((row, why) for row, why in seen.values() if why),
        tuple(notes),
    )
    if not found.rows:
        counts = "; ".join(f"{count} rows: {why}" for why, count in found.reasons.items())
        partly = any(why.startswith("qc_flag is 1") for why in found.reasons)
        raise SideFileError(
            f"None of {len(cells)} rows can be compared with scans of {tracer}{counts and f' ({counts})'}",
            where=str(path),
            hint="add --qc-flag 1 to compare partial passes" if partly else _TABLE_HINT,
        )
    return found


def _check(path: Path, header: set[str]) -> str:
    """Return the column of dates of a table that may be compared."""
    if "PVC" in path.name.upper() or any(name.startswith("INFERIOR_CEREBGM") for name in header):
        raise SideFileError(
            "SUVR of this table is corrected for partial volume; that of taucal is not",
            where=str(path),
            hint="give the table without PVC in its name",
        )
    found = [name for name in ("SCANDATE", "EXAMDATE") if name in header]
    lacking = [
        *([] if {"RID", "PTID"} & header else ["RID"]),
        *([] if found else ["SCANDATE"]),
        *([] if REFERENCE_COLUMN in header else [REFERENCE_COLUMN]),
    ]
    if lacking:
        raise SideFileError(
            f"The table has no column {', '.join(lacking)}; it has "
            f"{', '.join(sorted(header)[:8]) or 'no row'}",
            where=str(path),
            hint=_TABLE_HINT,
        )
    return found[0]


def _notes(path: Path, header: set[str], tracer: str) -> list[str]:
    notes = []
    if "TRACER" not in header:
        if tracer_of(path.stem.upper().replace("UCBERKELEY", "")) != tracer:
            raise SideFileError(
                f"The table has no column TRACER, and its name does not state {tracer}",
                where=str(path),
                hint=f"add a column TRACER; if all rows are of {tracer}, call it UCBERKELEY{tracer}.csv",
            )
        notes.append(f"The table has no column TRACER: by its name, all rows are of {tracer}.")
    if "QC_FLAG" not in header:
        notes.append("The table has no column qc_flag: no row is left out for its quality.")
    return notes


def _why_not(cell: Mapping[str, str], tracer: str, least_flag: int) -> str:
    """Return why a row may not be compared; nothing where it may."""
    if "TRACER" in cell and tracer_of(cell["TRACER"]) != tracer:
        return f"TRACER is {tracer_of(cell['TRACER']) or 'not stated'}"
    flag = number_of(cell.get("QC_FLAG", least_flag))
    if flag is None or flag < least_flag:
        word = _PASSES.get(int(flag), "no pass") if flag is not None else ""
        return f"qc_flag is {flag:g} ({word})" if flag is not None else "qc_flag is not stated"
    return ""


def _person(cell: Mapping[str, str]) -> int | None:
    """Return the roster number of a row."""
    rid = number_of(cell.get("RID", ""))
    return int(rid) if rid is not None and rid > 0 else roster_number(cell.get("PTID", ""))


def roster_number(subject: str) -> int | None:
    """Return ADNI's roster number of a subject, as ADNI or Clinica spell it, or of the number alone.

    Examples
    --------
    >>> [roster_number(s) for s in ("011_S_4321", "sub-ADNI168S10065", "4321", "OAS30001")]
    [4321, 10065, 4321, None]
    """
    found = re.search(r"(?<!\d)\d{3}[_ -]?S[_ -]?(\d{4,5})(?!\d)", subject.upper())
    if found:
        return int(found[1])
    return int(subject) if re.fullmatch(r"0*[1-9]\d{0,4}", subject.strip()) else None


def _suvr_or_why(
    cell: Mapping[str, str], tracer: str, least_flag: int, columns: Sequence[str], where: str
) -> tuple[dict[str, float], str]:
    """Return SUVR of a row by the columns of the dataset, or nothing and why it may not be compared."""
    why = _why_not(cell, tracer, least_flag)
    if why:
        return {}, why
    reference = _value(cell, REFERENCE_COLUMN, where)
    if reference is None:
        return {}, "no SUVR of the inferior cerebellum"
    found = {}
    for column in columns:
        values = (_value(cell, f"{name}_SUVR", where) for name in _names(column))
        value = next((value for value in values if value is not None), None)
        if value is None and column.startswith("both_"):
            value = _of_sides(cell, column, where)
        if value is not None:
            found[column] = value / reference
    return found, ""


def _names(column: str) -> tuple[str, ...]:
    """Return how UC Berkeley may call a region of a dataset.

    Examples
    --------
    >>> _names("left_banks_sts"), _names("both_amygdala"), _names("composite_meta_roi_adni")
    (('CTX_LH_BANKSSTS',), ('AMYGDALA',), ('META_TEMPORAL',))
    """
    side, _, region = column.partition("_")
    if side == "composite":
        return (_COMPOSITES[column],) if column in _COMPOSITES else ()
    if region in _NUCLEI:
        prefix = "" if side == "both" else f"{side.upper()}_"
        return tuple(prefix + name for name in _NUCLEI[region])
    hemisphere = {"left": "LH_", "right": "RH_"}.get(side, "")
    return (f"CTX_{hemisphere}{squeeze(region).upper()}",)


def _of_sides(cell: Mapping[str, str], column: str, where: str) -> float | None:
    """Return the mean of both sides by their volumes, which older tables do not state."""
    total = volume = 0.0
    for side in ("left", "right"):
        for name in _names(column.replace("both_", f"{side}_", 1)):
            mean, size = (_value(cell, f"{name}_{what}", where) for what in ("SUVR", "VOLUME"))
            if mean is not None and size is not None:
                total, volume = total + mean * size, volume + size
                break
        else:
            return None
    return total / volume


def _value(cell: Mapping[str, str], column: str, where: str) -> float | None:
    """Return a positive number; None where nothing is stated, or a code in its place."""
    text = cell.get(column, "")
    if is_missing(text):
        return None
    value = number_of(text)
    if value is None:
        raise SideFileError(
            f"{text[:40]!r} is no number", where=f"{where}, column {column}", hint="correct the cell"
        )
    return value if value > 0 else None


def are(count: int, what: str) -> str:
    """Return a count as a subject and its verb.

    Examples
    --------
    >>> are(1, "row"), are(2, "row")
    ('1 row is', '2 rows are')
    """
    return f"{counted(count, what)} {'is' if count == 1 else 'are'}"
