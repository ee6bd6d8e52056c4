"""One classifier's reports: a refused scan gets a page too, and the model's facts are its card's."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from flows.reports.scan_reports import ReportWriter
from pipeline import tracking
from pipeline.atlas import AFFINE, SHAPE
from pipeline.config import Study
from pipeline.errors import RefusedScan
from pipeline.one_scan import Inference
from pipeline.reporting.scan.scan_build import MeasuredScan
from pipeline.scan import Volume


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


def test_a_measured_scan_gets_a_viewer_which_goes_when_it_is_switched_off(writer, tmp_path):
    suvr = Volume(np.ones(SHAPE, dtype=np.float32), AFFINE, "SUVR")
    inference = Inference(None, SimpleNamespace(suvr=suvr), None, RefusedScan("x", "no cerebellum"))
    scan = MeasuredScan("A7KD2M", "20310412")
    _, pages = writer.write_scan(scan, inference, tmp_path, pdf=False)
    assert pages["viewer"] == tmp_path / "viewer.html"
    assert 'href="viewer.html"' in pages["html"].read_text()
    _, pages = replace(writer, viewer=False).write_scan(scan, inference, tmp_path, pdf=False)
    assert set(pages) == {"html", "json"}
    assert not (tmp_path / "viewer.html").exists()
    assert "viewer" not in pages["html"].read_text().partition("<body>")[2]


def test_mlflow_gets_the_viewer_to_which_the_page_links(writer, tmp_path, monkeypatch):
    recorded = []
    monkeypatch.setattr(tracking, "record_answer", lambda _store, answered: recorded.append(answered))
    suvr = Volume(np.ones(SHAPE, dtype=np.float32), AFFINE, "SUVR")
    inference = Inference(None, SimpleNamespace(suvr=suvr), None, RefusedScan("x", "no cerebellum"))
    recording = replace(writer, store=SimpleNamespace(is_new=lambda: False))
    _, pages = recording.write_scan(MeasuredScan("A7KD2M", "1"), inference, tmp_path, pdf=False)
    assert recorded[0].files == {kind: pages[kind] for kind in ("html", "json", "viewer")}


def test_the_study_decides_whether_there_is_a_viewer(small_classifier, monkeypatch):
    monkeypatch.setattr(tracking, "pinned", lambda _store, model: model)
    monkeypatch.setattr(tracking, "load_classifier", lambda _store, _model: small_classifier)
    monkeypatch.setattr(tracking, "origin", lambda _store, _model: ("7", "4f1c09e2"))
    settings = {"name": "a", "output": "o", "cohort": {"path": "c"}, "report": {"viewer": False}}
    assert not ReportWriter.of(None, "@champion", Study.model_validate(settings)).viewer
    assert ReportWriter.of(None, "@champion", None).viewer


def test_the_model_is_the_one_of_the_card(writer, tmp_path):
    refusal = RefusedScan("x", "no image")
    scan = MeasuredScan("A7KD2M", "20310412")
    report, _ = writer.write_scan(scan, Inference(None, None, None, refusal), tmp_path, pdf=False)
    assert report.model.version == "7"
    assert report.model.trained_on.endswith("of 80 subjects")


@pytest.mark.parametrize("wanted", [False, True])
def test_a_second_suvr_is_shown_where_the_study_asks_for_it(small_classifier, tmp_path, monkeypatch, wanted):
    monkeypatch.setattr(tracking, "pinned", lambda _, model: model)
    monkeypatch.setattr(tracking, "load_classifier", lambda *_: small_classifier)
    monkeypatch.setattr(tracking, "origin", lambda *_: ("7", "4f1c09e2"))
    settings = {
        "name": "x",
        "output": str(tmp_path / "out"),
        "cohort": {"path": str(tmp_path)},
        "imaging": {"partial_volume": wanted},
    }
    study = Study.model_validate(settings)
    assert ReportWriter.of(None, "models:/taucal/7", study).partial_volume is wanted
    assert ReportWriter.of(None, "models:/taucal/7", None).partial_volume is False
