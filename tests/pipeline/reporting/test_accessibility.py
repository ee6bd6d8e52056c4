"""Every kind of page before axe-core in a real browser, at desktop and phone width."""

from dataclasses import replace

import numpy as np
import pytest

from models.typical_scans import TypicalScan
from pipeline.atlas import SHAPE
from pipeline.errors import RefusedScan
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_page import scan_page
from pipeline.reporting.scan.tau_status import TypicalTau
from pipeline.reporting.scan.viewer_page import viewer_page


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["report", "clinic", "refer", "refused", "warned"])
def test_a_scan_report_has_no_violation(
    scan, context, prediction, two, doubtful, at_clinic, suvr, violations, kind
):
    bare = replace(scan, regions=None, composites={}, findings=(), visits=())
    finding = replace(scan.findings[0], verdict="warn")
    report = {
        "report": build_scan_report(scan, context, prediction),
        "clinic": build_scan_report(scan, context, at_clinic(two, (0.3, 0.3, 0.4))),
        "refer": build_scan_report(replace(scan, facts={"synthetic": True}), context, doubtful),
        "refused": build_scan_report(bare, context, None, RefusedScan("empty", "No image", hint="send one")),
        "warned": build_scan_report(replace(scan, findings=(finding,)), context, doubtful),
    }[kind]
    shown = None if kind == "refused" else suvr
    saliency = None if kind == "refused" else np.ones(SHAPE)
    assert violations(scan_page(report, shown, saliency).html()) == []


@pytest.mark.slow
def test_a_scan_report_with_typical_scans_and_visits_has_no_violation(
    scan, context, prediction, suvr, violations
):
    scans = tuple(TypicalScan(status, suvr.array, 1.2, 9) for status in ("negative", "positive"))
    facts = tuple(TypicalTau(status=t.status, meta_roi=1.2, among=9, synthetic=True) for t in scans)
    seen = tuple(v.model_copy(update={"probability": 0.5, "lower": 0.4, "upper": 0.6}) for v in scan.visits)
    model = context.model.model_copy(update={"typical_scans": facts})
    report = build_scan_report(replace(scan, visits=seen), replace(context, model=model), prediction)
    assert violations(scan_page(report, suvr, typical=scans).html()) == []


@pytest.mark.slow
def test_the_viewer_has_no_violation(scan, context, doubtful, suvr, violations):
    finding = replace(scan.findings[0], verdict="warn")
    report = build_scan_report(
        replace(scan, findings=(finding,), facts={"synthetic": True}), context, doubtful
    )
    assert violations(viewer_page(report, suvr).html()) == []


@pytest.mark.slow
def test_axe_would_find_a_violation(violations):
    page = "<!DOCTYPE html><html><head><title>x</title></head><body><img src='data:,'></body></html>"
    assert any("image-alt" in line for line in violations(page))
