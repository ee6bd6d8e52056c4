"""The page of a scan: what every sheet holds, one file without scripts or addresses."""

import re
from dataclasses import replace
from html import unescape

import pytest
from page_words import words_seen

from pipeline.reporting.page.facts import RESEARCH_USE_ONLY
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_numbers import MetricRow
from pipeline.reporting.scan.scan_page import scan_page, z_text


@pytest.mark.parametrize(
    "words",
    [
        "Most like AD (86 %, plausible range 79 to 91 %)",
        "No other class is in the prediction set. Quality control passed",
        "AD dementia of the Alzheimer type",
        "In tests these sets held the true class of 41 of 44 CN, 25 of 30 MCI, 9 of 11 AD scans.",
        "They are set to contain the true class in at least 90 % of the scans of each class.",
        "Of 40 test scans with a highest probability of 80 to 90 %, 34 were classified correctly.",
        "Prediction set: AD.",
        "Assumes the prevalence among the training scans: CN 56 %, MCI 33 %, AD 11 %",
        "An independent visual read is required.",
        "A negative scan does not exclude AD.",
        "Tau status uncertain",
        "is 1.25, in the uncertain zone from 1.19 to below 1.34.",
        "the patient's right is on the left of the picture",
        "What the plausible range covers and what it does not",
        "Grey up to 1.65, the upper end of background; orange to yellow above.",
        "Grey within 2 SD of the mean, orange to yellow above, blue below.",
        "SUVR on the cortex",
        "right lateralright medialventralleft medialleft lateral",
        "Off-target (binds without tau)",
        "10 cognitively normal training scans",
        "Band: test-retest variation, 3 % around the first visit.",
        "112 scans",
    ],
)
def test_the_page_says(html, words):
    assert words in words_seen(html)


def test_the_picture_of_the_meta_roi_says_where_the_scan_lies(html):
    assert 'aria-label="Temporal meta-ROI 1.25: in the uncertain zone (1.19 to 1.34)"' in html
    assert "Shaded: the uncertain zone between the two thresholds." in words_seen(html)


def test_a_region_shows_both_sides_and_the_reference_its_one_value(html):
    rows = {
        unescape(r[0]): re.findall(r"<td[^>]*>([^<]*)</td>", r[1])
        for r in re.findall(r'<th scope="row">([^<]*)</th>\s*(.*?)</tr>', html, re.DOTALL)
    }
    assert rows["Precuneus"][:2] == ["2.50", "1.13"]
    assert rows["Inferior cerebellar grey (reference)"][0] == "1.00"


def test_every_sheet_names_the_scan_and_its_limits(html):
    sheets = html.split('<section class="sheet"')[1:]
    assert len(sheets) == 4
    for sheet in sheets:
        assert RESEARCH_USE_ONLY in sheet
        assert "sub-A7KD2M ses-20310412" in sheet
        assert "run 4f1c09e2" in sheet


def test_no_probability_has_more_digits_than_whole_percent(html):
    decide = words_seen(html.split('<section class="sheet"')[1])
    assert not re.search(r"\d\.\d+ ?%", decide)


def test_one_file_no_script_no_address(html):
    assert "<script" not in html
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r"<[^>]+\s(style|on\w+)=", html)
    assert set(re.findall(r'src="([a-z]+:[a-z]+/[a-z+]+)', html)) == {"data:image/png"}
    assert not re.search(r"<(link|iframe|object|embed|form|base)\b", html)


def test_every_picture_has_words(html):
    pictures = re.findall(r"<img [^>]+>", html)
    assert len(pictures) == 3 + 5 + 5 + 6 + 4 + 3, "planes, z and SUVR on the cortex, levels, scales, outline"
    assert all(re.search(r'alt="[^"]{20,}"', p) for p in pictures)
    assert all('aria-label="' in s for s in re.findall(r"<svg [^>]+>", html))


def test_a_z_score_just_below_a_limit_is_written_below_it_and_its_group_has_one_name(
    scan, context, prediction, suvr
):
    assert [z_text(z) for z in (1.97, 1.996, 2.0, -1.96, -2.0, 3.99, 2.3, None)] == [
        "+1.97", "+1.996", "+2.0", "−1.96", "−2.0", "+3.99", "+2.3", "–",
    ]  # fmt: skip
    assert z_text(2.46, 2.5) == "+2.46"
    report = build_scan_report(scan, context, prediction)
    rows = tuple(r.model_copy(update={"z_left": 1.97}) for r in report.regions)
    page = scan_page(report.model_copy(update={"regions": rows}), None).html()
    targets = sum(r.kind == "target" for r in rows if r.left is not None or r.right is not None)
    assert page.count('<td class="n">+1.97</td>') == targets, "off-target regions have no limit of shading"
    assert '<th scope="col">Temporal</th>' not in page
    assert '<th scope="col">Lateral temporal</th>' in page


def test_the_first_page_names_where_orange_is_no_tau(html):
    first = words_seen(html.split('<section class="sheet"')[1])
    assert "Uptake in striatum, brainstem nuclei, choroid plexus, meninges and skull occurs without" in first


def test_noise_is_explained_beside_a_calibration_error(scan, context, prediction):
    row = MetricRow(name="classwise_ece", value=0.148, low=0.13, high=0.26, noise=0.1)
    for metrics in ((row,), (row.model_copy(update={"noise": None}),)):
        model = context.model.model_copy(update={"metrics": metrics})
        report = build_scan_report(scan, replace(context, model=model), prediction)
        shown = words_seen(scan_page(report, None).html())
        words = "a perfectly calibrated model would show with so few scans"
        assert (words in shown) == (metrics[0].noise is not None)


@pytest.mark.parametrize("synthetic", [True, False])
def test_a_phantom_is_watermarked_on_every_sheet(scan, context, prediction, suvr, synthetic):
    facts = {"synthetic": synthetic}
    page = scan_page(build_scan_report(replace(scan, facts=facts), context, prediction), suvr).html()
    assert page.count('class="synthetic"') == (4 if synthetic else 0)
    assert ("SYNTHETIC" in page) == synthetic


def test_the_accession_number_is_shown_only_where_it_is_given(scan, context, prediction, suvr):
    given = build_scan_report(replace(scan, accession_number="ACC0099"), context, prediction)
    assert "accession ACC0099" in scan_page(given, suvr).html()


def test_metrics_of_the_model_are_written_as_in_every_table(scan, context, prediction, suvr):
    metrics = (
        MetricRow(name="classwise_ece", value=0.148, low=0.13, high=0.26),
        MetricRow(name="balanced_accuracy", value=0.56, low=0.39, high=0.8),
    )
    model = context.model.model_copy(update={"metrics": metrics, "level": 0.9})
    report = build_scan_report(scan, replace(context, model=model), prediction)
    seen = words_seen(scan_page(report, None).html())
    assert "Classwise ECE ↓14.8 %13.0 to 26.0" in seen
    assert "Value90 % interval" in seen
    assert "Balanced accuracy ↑0.560.39 to 0.80" in seen
