"""Whether tables and sentences of a study's or a comparison's page agree with the figures of its JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from page_seen import rows_of, states, text_of
from scipy import stats

Found = Iterator[str]
_NUMBER = r"[-+\u2212]?\d+(?:\.\d+)?"
_CELL = re.compile(rf"({_NUMBER})( %)? ({_NUMBER}) to ({_NUMBER})(?: noise ({_NUMBER})(?: %)?)?")
_OPENINGS = {"better": "better than", "worse": "worse than", "not significant": "not significantly different"}


def study_contradictions(html: str, report: Mapping[str, Any]) -> list[str]:
    """Return every contradiction of the page of a study with its JSON."""
    tables = _tables(html)
    found = [*_metrics(tables, "Source of the probabilities", {r["name"]: r for r in report["metrics"]})]
    for check in (_conclusion, _gains, _candidates, _coverage, _decided, _plausible, _slopes, _parts):
        found += check(text_of(html), tables, report)
    return found


def comparison_contradictions(html: str, report: Mapping[str, Any]) -> list[str]:
    """Return every contradiction of the page of a comparison with its JSON."""
    found: list[str] = []
    stages = {stage["name"]: {loss["name"]: loss for loss in stage["losses"]} for stage in report["stages"]}
    for name, losses in stages.items():
        for label in ("Metrics", "Further metrics"):
            found += _metrics(_tables(_labelled(html, f"{label}, {name};")), "Loss", losses)
        found += _differences(
            _tables(_labelled(html, f"Differences to {report['baseline']}, {name};")), losses
        )
        for loss in losses.values():
            found += _sentence(loss)
    for stage in report["stages"]:
        for shares, losses in (stage.get("tests") or {}).items():
            shown = _tables(_labelled(html, f"Test, {shares}, {stage['name']};"))
            found += _test_at_shares(shown[0] if shown else ((),), losses)
    summary = html[html.index('<div class="decision report">') :].partition("</div>")[0]
    last = [_one_line(loss["sentence"]) for loss in report["stages"][-1]["losses"]]
    stated = [_one_line(text_of(item)) for item in re.findall(r"<li>(.*?)</li>", summary, re.DOTALL)]
    return found + [f"the summary has {stated}, the last stage {last}"] * (stated != last)


def _one_line(text: str) -> str:
    return " ".join(text.replace("\u00a0", " ").replace("−", "-").split())


def _labelled(html: str, label: str) -> str:
    parts = html.split('aria-label="')[1:]
    return "".join(p.partition("</table>")[0] + "</table>" for p in parts if text_of(p).startswith(label))


def _tables(html: str) -> list[tuple[tuple[str, ...], ...]]:
    return [rows for t in re.findall(r"<table.*?</table>", html, re.DOTALL) if (rows := rows_of(t))]


def _table(tables: Sequence[tuple[tuple[str, ...], ...]], *first: str) -> list[dict[str, str]]:
    """Return the rows of the table with these first headings, by heading."""
    of = next((t for t in tables if t[0][: len(first)] == first), ((),))
    return [dict(zip(of[0], row, strict=False)) for row in of[1:]]


def _is(text: str, value: float) -> bool:
    """Return whether a written number is a value, to the digits it has."""
    return abs(float(text.replace("\u2212", "-")) - value) <= 0.5001 * 10.0 ** -len(text.partition(".")[2])


def _agrees(cell: str, found: Mapping[str, float] | None, noise: float | None = None) -> bool:
    if found is None:
        return cell == "\u2013"
    read = _CELL.fullmatch(cell)
    if read is None:
        return False
    scale = 100 if read[2] else 1
    same = all(
        _is(t, scale * found[k]) for t, k in zip(read.group(1, 3, 4), ("value", "low", "high"), strict=True)
    )
    return same and (read[5] is None) == (noise is None) and (noise is None or _is(read[5], scale * noise))


def _metrics(
    tables: Sequence[tuple[tuple[str, ...], ...]], heading: str, rows: Mapping[str, Mapping[str, Any]]
) -> Found:
    """Hold each cell of a table of metrics against one metric of its row, no metric twice."""
    by_name = {_one_line(name): row for name, row in rows.items()}
    for row in _table(tables, heading):
        known = by_name.get(row[heading])
        if known is None:
            yield f"a row of metrics is of {row[heading]}"
            continue
        for title, cell in row.items():
            if title in (heading, "Seeds") or (cell == "\u2013"):
                continue
            noise = known.get("noise", {})
            if not any(_agrees(cell, m, noise.get(name)) for name, m in known["metrics"].items()):
                yield f"{row[heading]}, {title}: {cell} is no metric of this row"


def _conclusion(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    gain = report["gain"].get("negative_log_likelihood")
    stated = re.search(
        rf"Calibration (lowered|made|did not)[^:]*: difference ({_NUMBER}) \(({_NUMBER}) to ({_NUMBER})\)",
        text,
    )
    if (gain is None or report["chosen"] == "identity") != (stated is None):
        yield f"the conclusion is {stated and stated[0]}, the difference {gain}"
    if stated is None or gain is None:
        return
    verb = "lowered" if gain["high"] < 0 else "made" if gain["low"] > 0 else "did not"
    if stated[1] != verb or not all(
        _is(stated[n], gain[k]) for n, k in ((2, "value"), (3, "low"), (4, "high"))
    ):
        yield f"the conclusion is {stated[0]}, the difference {gain}"


def _gains(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    """Hold each row of the paired differences against the metric of its place."""
    rows = _table(tables, "Metric", "Difference")
    if not rows:
        return
    if len(rows) != len(report["gain"]):
        yield f"{len(rows)} differences are shown, the JSON has {len(report['gain'])}"
    for row, gain in zip(rows, report["gain"].values(), strict=False):
        stated = f"{row['Difference']} {row['95 % interval']}"
        if not _agrees(stated, gain):
            yield f"the difference in {row['Metric']} is {stated}, in JSON {gain}"


def _candidates(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    rows, known = _table(tables, "Calibrator"), report["selection"]
    if [r["Calibrator"] for r in rows] != [c["name"] for c in known]:
        yield f"the candidates are {[c['name'] for c in known]}, the page has {rows}"
        return
    for row, candidate in zip(rows, known, strict=True):
        nll = re.fullmatch(rf"({_NUMBER}) \(({_NUMBER})\)", row["NLL (standard error)"])
        if not nll or not (_is(nll[1], candidate["nll"]) and _is(nll[2], candidate["nll_se"])):
            yield f"{candidate['name']}: NLL {row['NLL (standard error)']}, in JSON {candidate['nll']}"
        if (row.get("") == "chosen") != (candidate["name"] == report["chosen"]):
            yield f"{candidate['name']}: {row.get('')!r}, chosen is {report['chosen']}"


def _coverage(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    rows = _table(tables, "Class", "Sets with the diagnosis")
    if [r["Class"] for r in rows] != [c["name"] for c in report["coverage"]]:
        yield f"coverage is stated of {[r['Class'] for r in rows]}"
        return
    for row, c in zip(rows, report["coverage"], strict=True):
        counts = (row["Sets with the diagnosis"], row["Test scans"])
        share = row["Share"].removesuffix(" %")
        right = share == "\u2013" if not c["scans"] else states(share, c["covered"] / c["scans"])
        if counts != (str(c["covered"]), str(c["scans"])) or not right:
            yield f"{c['name']}: {row}, counted {c['covered']} of {c['scans']}"


def _decided(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    d, scans = report["decided"], report["test_scans"]
    sizes = re.search(
        rf"A set has ({_NUMBER}) classes on average\. (\d+) of (\d+) sets have more than (\d+): these scans "
        rf"are referred\.(?: Sets made .*? would have ({_NUMBER}) on average, and (\d+) of (\d+) would be)?",
        text,
    )
    given = re.search(r"(\d+) of (\d+) test scans get a finding; .*? in (\d+) of these (\d+)\.", text)
    none = f"none of the {scans} test scans gets a finding" in text
    if d is not None and none != (d["answered"] == 0):
        yield f"findings are {d}, the page states none: {none}"
    if d is None or sizes is None or (given is None) != none:
        yield from ["sets and findings are not stated"] if (d is None) != (sizes is None) else []
        return
    counts = (d["too_large"], scans, d["largest_set"])
    if not _is(sizes[1], d["mean_size"]) or sizes.group(2, 3, 4) != tuple(map(str, counts)):
        yield f"sets are {d}, the page has {sizes[0]}"
    if (sizes[5] is None) != (d["true_size"] is None) or (
        sizes[5] and (not _is(sizes[5], d["true_size"]) or sizes[6] != str(d["true_too_large"]))
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
    if (missed[1].split(", ") if missed else []) != low:
        yield f"too rarely held are {low}, the page names {missed and missed[1]}"
    promise = re.search(r"made to contain the diagnosis of (\S+) % of the scans", text)
    if promise is None or not states(promise[1], d["promised"]):
        yield f"the coverage is {d['promised']}, the page has {promise and promise[0]}"


def _plausible(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    rows, known = _table(tables, "Ranges of"), report["plausible"]
    if bool(rows) == (known is None) or (known is None) != ("Whether the plausible range" in text):
        yield f"plausible ranges are {known}, the page has {rows}"
    rare = "In this study the ranges hold it less often than in 80 % of the cases." in text
    if rare != (known is not None and min(known["held"], known["held_first"]) < 0.8):
        yield f"plausible ranges are {known}, that they fail is stated: {rare}"
    for row, kind in zip(rows, ("_first", ""), strict=False):
        held, width = row["Hold the true probability"].removesuffix(" %"), row["Mean width"].split()[0]
        if not states(held, known[f"held{kind}"]) or not _is(width, 100 * known[f"width{kind}"]):
            yield f"plausible ranges are {known}, the page has {row}"


def _slopes(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    rows = _table(tables, "Source of the probabilities", "Slope")
    if [r["Source of the probabilities"] for r in rows] != [_one_line(s["name"]) for s in report["slopes"]]:
        yield f"slopes are stated of {rows}"
        return
    for row, s in zip(rows, report["slopes"], strict=True):
        cells = [(row["Slope"], s["slope"])]
        cells += [(row[f"Intercept, {c}"], s["intercepts"].get(c)) for c in report["class_names"]]
        yield from (
            f"{s['name']}: {cell}, in JSON {found}" for cell, found in cells if not _agrees(cell, found)
        )


def _parts(text: str, tables: Sequence[Any], report: Mapping[str, Any]) -> Found:
    flow = report["flow"]
    if sum(sum(row) for row in report["confusion"]) != report["test_scans"]:
        yield f"the confusion does not hold {report['test_scans']} test scans"
    if flow["parts"]["test"][0] != report["test_scans"]:
        yield f"the flow has {flow['parts']['test'][0]} test scans, the page {report['test_scans']}"
    for row in _table(tables, "Part"):
        if (int(row["Scans"]), int(row["Subjects"])) != tuple(flow["parts"][row["Part"]]):
            yield f"the part {row['Part']} has {row}, the flow {flow['parts'][row['Part']]}"
    if report["cross_fitted"] != ("were dealt into folds" in text):
        yield "cross-fitting is not stated, or stated without need"


_DIFFERENCE = re.compile(
    rf"({_NUMBER})( better| worse)? ({_NUMBER}) to ({_NUMBER}) p (?:= ({_NUMBER})|< 0\.001)"
    rf"(?: 80 % power: ({_NUMBER}))?"
)


def _test_at_shares(rows: Sequence[tuple[str, ...]], losses: Sequence[Mapping[str, Any]]) -> Found:
    """Hold value and difference of each loss and metric at other class shares against the JSON."""
    if [row[0] for row in rows[1:]] != [_one_line(loss["name"]) for loss in losses]:
        yield f"a test at other class shares has rows {[row[0] for row in rows[1:]]}"
        return
    for row, loss in zip(rows[1:], losses, strict=True):
        for place, metric in ((1, "negative_log_likelihood"), (3, "accuracy")):
            if not _agrees(row[place], loss["metrics"].get(metric)):
                yield f"{row[0]}: {metric} is not {row[place]}"
            known, stated = loss["difference"].get(metric), row[place + 1]
            read = _DIFFERENCE.fullmatch(stated)
            if stated != "\u2013" if known is None else read is None or not _is_difference(read, known):
                yield f"{row[0]}: the difference in {metric} is not {stated}"


def _differences(tables: Sequence[Any], losses: Mapping[str, Mapping[str, Any]]) -> Found:
    by_name = {_one_line(name): loss for name, loss in losses.items()}
    for row in _table(tables, "Loss"):
        known = by_name[row["Loss"]]["difference"].values()
        for title, cell in row.items():
            read = _DIFFERENCE.fullmatch(cell)
            if title == "Loss" or cell == "\u2013":
                continue
            if read is None or not any(_is_difference(read, d) for d in known):
                yield f"{row['Loss']}, {title}: {cell} is no difference of this loss"


def _is_difference(read: re.Match[str], known: Mapping[str, Any]) -> bool:
    verdict = known["verdict"] if known["verdict"] in ("better", "worse") else ""
    return (
        all(_is(read[n], known[k]) for n, k in ((1, "value"), (3, "low"), (4, "high")))
        and (read[2] or "").strip() == verdict
        and (known["p"] < 0.001 if read[5] is None else _is(read[5], known["p"]))
        and (bool(verdict) or not known["detectable"]) == (read[6] is None)
        and (read[6] is None or _is(read[6], known["detectable"]))
    )


def _sentence(loss: Mapping[str, Any]) -> Found:
    """Hold the sentence of a loss against its differences: every number, and as many verdicts as it names."""
    own, text = loss["difference"].values(), _one_line(loss["sentence"])
    if not any(opening in text for opening in _OPENINGS.values()):
        return
    for verdict, opening in _OPENINGS.items():
        named = any(d["verdict"] == verdict for d in own)
        if named != (opening in text):
            yield f"{text} The verdicts are {[d['verdict'] for d in own]}"
    for read in re.finditer(rf"\(({_NUMBER}) \[({_NUMBER}), ({_NUMBER})\], p", text):
        if not any(
            all(_is(t, d[k]) for t, k in zip(read.groups(), ("value", "low", "high"), strict=True))
            for d in own
        ):
            yield f"{text} The differences are {list(own)}"
