"""Whether the list of reports, or the page of agreement, contradicts itself or what it was made from."""

from __future__ import annotations

import html as html_module
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_Z = 1.959963984540054
_QUALITY = {"pass": "passed", "warn": "warning", "refuse": "refused"}


def _text(html: str) -> str:
    bare = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", html, flags=re.DOTALL)
    bare = html_module.unescape(re.sub(r"<[^>]+>", " ", bare)).replace("\u00a0", " ")
    return " ".join(bare.split())


def list_contradictions(html: str, report: Mapping[str, Any]) -> list[str]:
    """Return every contradiction of a list of reports with the facts that it was made from."""
    reports = report["reports"]
    items = re.findall(r"<li>\s*<div>(.*?)</li>\s*(?=<li>\s*<div>|</ol>\s*<p)", html, re.DOTALL)
    found = [] if len(items) == len(reports) else [f"{len(items)} items for {len(reports)} reports"]
    for item, r in zip(items, reports, strict=False):
        found += _item(item, r)
    verdicts = [r["verdict"] for r in reports]
    counts = [verdicts.count(name) for name in ("report", "refer", "refused")]
    unread = sum(not r["reads"] for r in reports)
    lead = (
        f"{len(reports)} scan{'' if len(reports) == 1 else 's'}: {counts[0]} with a finding, "
        f"{counts[1]} referred to an expert, {counts[2]} refused · {unread} not read yet"
    )
    if lead not in _text(html):
        found.append(f"the page does not count {lead!r}")
    if [r["date"] for r in reports] != sorted((r["date"] for r in reports), reverse=True):
        found.append("the newest report is not the first")
    return found


def _item(item: str, r: Mapping[str, Any]) -> Iterator[str]:
    text, links = _text(item), re.findall(r'href="([^"]+)"', item)
    words = [r["headline"], r["tau"], *(reason.rstrip(".")[1:] for reason in r["reasons"])]
    shown = [word for word in words if word and " ".join(word.replace("\u00a0", " ").split()) in text]
    answers = [link for link in links if link != r["viewer"]]  # the viewer shows the scan alone
    if r["hidden"] and (answers or shown):
        yield f"{r['scan']} is hidden, but the page has {[*answers, *shown]}"
    if not r["hidden"]:
        if html_module.unescape(links[0]) != r["link"]:
            yield f"{r['scan']} is linked to {links[0]}"
        if len(shown) != len([word for word in words if word]):
            yield f"{r['scan']} lacks one of {words}"
    read = f"read by {'; '.join(r['reads'])}" if r["reads"] else "not read yet"
    if f"Quality control: {_QUALITY[r['quality']]} · {read}" not in text:
        yield f"{r['scan']}: quality is {r['quality']}, {read}, the page has {text!r}"
    if f"{r['date']} · version {r['version']}" not in text:
        yield f"{r['scan']}: date or version is another"


def agreement_contradictions(html: str, report: Mapping[str, Any]) -> list[str]:
    """Return every contradiction of a page of agreement with itself or the facts that it was made from."""
    overall, groups = report["overall"], report["groups"]
    rates = [overall, *(r for name in groups for r in groups[name])]
    found = [line for rate in rates for line in _interval(rate)]
    for name, rows in groups.items():
        for what in ("reads", "overrides"):
            total = sum(r[what] for r in rows)
            if total > overall[what] or (name != "confidence" and total != overall[what]):
                found.append(f"by {name} there are {total} {what}, in all {overall[what]}")
    counts = ((overall["reads"], "read"), (report["scans"], "scan"), (report["readers"], "reader"))
    lead = "{} of {} by {}".format(*(f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in counts))
    if lead not in _text(html):
        found.append(f"the page does not count {lead!r}")
    return found + (list(_bars(html, rates)) if overall["reads"] else [])


def _interval(rate: Mapping[str, Any]) -> Iterator[str]:
    """Compare an interval with Wilson's closed form."""
    n, k = rate["reads"], rate["overrides"]
    if not n:
        return
    middle = (k + _Z**2 / 2) / (n + _Z**2)
    half = _Z * math.sqrt(k * (n - k) / n + _Z**2 / 4) / (n + _Z**2)
    for name, value in (("low", middle - half), ("high", middle + half), ("share", k / n)):
        if abs(rate[name] - value) > 1e-6:
            yield f"{rate['label']}: {name} of {k} of {n} is {rate[name]}, expected {value}"


def _bars(html: str, rates: list[Mapping[str, Any]]) -> Iterator[str]:
    head = r'class="name">([^<]+)<.*?class="value">(\d+) of (\d+) <span[^>]*>([^<]*)<'
    pattern = head + r'.*?aria-label="([^"]+)"(.*?)</svg>'
    drawn = re.findall(pattern, html, re.DOTALL)
    if len(drawn) != len(rates):
        yield f"{len(drawn)} bars for {len(rates)} rates"
    by_label = {(r["label"], str(r["overrides"]), str(r["reads"])): r for r in rates}
    for label, overrides, reads, words, spoken, svg in drawn:
        rate = by_label.get((html_module.unescape(label), overrides, reads))
        if rate is None:
            yield f"the bar {label} has {overrides} of {reads}"
            continue
        line = float(re.search(r'<line x1="([\d.]+)%"', svg)[1])
        if abs(line - 100 * rate["share"]) > 0.006:
            yield f"{label} is drawn at {line} %, the share is {rate['share']}"
        ends = re.search(r"\(<?(\d+) to >?(\d+)", html_module.unescape(words))
        if ends is None or any(
            abs(int(e) - 100 * x) > 1 for e, x in zip(ends.groups(), (rate["low"], rate["high"]), strict=True)
        ):
            yield f"{label}: the page has {words}, the interval is {rate['low']} to {rate['high']}"
        if spoken != f"{label}: {overrides} of {reads} answers changed, {words}":
            yield f"{label}: the label of the bar is {spoken!r}"
