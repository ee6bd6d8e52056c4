"""What stands beside a scan: earlier visits, typical scans, and what influenced the network."""

import re
from dataclasses import replace

import numpy as np
import pytest
from page_words import words_seen

from models.typical_scans import TypicalScan
from pipeline.atlas import SHAPE
from pipeline.errors import InputError
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_numbers import Visit
from pipeline.reporting.scan.scan_page import scan_page, trend
from pipeline.reporting.scan.tau_status import TypicalTau


def test_saliency_stands_beside_with_what_it_is_not(scan, context, prediction, suvr, html):
    assert "What influenced the network" not in html
    page = scan_page(build_scan_report(scan, context, prediction), suvr, np.ones(SHAPE)).html()
    assert "It is not a map of tau" in page
    assert page.count("<img") == html.count("<img") + 6


def test_saliency_of_another_shape_is_refused(scan, context, prediction, suvr):
    with pytest.raises(InputError, match=r"shape \(2, 2, 2\). Expected the template's \(96, 112, 96\)"):
        scan_page(build_scan_report(scan, context, prediction), suvr, np.ones((2, 2, 2))).html()


def test_the_trend_keeps_order_and_scale():
    visits = tuple(Visit(label=str(m), months=m, meta_roi=v) for m, v in ((0, 1.2), (12, 1.2), (24, 1.5)))
    drawn = trend(visits)
    (x0, y0), (x1, y1), (x2, y2) = ((float(x.rstrip("%")), float(y)) for x, y in drawn["points"])
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y0 == y1 > y2
    assert drawn["band_top"] < y0 < drawn["band_bottom"]
    assert len(drawn["lines"]) == 2


def test_one_visit_is_no_trend(scan, context, prediction, suvr):
    assert trend((Visit(label="only", months=0, meta_roi=1.2),)) == {}
    alone = replace(scan, visits=scan.visits[:1])
    assert "Earlier visits" not in scan_page(build_scan_report(alone, context, prediction), suvr).html()


def test_earlier_visits_have_their_probability_and_a_sentence(scan, context, prediction):
    visits = (
        Visit(label="visit 1", months=0, meta_roi=1.2, probability=0.4, lower=0.3, upper=0.55),
        Visit(label="visit 2", months=24, meta_roi=1.25, probability=0.86, lower=0.79, upper=0.91),
    )
    shown = words_seen(
        scan_page(build_scan_report(replace(scan, visits=visits), context, prediction), None).html()
    )
    assert (
        "Since visit 1 the meta-ROI has risen by 4.2 %, more than its test-retest variation of 3.0 %."
        in shown
    )
    assert (
        "gives AD a probability of 40 % (30 to 55 %), for this scan 86 % (79 to 91 %); the plausible" in shown
    )
    assert "Probability of AD" in shown
    assert "visit 2241.25+4.2 %86 % 79 to 91 %" in shown


def test_visits_without_predictions_have_no_column_of_probabilities(html):
    assert "Since first the meta-ROI has risen by 4.2 %" in words_seen(html)
    assert "Probability of AD" not in words_seen(html)


def _typical(suvr, synthetic=True):
    scans = (TypicalScan("negative", suvr.array, 1.15, 21), TypicalScan("positive", suvr.array, 1.81, 15))
    facts = tuple(
        TypicalTau(status=t.status, meta_roi=t.meta_roi, among=t.among, synthetic=synthetic) for t in scans
    )
    return scans, facts


@pytest.mark.parametrize("synthetic", [True, False])
def test_typical_scans_stand_beside_at_the_same_scale_with_the_rule_of_their_choice(
    scan, context, prediction, suvr, html, synthetic
):
    scans, facts = _typical(suvr, synthetic)
    model = context.model.model_copy(update={"typical_scans": facts})
    report = build_scan_report(scan, replace(context, model=model), prediction)
    page = scan_page(report, suvr, typical=scans).html()
    assert page.count("<img") == html.count("<img") + 2 * (5 + 6)
    shown = words_seen(page)
    assert (
        "Beside it are two training scans: one of 21 tau-negative scans (meta-ROI 1.15) and one of 15 "
        "tau-positive scans (meta-ROI 1.81). Each has the regional SUVR nearest to the mean of its group."
    ) in shown
    assert ("The training scans are synthetic: no person was scanned." in shown) == synthetic
    assert page.count("typical tau-positive (synthetic)") == (2 * 6 + 5 if synthetic else 0)
    levels = re.findall(r'alt="SUVR of (this scan|typical tau-\w+)[^"]*, axial slice at z ([^ ]+) mm"', page)
    assert [z for _, z in levels[::3]] == ["−34", "−22", "−8", "8", "28", "46"]
    assert {tuple(name for name, _ in levels[k : k + 3]) for k in range(0, 18, 3)} == {
        ("this scan", "typical tau-negative", "typical tau-positive")
    }


def test_one_typical_scan_stands_beside_alone(scan, context, prediction, suvr):
    scans, facts = _typical(suvr)
    model = context.model.model_copy(update={"typical_scans": facts[:1]})
    report = build_scan_report(scan, replace(context, model=model), prediction)
    shown = words_seen(scan_page(report, suvr, typical=scans[:1]).html())
    assert "Beside it is a training scan: one of 21 tau-negative scans (meta-ROI 1.15). It has" in shown


def test_without_typical_scans_nothing_stands_beside(html):
    assert "beside it" not in words_seen(html)
    assert "this scan on the cortex" in html
    assert "typical" not in words_seen(html)
