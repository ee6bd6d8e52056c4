from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import InputError, RefusedScan
from pipeline.imaging.quality import Finding, judge, refuse_if_needed
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_numbers import ScanReport


@pytest.fixture
def report(scan, context, prediction) -> ScanReport:
    return build_scan_report(scan, context, prediction)


def _row(report, region):
    return next(r for r in report.regions if r.region == region)


def test_z_is_patient_minus_norm_over_its_sd(report):
    sd = np.std([-0.1, 0.1] * 5, ddof=1)
    assert _row(report, "precuneus").z_left == pytest.approx((2.5 - 1.13) / sd)
    assert _row(report, "precuneus").z_right == pytest.approx(0, abs=1e-9)
    assert report.norm_count == 10


def test_asymmetry_is_positive_where_the_left_is_hotter(report):
    assert _row(report, "precuneus").asymmetry_percent == pytest.approx(200 * (2.5 - 1.13) / (2.5 + 1.13))
    assert _row(report, "insula").asymmetry_percent == 0
    assert "precuneus, 75 % higher on the left" in report.asymmetry_sentence


def test_even_sides_are_reported_as_even(scan, context, prediction, regions):
    even = regions.assign(suvr=1.2)
    told = build_scan_report(replace(scan, regions=even), context, prediction).asymmetry_sentence
    assert told == "No target region differs by 10 % or more between left and right."


def test_the_hottest_region_is_a_target_never_off_target(scan, context, prediction, regions):
    regions.loc[regions.region == "putamen", "suvr"] = 9.0
    report = build_scan_report(replace(scan, regions=regions), context, prediction)
    assert (report.hottest_region, report.hottest_side) == ("precuneus", "left")


def test_an_unmeasured_region_stays_unmeasured(scan, context, prediction, regions):
    regions.loc[(regions.region == "cuneus") & (regions.side == "left"), "suvr"] = np.nan
    row = _row(build_scan_report(replace(scan, regions=regions), context, prediction), "cuneus")
    assert row.left is None
    assert row.z_left is None
    assert row.asymmetry_percent is None


def test_the_finding_names_class_probability_and_range(report):
    told = report.headline.replace("\u00a0", " ")
    assert told == "Most like AD (86 %, plausible range 79 to 91 %)"
    assert report.verdict == "report"


def test_a_referred_scan_has_its_reasons_and_keeps_its_probabilities(scan, context, doubtful):
    report = build_scan_report(scan, context, doubtful)
    assert report.headline == "Refer for expert read"
    assert report.reasons == doubtful.reasons
    assert [c.in_set for c in report.classes] == [True, True, True]


def test_a_refused_scan_has_no_probability_and_says_why(scan, context):
    refusal = RefusedScan("missing-slices", "The series has 3 gaps", hint="export it again", measured="3")
    report = build_scan_report(replace(scan, regions=None), context, None, refusal)
    assert (report.verdict, report.quality) == ("refused", "refuse")
    assert report.classes == ()
    assert report.likeness is None
    assert report.reasons == ("The series has 3 gaps",)
    assert report.hint == "export it again"


@pytest.mark.parametrize(
    ("problem", "measured", "reason"),
    [
        ("Units are wrong", "CNTS", "Units are wrong (measured CNTS)"),
        ("Two slices are missing", "2 at z = 4 mm", "Two slices are missing (measured 2 at z = 4 mm)"),
        ("2 slices are missing at z = -2.0, 4.0 mm", "2 at z = -2.0, 4.0 mm", None),
        ("The cerebellum's share is 0 (warn below 0.98, refuse below 0.9)", "0", None),
        (
            "The share is 0.35 (refuse below 0.9)",
            "0.3",
            "The share is 0.35 (refuse below 0.9) (measured 0.3)",
        ),
        ("There is no image", "", None),
    ],
)
def test_a_measured_value_stands_once_in_the_reason_of_a_refusal(scan, context, problem, measured, reason):
    refusal = RefusedScan("some-rule", problem, measured=measured)
    report = build_scan_report(replace(scan, regions=None), context, None, refusal)
    assert report.reasons == (reason or problem,)


@pytest.mark.parametrize(
    ("measured", "shown"), [(0.52136, "0.521"), (0.5496, "0.5496"), (float("nan"), "nan")]
)
def test_reason_and_quality_table_state_a_refused_value_with_the_same_digits(scan, context, measured, shown):
    findings = [judge("frame-motion", 1.23456), judge("registration-failed", measured)]
    with pytest.raises(RefusedScan, match="Variance explained") as refused:
        refuse_if_needed(findings)
    unread = replace(scan, regions=None, findings=())
    report = build_scan_report(unread, context, None, refused.value)
    assert report.reasons == (f"Variance explained by the tissue model is {shown} ({findings[1].limit})",)
    assert [row.message.partition(" (warn")[0] for row in report.findings] == [
        "Motion between frames (mm): 1.23",
        f"Variance explained by the tissue model: {shown}",
    ]


def test_neither_prediction_nor_refusal_is_an_error(scan, context):
    with pytest.raises(InputError, match="needs a prediction or a refusal"):
        build_scan_report(scan, context, None)


@pytest.mark.parametrize(
    ("verdicts", "worst"), [((), "pass"), (("pass", "warn"), "warn"), (("warn", "refuse"), "refuse")]
)
def test_the_quality_is_the_worst_finding(scan, context, prediction, verdicts, worst):
    findings = tuple(Finding("rule", v, 1.0, "limit", "words") for v in verdicts)
    assert build_scan_report(replace(scan, findings=findings), context, prediction).quality == worst


@pytest.mark.parametrize(
    ("facts", "synthetic"),
    [
        ({"synthetic": True}, True),
        ({"Synthetic": "yes"}, True),
        ({"series_description": "SYNTHETIC AV1451"}, True),
        ({"synthetic": False}, False),
        ({"series_description": "AV1451"}, False),
    ],
)
def test_a_phantom_is_told_by_its_facts(scan, context, prediction, facts, synthetic):
    assert build_scan_report(replace(scan, facts=facts), context, prediction).synthetic is synthetic


def test_regions_keep_the_order_of_the_table(report, regions):
    assert [r.region for r in report.regions] == list(pd.unique(regions.region))


def test_facts_claim_no_more_than_is_known(scan, context, prediction):
    facts = {"frames_averaged": 1, "motion_mm": 0.0, "age": 93, "attenuation_corrected": True}
    facts |= {"injected_activity_bq": 3.7e8, "window_start_min": 80.2, "window_end_min": 99.9}
    told = build_scan_report(replace(scan, facts=facts), context, prediction).acquisition
    assert {fact.label: fact.value for fact in told} == {
        "Window after injection": "80 to 100 min after injection",
        "Injected activity": "370 MBq",
        "Attenuation corrected": "yes",
        "Frames averaged": "1",
        "Age": "90 years or more",
    }
