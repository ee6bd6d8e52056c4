"""Whether tables and sentences of a comparison's page agree with the figures of its JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from page_cells import NUMBER, Found, cell_agrees, is_written, metrics_agree, one_line, table_with, tables_of
from page_seen import text_of

from pipeline.evaluation.metrics import metric_named

_OPENINGS = {"better": "better than", "worse": "worse than", "not significant": "not significantly different"}


def comparison_contradictions(html: str, report: Mapping[str, Any]) -> list[str]:
    """Return every contradiction of the page of a comparison with its JSON."""
    found: list[str] = []
    stages = {stage["name"]: {loss["name"]: loss for loss in stage["losses"]} for stage in report["stages"]}
    for name, losses in stages.items():
        for label in ("Metrics", "Further metrics"):
            found += metrics_agree(tables_of(_labelled(html, f"{label}, {name};")), "Loss", losses)
        found += _differences(
            tables_of(_labelled(html, f"Differences to {report['baseline']}, {name};")), losses
        )
        for loss in losses.values():
            found += _sentence(loss)
    for stage in report["stages"]:
        for shares, losses in (stage.get("tests") or {}).items():
            shown = tables_of(_labelled(html, f"Test, {shares}, {stage['name']};"))
            found += _test_at_shares(shown[0] if shown else ((),), losses)
    style, summary = re.search(r'<div class="decision (\w+)">(.*?)</div>', html, re.DOTALL).groups()
    none = any(caution.startswith("This is no comparison") for caution in report["cautions"])
    if none != (style == "refer") or none != ("This is no comparison" in summary):
        found.append(f"the summary is drawn as {style}, the cautions are {report['cautions']}")
    last = report["stages"][-1]
    sentences = last.get("summary") or [loss["sentence"] for loss in last["losses"]]
    wanted = [one_line(sentence) for sentence in sentences]
    stated = [one_line(text_of(item)) for item in re.findall(r"<li>(.*?)</li>", summary, re.DOTALL)]
    if stated != wanted:
        found.append(f"the summary has {stated}, the last stage {wanted}")
    return [*found, *_shared(stated, last["losses"])]


def _shared(stated: Sequence[str], losses: Sequence[Mapping[str, Any]]) -> Found:
    """Hold sentences that losses share: every loss is in one sentence, and none of theirs is significant."""
    shared = [sentence for sentence in stated if sentence.startswith("No significant difference")]
    without = [loss for loss in losses if one_line(loss["sentence"]) not in stated]
    named = [
        name for s in shared for name in re.split(r", | and ", s.rpartition(": ")[2].rpartition(" (")[0])
    ]
    if sorted(named) != sorted(one_line(loss["name"]) for loss in without):
        yield f"the sentences {shared} name {named}, without one of their own are {without}"
    for sentence in shared:
        mine = [loss for loss in without if one_line(loss["name"]) in sentence]
        verdicts = {d["verdict"] for loss in mine for d in loss["difference"].values()}
        if verdicts != {"not significant"}:
            yield f"{sentence} The verdicts are {verdicts}"
        for least, most, unit in _POWERS.findall(sentence):
            power = [d["detectable"] for loss in mine for d in loss["difference"].values() if d["detectable"]]
            scale = 100 if unit else 1
            for end in filter(None, (least, most)):
                if not any(f"{scale * value:.2g}" == end for value in power):
                    yield f"{sentence} No loss has a power of {end}"


_POWERS = re.compile(rf"80 % power for ({NUMBER})(?: to ({NUMBER}))?( points)?")


def _labelled(html: str, label: str) -> str:
    parts = html.split('aria-label="')[1:]
    return "".join(p.partition("</table>")[0] + "</table>" for p in parts if text_of(p).startswith(label))


_DIFFERENCE = re.compile(
    rf"(?P<value>{NUMBER})(?P<unit> points)?( (?P<verdict>better|worse))? "
    rf"(?P<low>{NUMBER}) to (?P<high>{NUMBER}) p (?:= (?P<p>{NUMBER})|< 0\.001)"
    rf"(?: 80 % power: (?P<power>{NUMBER})(?: points)?)?"
)


def _test_at_shares(rows: Sequence[tuple[str, ...]], losses: Sequence[Mapping[str, Any]]) -> Found:
    """Hold value and difference of each loss and metric at other class shares against the JSON."""
    if [row[0] for row in rows[1:]] != [one_line(loss["name"]) for loss in losses]:
        yield f"a test at other class shares has rows {[row[0] for row in rows[1:]]}"
        return
    for row, loss in zip(rows[1:], losses, strict=True):
        for place, metric in ((1, "negative_log_likelihood"), (3, "accuracy")):
            if not cell_agrees(row[place], loss["metrics"].get(metric)):
                yield f"{row[0]}: {metric} is not {row[place]}"
            known, stated = loss["difference"].get(metric), row[place + 1]
            read = _DIFFERENCE.fullmatch(stated)
            if (
                stated != "\u2013"
                if known is None
                else read is None or not _is_difference(read, known, metric)
            ):
                yield f"{row[0]}: the difference in {metric} is not {stated}"


def _differences(tables: Sequence[Any], losses: Mapping[str, Mapping[str, Any]]) -> Found:
    """Hold each difference against the one of its loss and column."""
    by_name = {one_line(name): loss for name, loss in losses.items()}
    for row in table_with(tables, "Loss"):
        known = by_name[row["Loss"]]["difference"]
        by_title = {one_line(metric_named(m).heading): (m, d) for m, d in known.items()}
        for title, cell in row.items():
            if title == "Loss" or (cell == "\u2013" and title not in by_title):
                continue
            read, (metric, of) = _DIFFERENCE.fullmatch(cell), by_title.get(title, ("", None))
            if read is None or of is None or not _is_difference(read, of, metric):
                yield f"{row['Loss']}, {title}: {cell} is no difference of this loss"


def _is_difference(read: re.Match[str], known: Mapping[str, Any], metric: str) -> bool:
    """Compare a cell with its difference; of a metric in percent it is in percentage points."""
    verdict = known["verdict"] if known["verdict"] in ("better", "worse") else None
    scale = 100 if metric_named(metric).percent else 1
    return (
        all(is_written(read[name], scale * known[name]) for name in ("value", "low", "high"))
        and (read["unit"] is not None) == (scale == 100)
        and read["verdict"] == verdict
        and (known["p"] < 0.001 if read["p"] is None else is_written(read["p"], known["p"]))
        and (bool(verdict) or not known["detectable"]) == (read["power"] is None)
        and (read["power"] is None or is_written(read["power"], scale * known["detectable"]))
    )


def _sentence(loss: Mapping[str, Any]) -> Found:
    """Hold the sentence of a loss against its differences: every number, and as many verdicts as it names."""
    own, text = loss["difference"].values(), one_line(loss["sentence"])
    if not any(opening in text for opening in _OPENINGS.values()):
        return
    for verdict, opening in _OPENINGS.items():
        named = any(d["verdict"] == verdict for d in own)
        if named != (opening in text):
            yield f"{text} The verdicts are {[d['verdict'] for d in own]}"
    for read in re.finditer(rf"\(({NUMBER})( points)? \[({NUMBER}), ({NUMBER})\], p", text):
        scale, ends = 100 if read[2] else 1, ((1, "value"), (3, "low"), (4, "high"))
        if not any(all(is_written(read[n], scale * d[k]) for n, k in ends) for d in own):
            yield f"{text} The differences are {list(own)}"
