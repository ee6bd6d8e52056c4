"""Whether the page of a weekly check agrees with its JSON, and its counts with each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from page_seen import rows_of, text_of

Found = Iterator[str]
_ADVICE = {
    "": "Not tested.",
    "nothing": "No action is needed.",
    "recalibrate": "Recalibrate the champion.",
    "retrain": "Retrain the champion.",
}


def week_contradictions(html: str, report: Mapping[str, Any]) -> list[str]:
    """Return every contradiction of the page of a week with itself and with its JSON."""
    return [*_head(html, report), *_tests(html, report), *_counts(html, report)]


def _plain(text: object) -> str:
    return " ".join(str(text).replace("\u00a0", " ").split())


def _head(html: str, report: Mapping[str, Any]) -> Found:
    lead = text_of(re.search(r'<p class="lead">(.*?)</p>', html, re.DOTALL)[1])
    stated = re.match(r"(\d+) scans? of (\d+) subjects? (?:was|were) answered since (\S+)", lead)
    if stated is None or [*map(int, stated.groups()[:2])] != [report["scans"], report["subjects"]]:
        yield f"{report['scans']} scans of {report['subjects']} subjects, the page has {lead!r}"
    champion = f"champion: version {report['champion']}" if report["champion"] else "champion: none"
    if not lead.endswith(champion):
        yield f"{champion}, the page has {lead!r}"
    box = re.search(r'<div class="decision (\w+)">(.*?)</div>', html, re.DOTALL)
    answer = report["answer"] if report["tests"] else ""
    calm = answer == "nothing"
    style = "report" if calm else "refer" if answer else "untested"
    if box[1] != style or _ADVICE[answer] not in text_of(box[2]):
        yield f"the answer is {report['answer']}, the page has {text_of(box[2])!r}"
    for reason in (*report["reasons"], *report["performance"]):
        if _plain(reason) not in text_of(html):
            yield f"the page lacks {reason!r}"
    reads = report["reads"]
    stated = re.search(r"Readers changed (\d+) of the (\d+) answers? that they read: (\d+) %", text_of(html))
    counted = [int(n) for n in stated.groups()[:2]] if stated else [0, 0]
    if counted != [reads["overrides"], reads["reads"]]:
        yield f"the reads are {reads}, the page has {stated and stated[0]!r}"
    elif stated and abs(100 * counted[0] / counted[1] - int(stated[3])) > 0.5:
        yield f"{counted[0]} of {counted[1]} is not {stated[3]} %"
    if (reads["reads_before"] > 0) != ("Before this week they changed" in text_of(html)):
        yield "earlier reads are not stated, or stated without need"
    # Another scanner alone asks for nothing.
    if calm and any(test["changed"] for test in report["tests"] if test["kind"] != "scanner"):
        yield "a test shows a change, and no action is needed"


def _tests(html: str, report: Mapping[str, Any]) -> Found:
    tables = [rows_of(t) for t in re.findall(r"<table.*?</table>", html, re.DOTALL)]
    shown = [rows[1:] for rows in tables if rows and rows[0][:2] == ("What", "Change found")]
    rows = shown[0] if shown else ()
    wanted = [
        (
            _plain(test["kind"]),
            "yes" if test["changed"] else "no",
            "< 0.001" if test["p_value"] < 0.001 else f"{test['p_value']:.3f}",
            _plain(test["sentence"]),
        )
        for test in report["tests"]
    ]
    stated = [(*row[:-1], row[-1].replace("−", "-")) for row in rows]
    if stated != wanted:
        yield f"the tests are {wanted}, the page has {stated}"
    heading = re.search(r"<h2>Tests of (\d+) scan", html)
    if (int(heading[1]) if heading else 0) != report["compared"]:
        yield f"{report['compared']} scans were tested, the page has {heading and heading[0]}"


def _counts(html: str, report: Mapping[str, Any]) -> Found:
    shown = [rows_of(table) for table in re.findall(r'<table class="facts">.*?</table>', html, re.DOTALL)]
    for key in ("decisions", "kinds", "versions"):
        wanted = tuple((_plain(one["label"]), _plain(one["value"])) for one in report[key])
        if report["scans"] and wanted not in shown:
            yield f"{key} are {wanted}, the page has {shown}"
        if sum(int(one["value"]) for one in report[key]) != report["scans"]:
            yield f"{key} do not add up to {report['scans']} scans"
    if report["subjects"] > report["scans"] or report["diagnoses"] > report["scans"]:
        yield "there are more subjects or diagnoses than scans"
    stated = re.search(r"scan\. (\d+|None) of them ha(?:s|ve) a later diagnosis", text_of(html))
    if report["scans"] and (stated is None or stated[1] != str(report["diagnoses"] or "None")):
        yield f"{report['diagnoses']} have a diagnosis, the page has {stated and stated[0]!r}"
    hidden = report["why_kinds"] - len(report["why"])
    if bool(hidden) != (f"most frequent of {report['why_kinds']} reasons" in text_of(html)):
        yield f"{hidden} reasons are left out, which is not stated, or stated without need"
