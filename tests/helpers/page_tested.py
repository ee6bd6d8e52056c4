"""Whether what the page of a scan states about tests agrees with its figures and the study's results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from page_seen import PERCENT, ROUNDING, SHARE, Seen, is_clinic, likeliest, plain, states, states_range
from scipy import stats

Found = Iterator[str]


def tested_agrees(seen: Seen, report: Mapping[str, Any]) -> Found:
    """Compare the counts of sets, their coverage and what they missed."""
    coverage, counts = report["coverage"], [t for t in report["tested_sets"] if t["scans"]]
    text = seen.first_sheet
    stated = re.search(r"In tests these sets held the true class of (.*?) scans\. They (are|were) set", text)
    promise = re.findall(
        rf"set to contain the true class in at least ({SHARE}) % of the scans of each class", text
    )
    if len(promise) != 1 or not states(promise[0], coverage):
        yield f"the coverage is written as {promise}, it is {coverage}"
    wanted = [f"{t['held']} of {t['scans']} {' '.join(t['name'].split())}" for t in counts]
    if (stated[1] if stated else "") != ", ".join(wanted):
        yield f"the counts of the sets are {wanted}, the page has {stated and stated[1]}"
    if not counts and "was not tested" not in text:
        yield "the page promises a coverage that was not measured"
    none = re.search(r"No test scan was of (.*?)\.(?: |$)", text)
    missing = [c["name"] for c in report["classes"] if c["name"] not in {t["name"] for t in counts}]
    named = re.split(r", | or ", none[1]) if none else []
    if named != [" ".join(n.split()) for n in missing if counts]:
        yield f"classes without test scans are {missing}, the page names {named}"
    ruled = re.search(r"Your clinic's prevalence rules out (.*?): no set contains it\.", text)
    absent = [" ".join(c["name"].split()) for c in report["classes"] if c["clinic_share"] == 0]
    if (re.split(r", | and ", ruled[1]) if ruled else []) != absent:
        yield f"the clinic has no {absent}, the page has {ruled and ruled[0]!r}"
    far = any(d["value"] > d["limit"] for d in report["distances"])
    if far != ("This scan is unlike the test scans" in text):
        yield "that the scan is unlike the test scans is not stated, or stated without need"
    missed = re.search(r"of the scans of each class: for (.*?) they did not\.", text)
    short = [t["name"] for t in counts if stats.binom.cdf(t["held"], t["scans"], coverage) < 0.025]
    named = re.split(r", | and ", missed[1]) if missed else []
    if named != [" ".join(n.split()) for n in short]:
        yield f"too seldom in the set: {short}, the page names {named}"


def likeness_agrees(seen: Seen, report: Mapping[str, Any]) -> Found:
    """Compare the counts of similar scans."""
    found, text = report["likeness"], seen.first_sheet
    stated = re.search(
        r"(?:Of (\d+) test scans?|(No) test scan) (?:with|had) a highest probability of "
        rf"({PERCENT.pattern})(?:, (\d+) w)?",
        text,
    )
    if (stated is None) != (found is None):
        yield f"similar scans are {found}, the page has {stated and stated[0]}"
    if stated is None or found is None:
        return
    counts = (int(stated[1] or 0), int(stated[6] or 0))
    if counts != (found["count"], found["right"]) or not states_range(stated[3], found["low"], found["high"]):
        yield f"similar scans are {found}, the page has {stated[0]!r}"
    trained = max(c["probability"] for c in report["classes"])
    if not found["low"] - ROUNDING <= trained <= found["high"] + ROUNDING:
        yield f"the scan's {trained} is not among {found['low']} to {found['high']}"
    where = re.search(
        rf"where the highest probability of this scan is ({SHARE}) % \((.*?)\)\. (?:Of|No)", text
    )
    if bool(where) != is_clinic(report):
        yield "the prevalence of the tests is not stated, or stated without need"
    elif where and (
        not states(where[1], trained)
        or where[2] not in {" ".join(n.split()) for n in likeliest(report, "probability")}
    ):
        yield f"at the prevalence of training the page has {where[0]!r}"


def range_agrees(seen: Seen, report: Mapping[str, Any]) -> Found:
    """Compare factor, networks and limits of the plausible range."""
    factor, split = report["range_factor"], report["uncertainty"]
    stated = re.search(
        r"(?:widened|narrowed) by a factor of (\d+(?:\.\d+)?)\. The factor was chosen on simulated scans",
        seen.whole,
    )
    if bool(stated) != (factor is not None) or (stated and abs(float(stated[1]) - factor) > 0.051):
        yield f"the factor of the range is {factor}, the page has {stated and stated[0]}"
    if factor is not None and ("widened" in seen.whole) != (factor >= 1):
        yield f"the range is not scaled as a factor of {factor} does"
    networks = {int(n) for n in re.findall(r"(\d+) networks", seen.whole)}
    if networks != ({split["networks"]} if split else set()):
        yield f"the page speaks of {networks} networks, JSON {split}"
    if "It does not cover" not in seen.whole:
        yield "the page does not state what the range leaves out"
    if re.search(r"\binterval\b", seen.first_sheet):
        yield "the plausible range is called an interval"


_OWN_FIGURES = ("test-retest", "target region", "95 %", "geometric transfer matrix")
"""Sentences whose percentages are of other figures: visits, asymmetry, metrics, the correction for blur."""


def percentages_agrees(seen: Seen, report: Mapping[str, Any]) -> Found:
    """Find each percentage of a sentence among the figures of the page."""
    keys = ("probability", "lower", "upper", "shown", "trained_share", "clinic_share")
    figures = [c[key] for c in report["classes"] for key in keys if c[key] is not None]
    figures += [report[key] for key in ("coverage", "confidence", "operating_point")]
    figures += [report["likeness"][key] for key in ("low", "high")] if report["likeness"] else []
    quality = {plain(f["message"]) for f in report["findings"]}
    own = {plain(line) for line in report["model"]["where_it_fails"]}
    for sentence in seen.sentences:
        if any(words in sentence for words in _OWN_FIGURES) or plain(sentence) in quality | own:
            continue
        for found in PERCENT.finditer(sentence):
            for text in filter(None, found.groups()):
                if not any(states(text, figure) for figure in figures):
                    yield f"{text} % is no figure of the page: {sentence}"


def study_agrees(report: Mapping[str, Any], results: Mapping[str, Any]) -> Found:
    """Compare the counts of tests with those of the study's results."""
    counts = {t["name"]: [t["held"], t["scans"]] for t in report["tested_sets"]}
    measured = {name: list(pair) for name, pair in results["coverage"].items()}
    if counts != measured:
        yield f"the page counts {counts}, the study {measured}"
    mine = report["likeness"]
    rows = [[low, high, n, right] for low, high, n, right in results["likeness"]]
    if mine and [mine["low"], mine["high"], mine["count"], mine["right"]] not in rows:
        yield f"the page has {mine}, the study {rows}"
