"""The files of a scan's report: page, JSON and PDF, the same bytes again, and reports of older formats."""

import json
import logging
import re
import shutil
import subprocess
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from pipeline.atlas import SHAPE
from pipeline.errors import InputError
from pipeline.reporting.page import pdf as pdf_module
from pipeline.reporting.page.facts import RESEARCH_USE_ONLY
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_numbers import ScanReport
from pipeline.reporting.scan.scan_page import scan_schema, write_scan_report


def test_the_json_holds_the_same_facts(scan, context, prediction, suvr, tmp_path):
    report = build_scan_report(scan, context, prediction)
    written = write_scan_report(report, suvr, tmp_path, pdf=False)
    assert ScanReport.model_validate(json.loads(written["json"].read_text())) == report
    assert set(written) == {"html", "json"}


def test_the_first_line_names_the_target(scan, context, doubtful, tmp_path):
    for target in ("diagnosis", "visual read"):
        model = context.model.model_copy(update={"target": target})
        report = build_scan_report(scan, replace(context, model=model), doubtful)
        pages = write_scan_report(report, None, tmp_path, pdf=False)
        assert f">Tau PET (AV1451): {target}</h1>" in pages["html"].read_text()


def test_the_json_keeps_to_the_published_schema(scan, context, doubtful):
    published = json.loads(
        (resources.files("pipeline.reporting.scan") / "scan_report.schema.json").read_text()
    )
    assert published == scan_schema()
    report = json.loads(build_scan_report(scan, context, doubtful).model_dump_json())
    jsonschema.validate(report, published)
    with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
        jsonschema.validate(report | {"PatientName": "Doe^Jane"}, published)


@pytest.mark.slow
def test_the_same_facts_give_the_same_bytes(scan, context, prediction, suvr, tmp_path):
    report = build_scan_report(scan, context, prediction)
    first, second = (
        write_scan_report(report, suvr, tmp_path / name, pdf=pdf_module.why_no_pdf() is None)
        for name in ("a", "b")
    )
    for kind, path in first.items():
        assert path.read_bytes() == second[kind].read_bytes(), kind


def test_the_pdf_has_the_limits_on_every_page(scan, context, prediction, suvr, tmp_path):
    if pdf_module.why_no_pdf() or not shutil.which("pdftotext"):
        pytest.skip("needs pango and pdftotext")
    report = build_scan_report(replace(scan, facts={"synthetic": True}), context, prediction)
    path = write_scan_report(report, suvr, tmp_path)["pdf"]
    text = subprocess.run(
        ["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True
    ).stdout
    pages = text.split("\f")[:-1]
    assert len(pages) == 4
    for n, page in enumerate(pages, start=1):
        assert RESEARCH_USE_ONLY in page
        assert "sub-A7KD2M ses-20310412" in page
        assert f"Page {n} of 4" in page
        assert "SYNTHETIC" in page
        assert "2026-11-21 · run 4f1c09e2" in page


@pytest.mark.parametrize("tool", ["pdfinfo", "pdffonts"])
def test_the_pdf_is_archivable_tagged_and_holds_its_fonts(scan, context, prediction, tmp_path, tool):
    if pdf_module.why_no_pdf() or not shutil.which(tool):
        pytest.skip(f"needs pango and {tool} (Debian: poppler-utils)")
    path = write_scan_report(build_scan_report(scan, context, prediction), None, tmp_path)["pdf"]
    shown = subprocess.run([tool, path], capture_output=True, text=True, check=True).stdout
    if tool == "pdfinfo":
        facts = dict(line.split(":", 1) for line in shown.splitlines() if ":" in line)
        assert facts["Tagged"].strip() == "yes"
        assert facts["Title"].strip().startswith("Tau PET report sub-A7KD2M")
        meta = subprocess.run([tool, "-meta", path], capture_output=True, text=True, check=True).stdout
        assert re.search(r"pdfaid:part\W+3\W", meta)
        assert re.search(r"pdfaid:conformance\W+U\W", meta)
    else:
        fonts = [line.split()[-5:-3] for line in shown.splitlines()[2:]]  # embedded, subset
        assert fonts
        assert {tuple(f) for f in fonts} == {("yes", "yes")}


def test_without_pango_there_is_no_pdf_and_a_reason(
    scan, context, prediction, suvr, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(pdf_module, "why_no_pdf", lambda: "PDF needs the pango libraries: not found")
    with caplog.at_level(logging.WARNING):
        written = write_scan_report(build_scan_report(scan, context, prediction), suvr, tmp_path)
    assert set(written) == {"html", "json"}
    assert "PDF needs the pango libraries" in caplog.text


def test_a_folder_that_cannot_be_made_is_an_error(scan, context, prediction, suvr, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"A file, .*taken, is where the output folder should be"):
        write_scan_report(build_scan_report(scan, context, prediction), suvr, tmp_path / "taken", pdf=False)


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1200])
def test_a_real_browser_shows_it_without_a_request_or_an_overflow(
    scan, context, prediction, suvr, tmp_path, browser, width
):
    path: Path = write_scan_report(
        build_scan_report(scan, context, prediction), suvr, tmp_path, pdf=False, saliency=np.ones(SHAPE)
    )["html"]
    page = browser.new_page(viewport={"width": width, "height": 900})
    shown: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: shown.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    wide = page.evaluate("document.documentElement.scrollWidth")
    fonts = page.evaluate("[...document.fonts].map(f => f.status)")
    broken = page.evaluate("[...document.images].filter(i => i.naturalWidth === 0).length")
    page.close()
    assert shown == []  # a breach of the Content-Security-Policy is reported on the console
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert wide == width
    assert fonts == ["loaded", "loaded"]
    assert broken == 0


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_report_of_an_older_format_is_read(scan, context, averaged, version):
    report = build_scan_report(scan, context, averaged)
    stored = report.model_dump(mode="json") | {"format_version": version}
    del stored["tau"]
    if version < 3:
        for key in ("tested_sets", "largest_set", "range_factor"):
            del stored[key]
        for found in stored["classes"]:
            del found["shown"]
            found |= {"clinic_share": 0.5, "clinic_probability": 0.9}
    if version == 1:
        stored |= {"mend": stored.pop("hint"), "doubt": stored.pop("uncertainty")}
    read = ScanReport.model_validate(stored)
    assert (read.uncertainty, read.tau) == (report.uncertainty, None)
    assert [c.shown for c in read.classes] == list(averaged.probabilities)  # which the range belonged to
    assert read.clinic is False
    assert read.largest_set == (1 if version < 3 else report.largest_set)
