"""What reports are made of: cleaned text, measured values, and numbers as pages write them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

if TYPE_CHECKING:  # the report of a scan does without it
    from pipeline.evaluation.inference.intervals import Interval

RESEARCH_USE_ONLY = "Research use only - not for diagnostic use"
SYNTHETIC = "SYNTHETIC: a computed phantom, no person was scanned"
NBSP = "\u00a0"
_LONGEST = 400
_MOST_DIGITS = 9
_SURPRISING = 0.025
_MINUS = re.compile(r"(?<![\w.)\]=-])-(?=\.?\d)|(?<=\de)-(?=\d)")


def clean(value: object) -> str:
    r"""Return text that is safe on one line: no control or direction marks, single spaces, 400 characters.

    Headers come from anywhere. The template escapes markup; this removes what escaping leaves, such as a
    right-to-left override that shows ``exe.gpj`` as ``jpg.exe``.

    Examples
    --------
    >>> clean("  AV1451\n\u202e  PET\x00 ")
    'AV1451 PET'
    >>> len(clean("x" * 10_000))
    400
    """
    text = unicodedata.normalize("NFC", str(value).replace("\ud800", ""))
    characters = (" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    line = " ".join("".join(characters).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


Text = Annotated[str, BeforeValidator(clean)]


class Facts(BaseModel):
    """Base of all report models: numbers and strings only; rejects NaN and unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Named(Facts):
    """A label and its value."""

    label: Text
    value: Text


class Measured(Facts):
    """A metric with its interval."""

    value: float
    low: float
    high: float


def measured(found: Iterable[tuple[str, Interval]]) -> dict[str, Measured]:
    """Leave out what is not defined, as the recall of a class without test scans."""
    numbers = {name: asdict(interval) for name, interval in found}
    return {name: Measured(**m) for name, m in numbers.items() if all(map(math.isfinite, m.values()))}


class Rated(Facts):
    """A group of scans with similar stated probability: how often it came true, with its 95 % interval."""

    stated: float
    came_true: float
    low: float
    high: float


def held_too_rarely(held: int, scans: int, coverage: float) -> bool:
    """Return whether sets that reach their coverage would hold so few scans with a chance below 2.5 %.

    Examples
    --------
    >>> held_too_rarely(12, 24, 0.8), held_too_rarely(9, 11, 0.8)
    (True, False)
    """
    chances = (math.comb(scans, k) * coverage**k * (1 - coverage) ** (scans - k) for k in range(held + 1))
    return scans > 0 and sum(chances) < _SURPRISING


def listed(names: Sequence[str], word: str = "and") -> str:
    """Return names as a phrase.

    Examples
    --------
    >>> listed(["CN"]), listed(["CN", "MCI", "AD"], "or"), listed([])
    ('CN', 'CN, MCI or AD', '')
    """
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def percent(share: float, digits: int = 0) -> str:
    """Return a share in percent; never 0 or 100 in whole percent.

    Examples
    --------
    >>> [percent(p).replace(NBSP, " ") for p in (0.0, 0.004, 0.864, 0.999, 1.0)]
    ['<1 %', '<1 %', '86 %', '>99 %', '>99 %']
    """
    return f"{f'{100 * share:.{digits}f}' if digits else _whole(share)}{NBSP}%"


def counted_share(count: int, of: int) -> str:
    """Return a counted share in percent: 0 and 100 where none or all were counted, a dash of nothing.

    Examples
    --------
    >>> [counted_share(n, of).replace(NBSP, " ") for n, of in ((0, 5), (14, 14), (199, 200), (2, 3), (0, 0))]
    ['0 %', '100 %', '>99 %', '67 %', '–']
    """
    return exact_percent(count / of) if of else "–"


def exact_percent(value: float) -> str:
    """Return a share that was counted in percent; only none is 0, only all is 100.

    Examples
    --------
    >>> [exact_percent(p).replace(NBSP, " ") for p in (0.0, 0.001, 1.0)]
    ['0 %', '<1 %', '100 %']
    """
    return f"{100 * value:.0f}{NBSP}%" if value in (0, 1) else percent(value)


def percent_range(low: float, high: float) -> str:
    """Return two shares as one range in whole percent.

    Examples
    --------
    >>> percent_range(0.786, 0.912).replace(NBSP, " ")
    '79 to 91 %'
    """
    first, last = _whole(low), _whole(high)
    return f"{first}{NBSP}%" if first == last else f"{first} to {last}{NBSP}%"


def texts_apart(value: float, limit: float, written: Callable[[float, int], str], digits: int) -> list[str]:
    """Return a value and its limit with as many digits as show that they differ, if they do.

    Examples
    --------
    >>> texts_apart(31.04, 31.0, number, 1), texts_apart(2.0, 2.0, number, 1)
    (['31.04', '31.00'], ['2.0', '2.0'])
    """
    texts = [written(x, digits) for x in (value, limit)]
    if texts[0] != texts[1] or value == limit or digits > _MOST_DIGITS:
        return texts
    return texts_apart(value, limit, written, digits + 1)


def _whole(share: float) -> str:
    shown = f"{100 * share:.0f}"
    return {"0": "<1", "-0": "<1", "100": ">99"}.get(shown, shown)


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with fixed digits and a true minus, or a dash where there is none.

    Examples
    --------
    >>> number(1.2345), number(-0.5, 1), number(None), number(-0.001)
    ('1.23', '−0.5', '–', '0.00')
    """
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def with_minus(text: str) -> str:
    """Return a text in which negative numbers have a true minus; ranges, dates and settings keep hyphens.

    Sentences of quality control also go to tables and terminals, which hold plain hyphens.

    Examples
    --------
    >>> with_minus("Better fit of the head turned over: -0.08; z = -343.0, -340.5 mm (-2e-05)")
    'Better fit of the head turned over: −0.08; z = −343.0, −340.5 mm (−2e−05)'
    >>> with_minus("80-100 min after injection, sub-07 ses-2, 2026-11-30, use --set x.shift=-5")
    '80-100 min after injection, sub-07 ses-2, 2026-11-30, use --set x.shift=-5'
    """
    return _MINUS.sub("−", text)


def moment(time: str) -> str:
    """Return a time in UTC to the minute, as pages show it.

    Examples
    --------
    >>> moment("2026-11-21T15:40:07Z"), moment("2026-11-21T15:40:07+00:00")
    ('2026-11-21 15:40', '2026-11-21 15:40')
    """
    return time[:16].replace("T", " ")


def signed(value: float | None, digits: int = 1) -> str:
    """Return a number with its sign, as `number` does.

    Examples
    --------
    >>> signed(2.04), signed(-1.3), signed(0.0)
    ('+2.0', '−1.3', '0.0')
    """
    text = number(value, digits)
    return f"+{text}" if value is not None and float(f"{value:.{digits}f}") > 0 else text
