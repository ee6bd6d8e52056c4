"""Whether tables and sentences of a study's page agree with the figures of its JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from page_cells import (
    NUMBER,
    Found,
    cell_agrees,
    is_change,
    is_written,
    metrics_agree,
    one_line,
    table_with,
    tables_of,
)
from page_seen import states, text_of
from scipy import stats

from models.names import CALIBRATOR_TITLES
from pipeline.evaluation.metrics import metric_named


def study_contradictions(html: str, report: Mapping[str, Any]) -> list[str]:
    """Return every contradiction of the page of a study with its JSON."""
    tables = tables_of(html)
    found = [*metrics_agree(tables, "Source of the probabilities", {r["name"]: r for r in report["metrics"]})]
    own = (_conclusion, _gains, _candidates, _coverage, _decided, _plausible, _slopes, _parts)
    for check in (*own, _levels, _few_scans, _confusion):
        found += check(text_of(html), tables, report)
    return found


_CONCLUSIONS = {
    "Calibration lowered": lambda gain: gain["high"] < 0,
    "Calibration raised": lambda gain: gain["low"] > 0,
    "Whether calibration changed": lambda gain: gain["low"] <= 0 <= gain["high"],
}


def _conclusion(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    gain = report["gain"].get("negative_log_likelihood")
    stated = re.search(
        rf"({'|'.join(_CONCLUSIONS)})[^:]*: difference ({NUMBER}) "
        rf"\(([\d.]+) % interval ({NUMBER}) to ({NUMBER})\)",
        text,
    )
    if (gain is None or report["chosen"] == "identity") != (stated is None):
        yield f"the conclusion is {stated and stated[0]}, the difference {gain}"
    if stated is None or gain is None:
        return
    numbers = ((2, gain["value"]), (3, 100 * report["level"]), (4, gain["low"]), (5, gain["high"]))
    if not _CONCLUSIONS[stated[1]](gain) or not all(is_written(stated[n], value) for n, value in numbers):
        yield f"the conclusion is {stated[0]}, the difference {gain}"


def _levels(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    """Hold the level that every bootstrap is said to have against the one it has."""
    for stated in re.findall(r"([\d.]+) % intervals from a bootstrap", text):
        if float(stated) != round(100 * report["level"], 6):
            yield f"intervals of {100 * report['level']:g} % are called {stated} %"


def _few_scans(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    """Hold what is stated of classes with few test scans, or none, against the confusion."""
    counts = dict(zip(report["class_names"], map(sum, report["confusion"]), strict=True))
    none = re.search(r"No test scan is of (.*?): nothing here shows", text)
    few = re.search(r"Few test scans are of (.*?): with fewer than 10", text)
    stated = re.split(r", | or ", none[1]) if none else []
    stated += re.split(r", | and ", few[1]) if few else []
    wanted = [name for name, n in counts.items() if not n]
    wanted += [f"{name} ({n})" for name, n in counts.items() if 0 < n < 10]
    if stated != list(map(one_line, wanted)):
        yield f"few or no scans are of {wanted}, the page names {stated}"


def _confusion(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    names = report["class_names"]
    rows = table_with(tables, "Diagnosis", *map(one_line, names))
    wanted = [
        (name, [f"{n} {f'{100 * n / sum(row):.0f} %' if sum(row) else '–'}" for n in row])
        for name, row in zip(names, report["confusion"], strict=True)
    ]
    stated = [
        (
            row["Diagnosis"],
            [row[one_line(n)].replace("<1 %", "0 %").replace(">99 %", "100 %") for n in names],
        )
        for row in rows
    ]
    if stated != [(one_line(name), cells) for name, cells in wanted]:
        yield f"the confusion is {wanted}, the page has {stated}"


def _gains(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    """Hold each row of the paired differences against the metric of its place, and its unit."""
    rows, interval = table_with(tables, "Metric", "Difference"), f"{100 * report['level']:g} % interval"
    if not rows:
        return
    if len(rows) != len(report["gain"]):
        yield f"{len(rows)} differences are shown, the JSON has {len(report['gain'])}"
    for row, (name, gain) in zip(rows, report["gain"].items(), strict=False):
        stated = f"{row['Difference']} {row[interval]}"
        if not is_change(stated, gain) or ("points" in stated) != metric_named(name).percent:
            yield f"the difference in {row['Metric']} is {stated}, in JSON {gain}"


def _candidates(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    rows, known = table_with(tables, "Calibrator"), report["selection"]
    if [r["Calibrator"] for r in rows] != [CALIBRATOR_TITLES[c["name"]] for c in known]:
        yield f"the candidates are {[c['name'] for c in known]}, the page has {rows}"
        return
    for row, candidate in zip(rows, known, strict=True):
        nll = re.fullmatch(rf"({NUMBER}) \(({NUMBER})\)", row["NLL (standard error)"])
        if not nll or not (is_written(nll[1], candidate["nll"]) and is_written(nll[2], candidate["nll_se"])):
            yield f"{candidate['name']}: NLL {row['NLL (standard error)']}, in JSON {candidate['nll']}"
        if (row.get("") == "chosen") != (candidate["name"] == report["chosen"]):
            yield f"{candidate['name']}: {row.get('')!r}, chosen is {report['chosen']}"


def _coverage(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    rows = table_with(tables, "Class", "Sets with the diagnosis")
    if [r["Class"] for r in rows] != [c["name"] for c in report["coverage"]]:
        yield f"coverage is stated of {[r['Class'] for r in rows]}"
        return
    for row, c in zip(rows, report["coverage"], strict=True):
        counts = (row["Sets with the diagnosis"], row["Test scans"])
        share = row["Share"].removesuffix(" %")
        right = share == row["95 % interval"] == "\u2013"
        if c["scans"]:  # only all is 100 %, only none is 0 %
            right = states(share, c["covered"] / c["scans"])
            right &= (share == "100") == (c["covered"] == c["scans"]) and (share == "0") == (not c["covered"])
        if counts != (str(c["covered"]), str(c["scans"])) or not right:
            yield f"{c['name']}: {row}, counted {c['covered']} of {c['scans']}"


def _decided(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    d, scans = report["decided"], report["test_scans"]
    sizes = re.search(
        rf"A set has ({NUMBER}) classes on average\. (?:(None|\d+) of (?:the )?(\d+) sets ha(?:s|ve) "
        rf"more than (\d+) class(?:es)?)(?:: th(?:is scan is|ese scans are) referred)?\."
        rf"(?: Sets made .*? would have ({NUMBER}) on average, and (\d+) of (\d+) would be)?",
        text,
    )
    given = re.search(r"(\d+) of (\d+) test scans get a finding; .*? in (\d+) of these (\d+)\.", text)
    none = f"none of the {scans} test scans gets a finding" in text
    if d is not None and none != (d["answered"] == 0):
        yield f"findings are {d}, the page states none: {none}"
    if d is None or sizes is None or (given is None) != none:
        yield from ["sets and findings are not stated"] if (d is None) != (sizes is None) else []
        return
    counts = (d["too_large"] or None, scans, d["largest_set"])
    if not is_written(sizes[1], d["mean_size"]) or sizes.group(2, 3, 4) != tuple(map(str, counts)):
        yield f"sets are {d}, the page has {sizes[0]}"
    if (sizes[5] is None) != (d["true_size"] is None) or (
        sizes[5] and (not is_written(sizes[5], d["true_size"]) or sizes[6] != str(d["true_too_large"]))
    ):
        yield f"sets of the true posterior are {d}, the page has {sizes[0]}"
    if given and given.groups() != tuple(map(str, (d["answered"], scans, d["right"], d["answered"]))):
        yield f"findings are {d}, the page has {given[0]}"
    if not 0 <= d["right"] <= d["answered"] <= scans - d["too_large"]:
        yield f"of {scans} scans {d['answered']} have a finding, {d['too_large']} sets are too large"
    missed = re.search(r"For ([^.]*?) they contain it less often than chance explains\.", text)
    low = [
        c["name"]
        for c in report["coverage"]
        if c["scans"] and stats.binom.cdf(c["covered"], c["scans"], d["promised"]) < 0.025
    ]
    if (re.split(r", | and ", missed[1]) if missed else []) != list(map(one_line, low)):
        yield f"too rarely held are {low}, the page names {missed and missed[1]}"
    promise = re.search(r"made to contain the diagnosis of (\S+) % of the scans", text)
    if promise is None or not states(promise[1], d["promised"]):
        yield f"the coverage is {d['promised']}, the page has {promise and promise[0]}"


def _plausible(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    rows, known = table_with(tables, "Ranges of"), report["plausible"]
    if bool(rows) == (known is None) or (known is None) != ("Whether the plausible range" in text):
        yield f"plausible ranges are {known}, the page has {rows}"
    rare = "In this study the ranges hold it less often than in 80 % of the cases." in text
    if rare != (known is not None and min(known["held"], known["held_first"]) < 0.8):
        yield f"plausible ranges are {known}, that they fail is stated: {rare}"
    for row, kind in zip(rows, ("_first", ""), strict=False):
        held, width = row["Hold the true probability"].removesuffix(" %"), row["Mean width"].split()[0]
        if not states(held, known[f"held{kind}"]) or not is_written(width, 100 * known[f"width{kind}"]):
            yield f"plausible ranges are {known}, the page has {row}"


def _slopes(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    rows = table_with(tables, "Source of the probabilities", "Slope")
    if [r["Source of the probabilities"] for r in rows] != [one_line(s["name"]) for s in report["slopes"]]:
        yield f"slopes are stated of {rows}"
        return
    for row, s in zip(rows, report["slopes"], strict=True):
        cells = [(row["Slope"], s["slope"])]
        cells += [(row[f"Intercept, {c}"], s["intercepts"].get(c)) for c in report["class_names"]]
        yield from (
            f"{s['name']}: {cell}, in JSON {found}" for cell, found in cells if not cell_agrees(cell, found)
        )


def _parts(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    flow = report["flow"]
    if sum(sum(row) for row in report["confusion"]) != report["test_scans"]:
        yield f"the confusion does not hold {report['test_scans']} test scans"
    if flow["parts"]["test"][0] != report["test_scans"]:
        yield f"the flow has {flow['parts']['test'][0]} test scans, the page {report['test_scans']}"
    for row in table_with(tables, "Part"):
        if (int(row["Scans"]), int(row["Subjects"])) != tuple(flow["parts"][row["Part"]]):
            yield f"the part {row['Part']} has {row}, the flow {flow['parts'][row['Part']]}"
    if report["cross_fitted"] != ("were divided into folds" in text):
        yield "cross-fitting is not stated, or stated without need"
