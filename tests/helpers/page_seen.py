"""What a reader sees on the page of a scan, parsed from its HTML, not taken from the code that made it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

SHARE = r"(?:<1|>99|\d+(?:\.\d+)?)"
PERCENT = re.compile(rf"(?:({SHARE}) to )?({SHARE}) %")
_BLUE = "#1f5a8a"
ROUNDING = 1e-6


def text_of(html: str) -> str:
    """Return what a reader sees of a piece of a page, on one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).replace("\u00a0", " ").split())


@dataclass(frozen=True)
class Bar:
    """One bar as it is drawn and written; places in percent of the width."""

    name: str
    value: str
    range: str
    label: str
    line: float
    low: float
    high: float
    blue: bool


@dataclass(frozen=True)
class Seen:
    """What a reader sees on a page."""

    tau: tuple[str, ...]
    verdict: str
    kicker: str
    headline: str
    finding: str
    reasons: tuple[str, ...]
    heading: str
    bars: tuple[Bar, ...]
    axis: str
    clinic_table: tuple[tuple[str, ...], ...]
    checks: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]
    first_sheet: str
    whole: str


def _first(pattern: str, html: str) -> str:
    found = re.search(pattern, html, re.DOTALL)
    return text_of(found[1]) if found else ""


def rows_of(table: str) -> tuple[tuple[str, ...], ...]:
    """Return the cells of a table, row by row."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    return tuple(
        tuple(text_of(c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r, re.DOTALL)) for r in rows
    )


def _bar(html: str) -> Bar:
    rects = re.findall(r'<rect x="([\d.]+)%?" [^>]*width="([\d.]+)%" [^>]*fill="(#\w+)"', html)
    faded = rects[2:]
    return Bar(
        name=_first(r'class="name">(.*?)<span', html),
        value=_first(r'class="value">(.*?)<span', html),
        range=_first(r'class="range">(.*?)</span>', html),
        label=unescape(_first_raw(r'aria-label="([^"]*)"', html)).replace("\u00a0", " "),
        line=float(_first_raw(r'<line x1="([\d.]+)%"', html)),
        low=float(faded[0][0]),
        high=float(faded[-1][0]) + float(faded[-1][1]),
        blue={colour for _, _, colour in rects[1:]} == {_BLUE},
    )


def _first_raw(pattern: str, html: str) -> str:
    found = re.search(pattern, html, re.DOTALL)
    return found[1] if found else "nan"


def see(html: str) -> Seen:
    """Read a page as a reader would."""
    first = html.split('<section class="sheet"')[1]
    decision = _first_raw(r'<div class="decision \w+">(.*?)</div>', html)
    bars = _first_raw(r'<div class="bars">(.*?)<p class="axis">', html)
    prose = re.sub(
        r"<table.*?</table>|<svg.*?</svg>|<p class=\"axis\">.*?</p>|<style.*?</style>",
        "",
        html,
        flags=re.DOTALL,
    )
    tau = _first_raw(r'<div class="decision tau \w+">(.*?)</div>', html)
    return Seen(
        tau=tuple(text_of(s) for s in re.findall(r"<(?:p|h2)\b[^>]*>.*?</(?:p|h2)>", tau, re.DOTALL)),
        verdict=_first_raw(r'<div class="decision (\w+)">', html),
        kicker=_first(r'class="kicker">(.*?)</p>', decision),
        headline=_first(r"<h2>(.*?)</h2>", decision),
        finding=_first(r"</h2>\s*<p>(.*?)</p>", decision),
        reasons=tuple(text_of(r) for r in re.findall(r"<li>(.*?)</li>", decision, re.DOTALL)),
        heading=_first(r"<h2>((?:Calibrated p|P)robability.*?)</h2>", html),
        axis=_first(r'<div class="bars">.*?<p class="axis">(.*?)</p>', html),
        bars=tuple(_bar(part) for part in bars.split('<div class="bar">')[1:]),
        clinic_table=rows_of(
            _first_raw(r'aria-label="Probabilities at two prevalences[^>]*>(.*?)</table>', html)
        ),
        checks=rows_of(_first_raw(r"Checks before the model gives a finding</h2>(.*?)</table>", html))[1:],
        sentences=tuple(
            text_of(s)
            for s in re.findall(
                r"<(?:p|li|h2|h3|figcaption)\b[^>]*>.*?</(?:p|li|h2|h3|figcaption)>", prose, re.DOTALL
            )
        ),
        first_sheet=text_of(first),
        whole=text_of(html.partition("<body>")[2]),
    )


def states(text: str, share: float) -> bool:
    """Return whether a written percentage, without its sign, is a share, to the digits it has."""
    if text == "<1":
        return share < 0.005 + ROUNDING
    if text == ">99":
        return share > 0.995 - ROUNDING
    digits = len(text.partition(".")[2])
    return abs(100 * share - float(text)) <= 0.5 * 10**-digits + 100 * ROUNDING


def states_range(text: str, low: float, high: float) -> bool:
    found = PERCENT.fullmatch(text)
    return bool(found) and states(found[1] or found[2], low) and states(found[2], high)


def plain(reason: str) -> str:
    """Return a sentence without its full stop, in lower case."""
    return " ".join(reason.lower().replace("\u2212", "-").rstrip(".").split())


def likeliest(report: Mapping[str, Any], key: str = "shown") -> list[str]:
    """Return the classes of the largest value."""
    top = max(c[key] for c in report["classes"])
    return [c["name"] for c in report["classes"] if c[key] >= top - ROUNDING]


def phrase(names: Sequence[str]) -> str:
    """Return names as a phrase with "or"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def is_clinic(report: Mapping[str, Any]) -> bool:
    """Return whether a clinic's prevalence is given."""
    return any(c["clinic_share"] is not None for c in report["classes"])
