"""What a page of extreme numbers looks like: no number over another, none beyond its scale, no lost line."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from models.typical_scans import TypicalScan
from pipeline.errors import RefusedScan
from pipeline.reporting.page import pdf as pdf_module
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_numbers import Visit
from pipeline.reporting.scan.scan_page import scan_page, write_scan_report
from pipeline.reporting.scan.tau_status import TypicalTau

_OVERLAPS = """() => {
  const boxes = cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return [...range.getClientRects()];
  };
  const apart = (a, b) => a.right <= b.left + .5 || b.right <= a.left + .5
                          || a.bottom <= b.top + .5 || b.bottom <= a.top + .5;
  return [...document.querySelectorAll(".regions tr")].flatMap(row => {
    const cells = [...row.children];
    return cells.slice(1).filter((cell, n) =>
      boxes(cells[n]).some(a => boxes(cell).some(b => !apart(a, b)))).map(() => row.innerText);
  });
}"""


@pytest.fixture
def severe(scan):
    """A scan with uptake in every region, so that z-scores have three digits before or after the point."""
    regions = scan.regions.copy()
    target = (regions.kind == "target").to_numpy()
    regions.loc[target, "suvr"] = regions.loc[target, "suvr"] + np.resize([2.4, 1.3, 0.211], target.sum())
    return replace(scan, regions=regions, composites={"meta_roi": 3.19, "braak_1_2": 3.2})


@pytest.mark.parametrize("suvr", [0.62, 0.9, 1.25, 2.4, 2.51, 3.19, 5.0])
def test_the_strip_of_the_meta_roi_holds_the_value_wherever_it_lies(scan, context, prediction, suvr):
    report = build_scan_report(replace(scan, composites={"meta_roi": suvr}), context, prediction)
    strip = re.search(r'aria-label="Temporal meta-ROI.*?</p>', scan_page(report, None).html(), re.DOTALL)[0]
    ticks = [float(x) for x in re.findall(r"<span>([\d.]+)", strip)]
    line = float(re.search(r'<line x1="([\d.]+)%"[^>]*stroke="#1b2430"', strip)[1])
    assert ticks[0] + (ticks[-1] - ticks[0]) * line / 100 == pytest.approx(suvr, abs=0.001)
    assert np.diff(ticks) == pytest.approx(np.full(3, ticks[1] - ticks[0]))


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 820, 1280])
def test_no_number_of_a_region_lies_over_the_next(severe, context, prediction, tmp_path, browser, width):
    html = scan_page(build_scan_report(severe, context, prediction), None).html()
    assert re.search(r">\+\d\d\.\d<", html)
    (tmp_path / "page.html").write_text(html)
    page = browser.new_page(viewport={"width": width, "height": 900}, bypass_csp=True)
    page.goto((tmp_path / "page.html").as_uri())
    overlaps, wide = page.evaluate(_OVERLAPS), page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert overlaps == []
    assert wide == width


def test_the_last_line_of_the_first_page_is_not_alone(severe, context, at_clinic, two, suvr, tmp_path):
    if pdf_module.why_no_pdf() or not shutil.which("pdftotext"):
        pytest.skip("needs pango and pdftotext")
    places = []
    for count in (2, 3, 4):  # the page fills up line by line, until it runs over
        reasons = tuple(f"Check {n} was not passed" for n in range(count))
        found = replace(at_clinic(two, (0.3, 0.6, 0.1)), decision="refer", reasons=reasons)
        path = write_scan_report(build_scan_report(severe, context, found), suvr, tmp_path)["pdf"]
        text = subprocess.run(["pdftotext", path, "-"], capture_output=True, text=True, check=True).stdout
        pages = text.split("\f")
        places.append(next(n for n, page in enumerate(pages) if "A negative scan does not exclude" in page))
        assert "z = (this scan" in pages[places[-1]], f"with {count} reasons the last line stands alone"
    assert set(places) == {0, 1}, "the page did not run over, or always did"


@pytest.mark.parametrize("count", [1, 2])
def test_slices_fill_the_printed_page_of_the_cortex_and_stay_with_their_heading(
    scan, context, prediction, suvr, tmp_path, count
):
    if pdf_module.why_no_pdf() or not shutil.which("pdftotext"):
        pytest.skip("needs pango and pdftotext")
    typical = tuple(TypicalScan(status, suvr.array, 1.2, 21) for status in ("negative", "positive")[:count])
    named = tuple(TypicalTau(status=t.status, meta_roi=1.2, among=21, synthetic=True) for t in typical)
    shown = replace(context, model=context.model.model_copy(update={"typical_scans": named}))
    report = build_scan_report(scan, shown, prediction)
    path = write_scan_report(report, suvr, tmp_path, typical=typical)["pdf"]
    text = subprocess.run(["pdftotext", path, "-"], capture_output=True, text=True, check=True).stdout
    pictures = [page for page in text.split("\f") if "SUVR on the cortex" in page or "Axial slices" in page]
    assert len(pictures) == 2
    assert "this scan" in pictures[0].partition("Standard levels")[2]
    assert "Axial slices" in pictures[1]


def _printed_pages(path):
    if pdf_module.why_no_pdf() or not shutil.which("pdftotext"):
        pytest.skip("needs pango and pdftotext")
    text = subprocess.run(["pdftotext", path, "-"], capture_output=True, text=True, check=True).stdout
    return text.split("\f")[:-1]


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_printed_regions_stay_with_their_heading_however_many_visits_there_were(
    scan, context, prediction, suvr, tmp_path, count
):
    seen = Visit(label="visit", months=1, meta_roi=1.2, probability=0.5, lower=0.4, upper=0.6)
    visits = tuple(seen.model_copy(update={"months": 6.0 * n}) for n in range(count))
    report = build_scan_report(replace(scan, visits=visits), context, prediction)
    saliency = np.ones(suvr.array.shape)
    pages = _printed_pages(write_scan_report(report, suvr, tmp_path, saliency=saliency)["pdf"])
    (heading,) = (page for page in pages if "SUVR left and right" in page)
    assert "Precuneus" in heading
    assert ("Composite regions" in heading) == (count < 9), "a page is left nearly empty"


def test_the_printed_limits_of_the_model_are_not_alone_on_a_page(
    severe, context, at_clinic, two, suvr, tmp_path
):
    report = build_scan_report(severe, context, at_clinic(two, (0.3, 0.6, 0.1)))
    last = _printed_pages(write_scan_report(report, suvr, tmp_path)["pdf"])[-1]
    for heading in ("Scan, model and quality control", "What the plausible range covers", "Limitations"):
        assert heading in last


def test_a_refused_scan_prints_on_one_page(scan, context, tmp_path):
    bare = replace(scan, regions=None, composites={}, findings=(), visits=(), facts={"synthetic": True})
    report = build_scan_report(bare, context, None, RefusedScan("empty", "No image", hint="send one"))
    (page,) = _printed_pages(write_scan_report(report, None, tmp_path)["pdf"])
    assert page.count("SYNTHETIC") == 2, "in the first box and at the foot"
    assert "Limitations of the model" in page
