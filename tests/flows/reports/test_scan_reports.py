"""One classifier's reports: a refused scan gets a page too, and the model's facts are its card's."""

from __future__ import annotations

import json

import pytest

from flows.reports.scan_reports import ReportWriter
from pipeline.errors import RefusedScan
from pipeline.one_scan import Inference
from pipeline.reporting.scan.scan_build import MeasuredScan


@pytest.fixture
def writer(small_classifier) -> ReportWriter:
    return ReportWriter(small_classifier, "7", "4f1c09e2", "2026-11-21")


def test_a_refused_scan_gets_a_page_that_says_what_to_do(writer, tmp_path):
    refusal = RefusedScan("missing-slices", "3 slices are missing", hint="export the whole series")
    scan = MeasuredScan("A7KD2M", "20310412", {"tracer": "AV1451"})
    report, pages = writer.write_scan(scan, Inference(None, None, None, refusal), tmp_path, pdf=False)
    assert (report.verdict, report.likeness) == ("refused", None)
    html = pages["html"].read_text()
    assert "3 slices are missing." in html
    assert "What to do: Export the whole series." in html
    assert "Calibrated probability" not in html
    stored = json.loads(pages["json"].read_text())
    assert stored["hint"] == "export the whole series"
    assert stored["report_date"] == "2026-11-21"
    assert stored["run_id"] == "4f1c09e2"


def test_the_model_is_the_one_of_the_card(writer, tmp_path):
    refusal = RefusedScan("x", "no image")
    scan = MeasuredScan("A7KD2M", "20310412")
    report, _ = writer.write_scan(scan, Inference(None, None, None, refusal), tmp_path, pdf=False)
    assert report.model.version == "7"
    assert report.model.trained_on.endswith("of 80 subjects")
