"""Whether the page of a scan contradicts itself, its JSON or the results of the study."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

from page_seen import ROUNDING, SHARE, Seen, is_clinic, likeliest, phrase, plain, see, states, states_range
from page_tested import likeness_agrees, percentages_agrees, range_agrees, study_agrees, tested_agrees

Found = Iterator[str]
_JARGON = ("Mahalanobis", "energy", "conformal", "entropy", "percentile")
_TAU = {"negative": "Tau-negative", "uncertain": "Tau status uncertain", "positive": "Tau-positive"}
_LOBES = {"Temporal": "lateral temporal", "Cingulate and insula": "cingulate/insula"}
_VERDICTS = {
    "report": "Finding of the model",
    "refer": "The model gives no finding",
    "refused": "The model was not applied",
}


def contradictions(
    html: str, report: Mapping[str, Any], results: Mapping[str, Any] | None = None
) -> list[str]:
    """Return every contradiction of a page with itself, its JSON and, where given, the study's results.

    Parameters
    ----------
    html : str
        The page of a scan.
    report : mapping
        What its ``report.json`` holds.
    results : mapping, optional
        What the study's ``results.json`` holds.
    """
    seen = see(html)
    found = [*_decision(seen, report), *_tau(seen, report), *_minus_signs(seen, report)]
    if report["verdict"] == "refused":
        found += ["a refused scan has bars"] * bool(seen.bars) + ["a refused scan has a set"] * bool(
            report["classes"]
        )
        return found
    own = (_bars, _set, _headline, _checks, _clinic)
    for check in (*own, tested_agrees, likeness_agrees, range_agrees, percentages_agrees):
        found += check(seen, report)
    if results is not None:
        found += study_agrees(report, results)
    return found


def _minus_signs(seen: Seen, report: Mapping[str, Any]) -> Found:
    """Look for hyphens in the sentences of quality control; what a header states stays as it is."""
    for message in (f["message"] for f in report["findings"]):
        if re.search(r"\w.*[\s(]-\.?\d", message) and " ".join(message.split()) in seen.whole:
            yield f"a negative number has a hyphen for a minus: {message}"


def _tau(seen: Seen, report: Mapping[str, Any]) -> Found:
    """Compare the first line with the meta-ROI, the thresholds and the z-scores of the regions."""
    tau = report["tau"]
    if tau is None or report["verdict"] == "refused":
        if seen.tau:
            yield "a page without a tau status has its box"
        return
    suvr, low, high = tau["suvr"], tau["uncertain_from"], tau["positive_from"]
    status = "negative" if suvr < low else "positive" if suvr >= high else "uncertain"
    title, text = seen.tau[1], " ".join(seen.tau)
    if status != tau["status"] or not title.startswith(_TAU[status]):
        yield f"the first line reads {title!r}, the meta-ROI {suvr} is {status}"
    written = re.search(r"temporal meta-ROI is ([\d.]+),", text)
    if written is None or abs(float(written[1]) - suvr) > 0.5 * 10 ** -len(written[1].partition(".")[2]):
        yield f"the meta-ROI is {suvr}, the first line writes {written and written[1]}"
    if "%" in text:
        yield "a probability is in the box that no model has part in"
    if seen.whole.index(title) > seen.whole.index(report["headline"].replace("\u00a0", " ")):
        yield "the tau status comes after the finding of the model"
    for group in {r["group"] for r in report["regions"] if r["kind"] == "target"}:
        name = _LOBES.get(group, group.lower())
        for side in ("left", "right"):
            rows = [r for r in report["regions"] if r["kind"] == "target" and r["group"] == group]
            z = [r[f"z_{side}"] for r in rows if r["region"] != "hippocampus" and r[f"z_{side}"] is not None]
            raised = sum(value >= tau["region_z"] for value in z)
            if raised and not re.search(rf"{name} [^;.]*\b{side} {raised} of {len(z)}\b", text):
                yield f"{raised} of {len(z)} {name} regions on the {side} are raised, which is not written"
            place = re.search(rf"{name}\b[^;]* on (both sides|the left|the right)(;|$)", title)
            named = bool(place) and place[1] in ("both sides", f"the {side}")
            if named != bool(raised and 2 * raised >= len(z)):
                yield f"{raised} of {len(z)} {name} regions {side} are raised, the first line is {title!r}"


def _decision(seen: Seen, report: Mapping[str, Any]) -> Found:
    verdict = report["verdict"]
    if seen.verdict != verdict or seen.kicker != _VERDICTS[verdict]:
        yield f"the box is of {seen.verdict} ({seen.kicker}), the verdict {verdict}"
    if seen.headline != report["headline"].replace("\u00a0", " "):
        yield f"the headline is {seen.headline!r}, in JSON {report['headline']!r}"
    if (verdict == "report") == bool(report["reasons"]):
        yield f"the verdict is {verdict} with {len(report['reasons'])} reasons"
    shown, stored = [plain(r) for r in seen.reasons], [plain(r) for r in report["reasons"]]
    if len(shown) != len(stored) or not all(map(_says, shown, stored, repeat(report))):
        yield f"the reasons on the page are {shown}"
    if verdict == "report" and "most like" not in seen.headline.lower():
        yield f"a finding without a class: {seen.headline}"
    if verdict != "report" and "most like" in seen.first_sheet.lower().replace("most likely", ""):
        yield "a finding is given although the scan is not reported"
    for word in _JARGON:
        if word.lower() in seen.first_sheet.lower():
            yield f"the first sheet has the word {word}"


def _says(shown: str, stored: str, report: Mapping[str, Any]) -> bool:
    """Whether a reason on the first page is the stored one, or states it without the numbers.

    The numbers are in the table of checks, which `_checks` compares.
    """
    if shown == stored:
        return stored == "" or not re.match(r"the (highest probability,|\d+ % prediction set)", stored)
    if re.match(r"the highest probability, [\d.]+ %, is below [\d.]+ %", stored):
        return "likely enough" in shown and not re.search(r"\d", shown)
    if re.match(r"the \d+ % prediction set contains more than", stored):
        return all(name.lower() in shown for name in report["prediction_set"]) and "not decide" in shown
    return False


def _bars(seen: Seen, report: Mapping[str, Any]) -> Found:
    classes = report["classes"]
    if [b.name for b in seen.bars] != [" ".join(c["name"].split()) for c in classes]:
        yield f"bars of {[b.name for b in seen.bars]}, classes {[c['name'] for c in classes]}"
        return
    for bar, c in zip(seen.bars, classes, strict=True):
        low, shown, high = c["lower"], c["shown"], c["upper"]
        if not low <= shown <= high:
            yield f"{bar.name}: {shown} is outside {low} to {high}"
        if not states(bar.value.removesuffix(" %"), shown) or not states_range(bar.range, low, high):
            yield f"{bar.name}: the page has {bar.value} ({bar.range}), JSON {shown} ({low} to {high})"
        drawn = ((bar.line, shown), (bar.low, low), (bar.high, high))
        if any(abs(x - 100 * share) > 0.2 for x, share in drawn):
            yield f"{bar.name}: drawn at {bar.low} {bar.line} {bar.high}, JSON {low} {shown} {high}"
        if bar.label != f"{bar.name}: {bar.value}, plausible range {bar.range}":
            yield f"{bar.name}: the label of the bar is {bar.label!r}"
        if bar.blue != c["in_set"] or c["in_set"] != (c["name"] in report["prediction_set"]):
            yield f"{bar.name}: blue {bar.blue}, in the set {c['in_set']}"
    if seen.axis != "0 % 50 % 100 %":
        yield f"the axis of the bars reads {seen.axis}"
    total = sum(c["shown"] for c in classes)
    if abs(total - 1) > ROUNDING:
        yield f"the bars sum to {total}"
    if abs(report["confidence"] - max(c["shown"] for c in classes)) > ROUNDING:
        yield f"the confidence is {report['confidence']}, not that of the largest bar"


def _set(seen: Seen, report: Mapping[str, Any]) -> Found:
    names = [c["name"] for c in report["classes"] if c["in_set"]]
    if not set(likeliest(report)) & set(names):
        yield f"the most likely class {likeliest(report)} is outside the set {names}"
    if f"Prediction set: {' '.join(phrase(names).split())}. " not in seen.first_sheet:
        yield f"the page does not state the set {phrase(names)}"
    if report["verdict"] == "report":
        wanted = (
            "No other class is in the prediction set."
            if len(names) == 1
            else f"The prediction set is {' '.join(phrase(names).split())}: the model does not decide"
        )
        if not seen.finding.startswith(wanted):
            yield f"the set is {names}, the finding {seen.finding!r}"
    least = min((c["shown"] for c in report["classes"] if c["in_set"]), default=1)
    unusual = [c["name"] for c in report["classes"] if not c["in_set"] and c["shown"] > least]
    explained = re.compile(
        r"(.+) (?:is|are) outside the set although (?:it is|they are) more likely than a class inside: each "
        r"class has a threshold of its own\."
    )
    stated = next(filter(None, map(explained.fullmatch, seen.sentences)), None)
    if (re.split(r", | and ", stated[1]) if stated else []) != [" ".join(n.split()) for n in unusual]:
        yield f"outside the set and yet more likely are {unusual}, the page explains {stated and stated[1]}"


def _headline(seen: Seen, report: Mapping[str, Any]) -> Found:
    if report["verdict"] != "report":
        return
    found = re.fullmatch(
        r"Most like (?P<name>.+) \((?P<value>[^,]+?)(?P<clinic> at your clinic's prevalence)?, "
        r"plausible range (?P<range>[^)]+)\)(?:\. The scan may also be (?P<others>.+)\.)?",
        seen.headline,
    )
    bar = next((b for b in seen.bars if found and b.name == found["name"]), None)
    if found is None or bar is None:
        yield f"the headline names no class of the page: {seen.headline}"
        return
    if bar.line < max(b.line for b in seen.bars):
        yield f"the headline's class {bar.name} is not the largest bar"
    if (bar.value, bar.range) != (found["value"], found["range"]):
        yield f"the headline has {found['value']} ({found['range']}), the bar {bar.value} ({bar.range})"
    others = [b.name for b in seen.bars if b.blue and b is not bar]
    if (found["others"] or "") != phrase(others or [""]):
        yield f"the headline leaves open {found['others']}, the set {others}"
    if bool(found["clinic"]) != is_clinic(report):
        yield "the headline names the wrong prevalence"


def _checks(seen: Seen, report: Mapping[str, Any]) -> Found:
    own = {
        "Quality control": report["quality"] == "pass",
        "Confidence": report["confidence"] >= report["operating_point"],
        "Classes in the prediction set": 0 < len(report["prediction_set"]) <= report["largest_set"],
        **{d["label"]: d["value"] <= d["limit"] for d in report["distances"]},
    }
    if all(own.values()) != (report["verdict"] == "report"):
        yield f"the verdict is {report['verdict']}, the checks {own}"
    for (name, value, limit, verdict), (key, fine) in zip(seen.checks, own.items(), strict=True):
        if not name.startswith(key) or verdict != ("pass" if fine else "refer"):
            yield f"the check {name} states {verdict}, expected {key}: {fine}"
        if not _agrees(value, limit, verdict):
            yield f"{name}: {value}, {limit}, yet {verdict}"
    figures = {row[0].partition(":")[0]: row[1:3] for row in seen.checks}
    confidence, point = figures["Confidence"]
    never = point == "none: no finding for any scan"
    if never != (report["confidence"] < 1 <= report["operating_point"]):
        yield f"the least confidence is written as {point}, it is {report['operating_point']}"
    limit = point.removeprefix("at least ").removesuffix(" %")
    if not states(confidence.removesuffix(" %"), report["confidence"]) or not (
        never or states(limit, report["operating_point"])
    ):
        yield f"the confidence is written as {confidence}, {point}"
    if is_clinic(report) != (seen.checks[1][0].endswith("at your clinic's prevalence")):
        yield f"the prevalence of the confidence is written as {seen.checks[1][0]}"
    if is_clinic(report) != ("prediction set of this scan are at your clinic's prevalence" in seen.whole):
        yield "the footnote of the checks names the wrong prevalence"
    expected = (str(len(report["prediction_set"])), f"at most {report['largest_set']}")
    if figures["Classes in the prediction set"] != expected:
        yield f"the size of the set is written as {figures['Classes in the prediction set']}"


def _agrees(value: str, limit: str, verdict: str) -> bool:
    """Return whether the written figures, as rounded, lead to the written verdict."""
    bound = re.fullmatch(r"(at least|at most) (.+)", limit)
    if bound is None:
        return (value == limit) == (verdict == "pass")
    size, edge = (float(re.sub(r"[<>% ,]", "", t).replace("\u2212", "-")) for t in (value, bound[2]))
    passes = size >= edge if bound[1] == "at least" else size <= edge
    return passes == (verdict == "pass")


def _clinic(seen: Seen, report: Mapping[str, Any]) -> Found:
    clinic = is_clinic(report)
    if clinic != ("at your clinic's prevalence" in seen.heading):
        yield f"the bars are headed {seen.heading!r}"
    assumed = re.search(
        r"Assumes the prevalence among the training scans: (.*)\.",
        " ".join(s for s in seen.sentences if "Assumes" in s),
    )
    if not clinic:
        shares = assumed[1].split(", ") if assumed else []
        wanted = [(c["name"], c["trained_share"]) for c in report["classes"]]
        stated = [tuple(s.removesuffix(" %").rsplit(" ", 1)) for s in shares]
        if len(stated) != len(wanted) or any(
            s[0] != " ".join(n.split()) or not states(s[1], share)
            for s, (n, share) in zip(stated, wanted, strict=True)
        ):
            yield f"the prevalence of training is written as {shares}"
        if any(c["shown"] != c["probability"] for c in report["classes"]):
            yield "what is shown is not at the prevalence of training"
        return
    weights = [c["probability"] * c["clinic_share"] / c["trained_share"] for c in report["classes"]]
    for c, weight in zip(report["classes"], weights, strict=True):
        if c["shown"] != c["clinic_probability"] or abs(c["shown"] - weight / sum(weights)) > 1e-4:
            yield f"{c['name']}: {c['shown']} is not the probability at the clinic, {weight / sum(weights)}"
    cell = re.compile(rf"({SHARE}) % where ({SHARE}) % are (.+)")
    for row, c in zip(seen.clinic_table[1:], report["classes"], strict=True):
        cells = [cell.fullmatch(text) for text in row[1:]]
        wanted = ((c["shown"], c["clinic_share"]), (c["probability"], c["trained_share"]))
        name = " ".join(c["name"].split())
        right = row[0] == name and all(
            found is not None and found[3] == name and states(found[1], p) and states(found[2], share)
            for found, (p, share) in zip(cells, wanted, strict=True)
        )
        if not right:
            yield f"the table of both prevalences has {row} for {wanted}"


def contradictions_in(folder: Path, results: Path | None = None) -> list[str]:
    """Return the contradictions of every scan's page below a folder, by the name of its folder."""
    study = None if results is None else json.loads(results.read_text())
    found = []
    for page in sorted(folder.rglob("report.html")):
        report = json.loads(page.with_name("report.json").read_text())
        found += [f"{page.parent.name}: {line}" for line in contradictions(page.read_text(), report, study)]
    return found
