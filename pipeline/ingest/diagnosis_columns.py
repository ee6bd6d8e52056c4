"""Columns of tables of people that state a diagnosis, a read or a status, by the kinds of their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.diagnoses import diagnosis_in
from pipeline.ingest.side_files import is_missing
from pipeline.ingest.vocabulary import squeeze

_PREFIX = (
    "(?:clinical|clin|primary|consensus|current|research|study|final|syndromal|syndromic|cognitive|cog|"
    "screening|baseline|bl|sc|adni|visit|session|pet|subject|participant|patient|diagnostic|disease)*"
)
_CURRENT = re.compile(
    rf"{_PREFIX}(?:cdx(?:cog)?|diagnos[ie]s|diagnosen?|diagnostics?|diagnosisname|diag|diagn|dx|group|grp|grouping|cohort|category|"
    r"status|state|classification|class|condition|label|phenotype)(?:1|name|label|text|desc|description|group|grp|"
    r"code|category)?"
)
_EARLIER = re.compile(
    rf"(?:{_PREFIX}(?:diagnos[ie]s|diag|dx|group)(?:1)?(?:bl|sc|baseline|screening|at(?:bl|baseline|screening)))"
    r"|(?:(?:baseline|bl|screening|sc)(?:clinical)?(?:diagnos[ie]s|diag|dx|group))"
)
_ORDER = ("diagnos", "diag", "dx", "group", "grp", "class", "status")
_GROUP = _ORDER.index("grp")
_READ = re.compile(
    r"(?:.*(?:amyloid|abeta|tau|pib|av45|av1451|fbb|fbp|csf|plasma|braak|pet|visual).*)?"
    r"(?:visual|visualread|read|reading|rating|status|positivity|positive|pos|stage|result)(?:name|label|text)?"
)
_OF_MARKERS = re.compile(r"amyloid|abeta|tau|pib|av45|av1451|fbb|fbp|csf|plasma|braak|visual|read")


@dataclass(frozen=True)
class Statement:
    """What a row states: its words, CN, MCI or AD if they mean one; `clashes` where columns disagree."""

    stated: str = ""
    meaning: str | None = None
    clashes: bool = False


def diagnosis_columns(header: Iterable[str]) -> list[str]:
    """Return the columns that may state a diagnosis, the likeliest first.

    Those of an earlier moment, as a baseline, come last.

    Examples
    --------
    >>> diagnosis_columns(["dx_bl", "age", "Group", "diagnosis", "dx1"])
    ['diagnosis', 'dx1', 'Group', 'dx_bl']
    """
    names = [name for name in header if not _OF_MARKERS.search(squeeze(name))]
    now = [name for name in names if _CURRENT.fullmatch(squeeze(name)) and not _is_earlier(name)]
    return [*sorted(now, key=_rank), *sorted(filter(_is_earlier, names), key=_rank)]


def _is_earlier(name: str) -> bool:
    return bool(_EARLIER.fullmatch(squeeze(name)))


def _rank(name: str) -> int:
    return next((n for n, word in enumerate(_ORDER) if word in squeeze(name)), len(_ORDER))


def read_columns(header: Iterable[str]) -> list[str]:
    """Return the columns of visual reads and of the status of a marker, which may be a study's target.

    Examples
    --------
    >>> read_columns(["age", "amyloid_status", "Visual read", "status", "MMSE"])
    ['amyloid_status', 'Visual read']
    """
    return [n for n in header if _OF_MARKERS.search(squeeze(n)) and _READ.fullmatch(squeeze(n))]


def statement_in(row: Mapping[str, str], levels: Mapping[str, Mapping[str, str]] | None = None) -> Statement:
    """Return what the row of a table states as diagnosis.

    Of several columns of one moment the words that are known count; where two of them disagree, none. A
    baseline counts where nothing else is stated. Words that nobody knows are stated and mean nothing.

    Parameters
    ----------
    row : mapping of column to cell
    levels : mapping, optional
        For each column the words of its codes, as a BIDS side file lists them.

    Examples
    --------
    >>> statement_in({"diagnosis": "n/a", "group": "HC"})
    Statement(stated='HC', meaning='CN', clashes=False)
    >>> statement_in({"diagnosis": "1"}, {"diagnosis": {"1": "Healthy control"}}).meaning
    'CN'
    """
    columns = diagnosis_columns(row)
    for moment in ([c for c in columns if not _is_earlier(c)], [c for c in columns if _is_earlier(c)]):
        cells = {c: _in_words(row[c], (levels or {}).get(c, {})) for c in moment if not is_missing(row[c])}
        known = [(text, meaning[0]) for text in cells.values() if (meaning := diagnosis_in(text))]
        if len({meaning for _, meaning in known}) > 1:
            return Statement(clashes=True)
        if known:
            # Of CN and SMC, or MCI and EMCI, the one that states more.
            return Statement(*next((k for k in known if (diagnosis_in(k[0]) or k)[1] != k[1]), known[0]))
        # Of the status of a visit, or the category of an address, no diagnosis is expected.
        texts = [text for c, text in cells.items() if _rank(c) <= _GROUP and len(text) <= _LONGEST]
        if texts:
            return Statement(texts[0])
    return Statement()


_LONGEST = 60
"""Longer texts are remarks, which may be of anybody."""


def _in_words(cell: str, levels: Mapping[str, str]) -> str:
    return levels.get(cell.strip(), cell.strip())
