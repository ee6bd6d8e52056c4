"""A second SUVR, corrected for blur: beside the first, smaller, with its origin and error; never alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from page_check import contradictions

from pipeline.imaging.derivative import Normalised
from pipeline.imaging.partial_volume import Unblurred
from pipeline.reporting.scan.scan_build import MeasuredScan, build_scan_report
from pipeline.reporting.scan.scan_page import scan_page, scan_schema
from pipeline.reporting.scan.scan_sentences import corrected_sentence

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "RESULTS.md"


@pytest.fixture
def corrected(scan) -> MeasuredScan:
    """The scan, with every SUVR a fifth higher after correction, but for a cuneus that has none."""
    regions = scan.regions.assign(suvr=1.2 * scan.regions.suvr)
    regions.loc[regions.region == "cuneus", "suvr"] = np.nan
    return replace(scan, unblurred=Unblurred(regions, {"meta_roi": 1.5, "braak_1_2": np.nan}, 8.0))


def _html(report, suvr) -> str:
    return scan_page(report, suvr).html()


def _cells(html: str, title: str) -> list[str]:
    """Return the cells of a region's row."""
    (row,) = re.findall(rf'<tr[^>]*><th scope="row">{title}(?: ●)?</th>(.*?)</tr>', html, flags=re.DOTALL)
    return re.findall(r"<td[^>]*>(.*?)</td>", row)


def test_it_stands_smaller_beside_the_first(corrected, context, prediction, suvr):
    html = _html(build_scan_report(corrected, context, prediction), suvr)
    left, right, *others = _cells(html, "Precuneus")
    assert left == '2.50 <span class="range">3.00</span>'
    assert right.startswith("1.13 <span")
    assert "span" not in "".join(others)
    assert "span" not in _cells(html, "Cuneus")[0], "what could not be corrected has one number"
    assert '>1.25 <span class="range">1.50</span>' in html, "the meta-ROI too"


def test_one_sentence_states_its_origin_and_error(corrected, context, prediction, suvr):
    report = build_scan_report(corrected, context, prediction)
    sentence = corrected_sentence(report)
    assert sentence.count(". ") == 0
    assert "a blur of 8.0 mm by the geometric transfer matrix, without MRI" in sentence
    html = _html(report, suvr)
    assert html.count("geometric transfer matrix") == 1
    assert contradictions(html, report.model_dump(mode="json")) == []


def _measured() -> list[dict[str, float]]:
    """Return the rows of the corrected SUVR in RESULTS.md, in percent: four of real labels, then two."""
    section = RESULTS.read_text(encoding="utf-8").split("### Partial-volume correction")[1].split("\n### ")[0]
    cells = [[cell.strip(" %") for cell in line.split("|")[1:-1]] for line in section.splitlines()]
    rows = [row for row in cells if len(row) == 10 and row[2] == "corrected"]
    names = ("n", "meta mean", "meta abs", "meta worst", "targets mean", "targets abs", "nuclei")
    return [dict(zip(names, map(float, row[3:]), strict=True)) for row in rows]


def test_its_errors_are_those_that_were_measured(corrected, context, prediction):
    sentence = corrected_sentence(build_scan_report(corrected, context, prediction))
    assert sentence.startswith("The number in small print is"), "it may be the larger of the two"
    *real, thinned, _ = _measured()
    assert f"on {sum(row['n'] for row in real):.0f} scans painted onto the labels of real people" in sentence
    for key, words in (("targets abs", "in target regions"), ("meta abs", "in the meta-ROI")):
        low, high = (f(row[key] for row in real) for f in (min, max))
        assert f" {low:.0f} to {high:.0f} % {words}" in sentence
    assert f"read the meta-ROI {-thinned['meta mean']:.0f} % low" in sentence


def test_nothing_is_computed_from_it(corrected, scan, context, prediction):
    first, second = (build_scan_report(s, context, prediction) for s in (scan, corrected))
    without = {"pvc_resolution_mm", "regions", "composites"}
    assert second.model_dump(exclude=without) == first.model_dump(exclude=without)
    for one, other in zip(first.regions, second.regions, strict=True):
        assert other.model_copy(update={"pvc_left": None, "pvc_right": None, "pvc_both": None}) == one
    for a, b in zip(first.composites, second.composites, strict=True):
        assert b.model_copy(update={"suvr_pvc": None}) == a


def test_the_json_has_both(corrected, context, prediction):
    report = build_scan_report(corrected, context, prediction).model_dump(mode="json")
    jsonschema.validate(report, scan_schema())
    row = next(r for r in report["regions"] if r["region"] == "precuneus")
    assert (row["left"], row["pvc_left"]) == (2.5, 3.0)
    assert [c["suvr_pvc"] for c in report["composites"]] == [1.5, None]
    assert report["pvc_resolution_mm"] == 8.0


def test_without_it_the_page_has_one_number(scan, context, prediction, suvr):
    report = build_scan_report(scan, context, prediction)
    html = _html(report, suvr)
    assert corrected_sentence(report) == ""
    assert "geometric transfer matrix" not in html
    assert _cells(html, "Precuneus")[0] == "2.50"
    stored = json.loads(report.model_dump_json())
    assert {r["pvc_left"] for r in stored["regions"]} == {None}


def test_a_scan_brings_what_imaging_measured(scan, corrected):
    found = Normalised(None, scan.regions, scan.composites, (), None, corrected.unblurred)
    assert MeasuredScan.of("A7KD2M", "20310412", {}, found).unblurred is corrected.unblurred
    assert MeasuredScan.of("A7KD2M", "20310412", {}, None).unblurred is None


@pytest.mark.slow
def test_a_browser_shows_it_without_an_overflow(corrected, context, prediction, suvr, violations):
    assert violations(_html(build_scan_report(corrected, context, prediction), suvr)) == []
