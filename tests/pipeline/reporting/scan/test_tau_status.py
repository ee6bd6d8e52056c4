"""The first line of a report: the status of a scan and where its uptake is raised."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import TauThresholds
from pipeline.errors import RefusedScan
from pipeline.reporting.page.words import region_group
from pipeline.reporting.scan.regional_numbers import RegionRow
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_numbers import ScanReport
from pipeline.reporting.scan.scan_page import scan_page
from pipeline.reporting.scan.tau_status import tau_status

USUAL = TauThresholds()


def _row(region: str, left: float | None, right: float | None, kind: str = "target") -> RegionRow:
    group = region_group(region, kind)
    return RegionRow(region=region, title=region, group=group, kind=kind, z_left=left, z_right=right)


MEDIAL = [_row(name, 3.0, 0.1) for name in ("entorhinal", "amygdala", "parahippocampal")]
LATERAL = [_row(name, 2.0, 2.5) for name in ("fusiform", "inferior_temporal", "middle_temporal")]
PARIETAL = [_row("precuneus", 0.0, 4.0), _row("superior_parietal", 0.0, 1.99)]
QUIET = [_row(name, -0.4, 0.9) for name in ("cuneus", "lingual", "insula", "frontal_pole")]


@pytest.mark.parametrize(
    ("suvr", "status", "sentence"),
    [
        (1.0, "negative", "is 1.00, below the lower threshold of 1.19."),
        (1.1899, "negative", "is 1.1899, below the lower threshold of 1.1900."),
        (1.19, "uncertain", "is 1.19, in the uncertain zone from 1.19 to below 1.34."),
        (1.3399, "uncertain", "is 1.3399, in the uncertain zone from 1.19 to below 1.3400."),
        (1.34, "positive", "is 1.34, at or above the upper threshold of 1.34."),
        (2.1, "positive", "is 2.10, at or above the upper threshold of 1.34."),
    ],
)
def test_the_status_is_of_two_thresholds_and_its_sentence_never_contradicts_it(suvr, status, sentence):
    found = tau_status(suvr, QUIET, USUAL, 20)
    assert found.status == status
    assert found.sentence.endswith(sentence)


@pytest.mark.parametrize(
    ("rows", "where", "pattern"),
    [
        (QUIET, "", "no lobe is involved"),
        (MEDIAL + QUIET, "medial temporal raised on the left", "medial temporal only"),
        (LATERAL + QUIET, "lateral temporal raised on both sides", "limited to the temporal lobe"),
        (
            MEDIAL + LATERAL + PARIETAL + QUIET,
            "lateral temporal raised on both sides; medial temporal on the left; parietal on the right",
            "the temporal lobe and beyond",
        ),
        (PARIETAL + QUIET, "parietal raised on the right", "outside the temporal lobe only"),
    ],
)
def test_raised_lobes_are_named_with_their_side_and_the_pattern_is_said_to_be_computed(rows, where, pattern):
    found = tau_status(1.5, rows, USUAL, 20)
    assert found.title == ("Tau-positive" if not where else f"Tau-positive: {where}")
    assert found.pattern_sentence.startswith(f"Pattern: {pattern}. It is computed from the regions")


def test_no_name_of_a_lobe_reads_as_two_in_a_list():
    rows = [_row(name, 3.0, 3.0) for name in ("insula", "frontal_pole", "precuneus")]
    found = tau_status(1.5, rows, USUAL, 20)
    assert found.title == "Tau-positive: cingulate/insula, frontal and parietal raised on both sides"


def test_counts_are_of_regions_with_a_norm_and_leave_the_hippocampus_out():
    rows = [*MEDIAL, _row("hippocampus", 9.0, 9.0), _row("putamen", 9.0, 9.0, "offtarget"), *QUIET]
    rows.append(_row("precuneus", None, 3.0))
    found = tau_status(1.0, rows, USUAL, 20)
    assert found.where_sentence == (
        "Regions 2 SD or more above the mean of 20 cognitively normal training scans: medial temporal left 3 "
        "of 3; parietal right 1 of 1."
    )
    assert "half of its regions on a side, without hippocampus, are raised" in found.pattern_sentence


def test_without_norms_it_is_not_stated_where():
    found = tau_status(1.5, [_row("entorhinal", None, None)], USUAL, None)
    assert found.title == "Tau-positive"
    assert "too few cognitively normal" in found.where_sentence
    assert found.pattern_sentence == ""


def test_without_a_meta_roi_there_is_no_status():
    assert tau_status(None, QUIET, USUAL, 20) is None


@given(
    st.floats(0.5, 3),
    st.floats(0.8, 2),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=3, max_size=3),
)
def test_title_counts_and_status_agree_for_any_scan_and_thresholds(suvr, low, zone, z):
    thresholds = TauThresholds(uncertain_from=low, positive_from=low + zone)
    names = ("entorhinal", "amygdala", "parahippocampal")
    found = tau_status(suvr, [_row(n, *pair) for n, pair in zip(names, z, strict=True)], thresholds, 9)
    assert (found.status == "negative") == (suvr < low)
    assert (found.status == "positive") == (suvr >= low and suvr >= low + zone)
    for k, side in enumerate(("left", "right")):
        raised = sum(pair[k] >= 2 for pair in z)
        assert bool(re.search(rf"medial temporal .*{side} {raised} of 3", found.where_sentence)) == (
            raised > 0
        )
        assert (side in found.title or "both sides" in found.title) == (raised >= 2)
    shown = [float(x) for x in re.findall(r"\d+\.\d+", found.sentence)]
    relation = {"negative": shown[0] < shown[-1], "positive": shown[0] >= shown[-1], "uncertain": True}
    assert relation[found.status]


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"uncertain_from is 1\.4, above positive_from, 1\.3"):
        TauThresholds(uncertain_from=1.4, positive_from=1.3)


def test_the_page_states_it_before_any_probability_with_the_thresholds_of_the_study(
    scan, context, prediction
):
    own = TauThresholds(uncertain_from=1.2, positive_from=1.24, source="our 80 scans", holds_for="taucal 0.2")
    report = build_scan_report(scan, replace(context, thresholds=own), prediction)
    html = scan_page(report, None).html()
    text = " ".join(re.sub(r"<[^>]*>", " ", html[html.index("<h1") :]).replace("\u00a0", " ").split())
    assert text.index("Tau-positive") < re.search(r"\d+ %", text).start()
    assert text.index("Tau-positive") < text.index("Most like")
    assert "is 1.25, at or above the upper threshold of 1.24." in text
    assert "Thresholds: our 80 scans; they were found with taucal 0.2." in text
    assert ScanReport.model_validate(report.model_dump(mode="json")) == report


def test_a_refused_scan_has_no_status(scan, context):
    report = build_scan_report(scan, context, None, RefusedScan("not-a-brain", "No brain is seen"))
    assert report.tau is None
    assert "Tau-" not in scan_page(report, None).html().split("</style>")[-1]
