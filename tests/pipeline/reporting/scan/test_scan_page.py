import json
import logging
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from models.card import Card
from models.prediction import reasons_to_refer
from models.typical_scans import TypicalScan
from pipeline.atlas import SHAPE
from pipeline.errors import InputError, RefusedScan, sentence
from pipeline.imaging.quality import judge, refuse_if_needed
from pipeline.reporting.page import pdf as pdf_module
from pipeline.reporting.page.facts import RESEARCH_USE_ONLY
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_numbers import MetricRow, ScanReport, Visit
from pipeline.reporting.scan.scan_page import scan_page, scan_schema, trend, write_scan_report, z_text
from pipeline.reporting.scan.tau_status import TypicalTau


@pytest.fixture(scope="module")
def html(scan, context, prediction, suvr) -> str:
    return scan_page(build_scan_report(scan, context, prediction), suvr).html()


def _plain(html: str) -> str:
    """What a reader sees: no tags, no style, no pictures."""
    body = html.partition("<body>")[2] or html
    return " ".join(unescape(re.sub(r"<[^>]+>", "", body)).replace("\u00a0", " ").split())


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
    assert words in _plain(html)


def test_the_picture_of_the_meta_roi_says_where_the_scan_lies(html):
    assert 'aria-label="Temporal meta-ROI 1.25: in the uncertain zone (1.19 to 1.34)"' in html
    assert "Shaded: the uncertain zone between the two thresholds." in _plain(html)


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
    decide = _plain(html.split('<section class="sheet"')[1])
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


def test_a_clinics_prevalence_moves_the_page_and_the_training_one_stands_beside(
    scan, context, two, at_clinic, suvr, html
):
    assert "your clinic" not in html
    moved = at_clinic(replace(two, operating_point=0.5), (0.3, 0.6, 0.1))
    assert [round(100 * p) for p in moved.shown] == [45, 52, 3]
    shown = _plain(scan_page(build_scan_report(scan, context, moved), suvr).html())
    for words in (
        "Most like MCI (52 % at your clinic's prevalence, plausible range",
        "). The scan may also be CN.",
        "Calibrated probability at your clinic's prevalence",
        "Tests were made at the prevalence of training, where the highest probability of this scan is 72 %",
        "Of 22 test scans with a highest probability of 70 to 80 %, 16 were classified correctly.",
        "ClassAt your clinic's prevalenceAt the prevalence of training",
        "CN45 % where 30 % are CN72 % where 56 % are CN",
    ):
        assert words in shown
    assert "Assumes the prevalence" not in shown


def test_a_set_of_two_is_an_answer(scan, context, two, suvr):
    shown = _plain(scan_page(build_scan_report(scan, context, two), suvr).html())
    assert "Most like CN (72 %, plausible range 58 to 83 %). The scan may also be MCI." in shown
    assert "The prediction set is CN or MCI: the model does not decide between them." in shown
    assert "only class" not in shown


def test_a_scan_unlike_those_of_training_is_referred_in_plain_words(scan, context, prediction, suvr):
    far = replace(prediction, mahalanobis=45.0, energy=3.0, decision="refer")
    far = replace(far, reasons=reasons_to_refer(far))
    page = scan_page(build_scan_report(scan, context, far), suvr).html()
    first, *_, facts = (_plain(sheet) for sheet in page.split('<section class="sheet"')[1:])
    assert (
        "The scan is unlike those the classifier was trained on: at most about 1 of 100 accepted scans"
        in first
    )
    assert "This scan is unlike the test scans: what was counted on them may not hold for it." in first
    assert "45.0" not in first
    assert "Distance to the scans of training (Mahalanobis)45.0at most 31.0refer" in facts


def test_what_was_not_tested_is_not_promised(scan, context, prediction):
    untested = replace(context, card=Card())
    shown = _plain(scan_page(build_scan_report(scan, untested, prediction), None).html())
    assert "How often such sets hold the true class was not tested." in shown
    assert "They are set to contain the true class in at least 90 % of the scans of each class." in shown
    assert "test scans with a highest" not in shown


def test_sets_that_missed_their_aim_are_named(scan, context, prediction):
    counts = {"CN": (12, 24), "MCI": (13, 16), "AD": (4, 4)}
    missed = replace(context, card=context.card.model_copy(update={"coverage": counts}))
    shown = _plain(scan_page(build_scan_report(scan, missed, prediction), None).html())
    assert "12 of 24 CN, 13 of 16 MCI, 4 of 4 AD scans. They were set to contain the true" in shown
    assert "true class in at least 90 % of the scans" in shown
    assert "of each class: for CN they did not." in shown


def test_a_class_outside_the_set_may_be_likelier_than_one_inside(scan, context, two):
    odd = replace(two, prediction_set=("CN", "AD"))
    shown = _plain(scan_page(build_scan_report(scan, context, odd), None).html())
    assert "MCI is outside the set although it is more likely than a class inside: each class has a" in shown


def test_figures_at_a_limit_are_written_so_that_they_differ(scan, context, two):
    close = replace(two, operating_point=0.724, decision="refer", reasons=("the confidence is too low",))
    shown = _plain(scan_page(build_scan_report(scan, context, close), None).html())
    assert "Confidence: highest probability 72.0 %at least 72.4 %refer".replace("y 7", "y7") in shown


def test_a_model_without_an_operating_point_has_no_least_confidence(scan, context, two, at_clinic):
    never = replace(two, operating_point=1.0, reasons=())
    never = replace(never, decision="refer", reasons=reasons_to_refer(never))
    shown = _plain(scan_page(build_scan_report(scan, context, never), None).html())
    assert "highest probability72.0 %none: no finding for any scanrefer" in shown
    assert "100.0 %" not in shown
    clinic = build_scan_report(scan, context, at_clinic(never, (0.3, 0.6, 0.1)))
    shown = _plain(scan_page(clinic, None).html())
    assert re.search(r"highest probability at your clinic's prevalence\d\d\.\d %none: no finding", shown)
    assert (
        "The highest probability and the prediction set of this scan are at your clinic's prevalence. The "
        "limits were set on scans at the prevalence of training."
    ) in shown


@pytest.mark.parametrize(
    ("entropy", "disagreed", "parts"),
    [(0.644, 0.0156, ("0.64", "0.02", "0.62")), (0.49, 0.07, ("0.49", "0.07", "0.42"))],
)
def test_the_parts_of_the_uncertainty_add_up(scan, context, averaged, entropy, disagreed, parts):
    split = replace(averaged, entropy=entropy, mutual_information=disagreed)
    sentence = build_scan_report(scan, context, split).uncertainty.sentence
    assert tuple(re.findall(r"0\.\d+", sentence)) == parts


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
    targets = sum(r.kind == "target" for r in rows)
    assert page.count('<td class="n">+1.97</td>') == len([r for r in rows if r.left is not None]) >= targets
    assert '<th scope="col">Temporal</th>' not in page
    assert '<th scope="col">Lateral temporal</th>' in page


def test_the_first_page_names_where_orange_is_no_tau(html):
    first = _plain(html.split('<section class="sheet"')[1])
    assert "Uptake in striatum, brainstem nuclei, choroid plexus, meninges and skull occurs without" in first


def test_noise_is_explained_beside_a_calibration_error(scan, context, prediction):
    row = MetricRow(name="classwise_ece", value=0.148, low=0.13, high=0.26, noise=0.1)
    for metrics in ((row,), (row.model_copy(update={"noise": None}),)):
        model = context.model.model_copy(update={"metrics": metrics})
        report = build_scan_report(scan, replace(context, model=model), prediction)
        shown = _plain(scan_page(report, None).html())
        words = "a perfectly calibrated model would show with so few scans"
        assert (words in shown) == (metrics[0].noise is not None)


def test_one_network_states_what_its_range_leaves_out(html):
    shown = _plain(html)
    assert "Faded part: its plausible range; the last section explains what that covers. Blue" in shown
    assert "It shows how uncertain the calibration is, widened by a factor of 2. The factor was" in shown
    assert "chosen on simulated scans, whose true probability is known; on real scans it cannot be" in shown
    assert "It does not cover: training the network again, differences between your patients and the" in shown
    part = shown.partition("What the plausible range covers")[2].partition("Limitations of the model")[0]
    assert "networks" not in part


def test_a_classifier_of_an_older_version_has_the_range_of_its_refits(scan, context, averaged):
    old = replace(averaged, range_factor=None, ood_quantile=None, largest_set=1)
    shown = _plain(scan_page(build_scan_report(scan, context, old), None).html())
    assert "It runs from the 5th to the 95th percentile over calibrations with other subjects" in shown
    assert (
        "other subjects and over the 5 networks. Single networks differ more than their average varies."
        in shown
    )
    assert "simulated" not in shown


def test_an_ensemble_states_what_its_range_covers_and_how_its_uncertainty_splits(
    scan, context, averaged, suvr
):
    report = build_scan_report(scan, context, averaged)
    shown = _plain(scan_page(report, suvr).html())
    for words in (
        "It shows how much the 5 networks of the model disagree and how uncertain the calibration is,",
        "It does not cover: differences between your patients and the training scans, another scanner,",
        "Uncertainty: entropy 0.49 nats of at most 1.10. Of this, 0.07 is disagreement between the 5",
        "networks, which more training scans may reduce; 0.42 is ambiguity that they share.",
        "the mean of the networks' probabilities at the prevalence of training, each network calibrated by",
    ):
        assert words in shown
    assert "training the network again" not in shown
    as_json = report.model_dump(mode="json")["uncertainty"]
    assert as_json == {
        "networks": 5,
        "entropy": 0.49,
        "mutual_information": 0.07,
        "mean_entropy": pytest.approx(0.42),
        "limit": pytest.approx(np.log(3)),
    }
    jsonschema.validate(report.model_dump(mode="json"), scan_schema())


def test_a_referred_scan_says_refer_and_every_reason(scan, context, doubtful, suvr):
    shown = _plain(scan_page(build_scan_report(scan, context, doubtful), suvr).html())
    assert "Refer for expert read" in shown
    assert len(doubtful.reasons) == 2
    assert (
        "The model does not decide between CN, MCI and AD. No class is likely enough for a finding" in shown
    )
    assert not any(sentence(reason) in shown for reason in doubtful.reasons), "the last page has the numbers"
    assert "Confidence: highest probability 48.0 %at least 70.0 %refer".replace("y 4", "y4") in shown
    assert "Classes in the prediction set3at most 2refer" in shown
    assert "for the expert, not a finding" in shown
    assert "most like" not in shown


def test_a_refused_scan_has_no_probability(scan, context):
    refusal = RefusedScan("missing-slices", "The series has 3 gaps", hint="export it again")
    bare = replace(scan, regions=None, composites={}, visits=())
    shown = _plain(scan_page(build_scan_report(bare, context, None, refusal), None).html())
    assert "No tau status and no probability: the scan was refused" in shown
    assert "The series has 3 gaps" in shown
    assert "What to do: Export it again." in shown
    assert "Calibrated probability" not in shown
    assert "Prediction set" not in shown
    assert "An independent visual read is required." in shown


def test_a_scan_that_quality_control_refused_lists_what_passed_as_well(scan, context):
    found = [judge("frame-motion", 1.0), judge("upside-down", -0.0832), judge("brain-overlap", 0.31)]
    with pytest.raises(RefusedScan, match="Dice overlap") as refusal:
        refuse_if_needed(found)
    bare = replace(scan, regions=None, composites={}, visits=(), findings=())
    report = build_scan_report(bare, context, None, refusal.value)
    assert [f.verdict for f in report.findings] == ["pass", "pass", "refuse"]
    shown = _plain(scan_page(report, None).html())
    failed, _, passed = shown.partition("PassedLimit")
    assert "Motion between frames (mm): 1warn above 6, refuse above 12" in passed
    assert "Better fit of the head turned over: −0.0832" in passed, "with the minus of all numbers"
    assert "brain-overlaprefuseDice overlap with the template's brain: 0.31" in failed


@pytest.mark.parametrize("synthetic", [True, False])
def test_a_phantom_is_watermarked_on_every_sheet(scan, context, prediction, suvr, synthetic):
    facts = {"synthetic": synthetic}
    page = scan_page(build_scan_report(replace(scan, facts=facts), context, prediction), suvr).html()
    assert page.count('class="synthetic"') == (4 if synthetic else 0)
    assert ("SYNTHETIC" in page) == synthetic


def test_the_accession_number_is_shown_only_where_it_is_given(scan, context, prediction, suvr):
    given = build_scan_report(replace(scan, accession_number="ACC0099"), context, prediction)
    assert "accession ACC0099" in scan_page(given, suvr).html()


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


def test_saliency_stands_beside_with_what_it_is_not(scan, context, prediction, suvr, html):
    assert "What influenced the network" not in html
    page = scan_page(build_scan_report(scan, context, prediction), suvr, np.ones(SHAPE)).html()
    assert "It is not a map of tau" in page
    assert page.count("<img") == html.count("<img") + 6


def test_saliency_of_another_shape_is_refused(scan, context, prediction, suvr):
    with pytest.raises(InputError, match=r"shape \(2, 2, 2\). Expected the template's \(96, 112, 96\)"):
        scan_page(build_scan_report(scan, context, prediction), suvr, np.ones((2, 2, 2))).html()


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
    with pytest.raises(InputError, match="output folder cannot be written to"):
        write_scan_report(build_scan_report(scan, context, prediction), suvr, tmp_path / "taken", pdf=False)


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
    shown = _plain(
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
    assert "Since first the meta-ROI has risen by 4.2 %" in _plain(html)
    assert "Probability of AD" not in _plain(html)


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


def test_metrics_of_the_model_are_written_as_in_every_table(scan, context, prediction, suvr):
    metrics = (
        MetricRow(name="classwise_ece", value=0.148, low=0.13, high=0.26),
        MetricRow(name="balanced_accuracy", value=0.56, low=0.39, high=0.8),
    )
    model = context.model.model_copy(update={"metrics": metrics})
    report = build_scan_report(scan, replace(context, model=model), prediction)
    assert "Classwise ECE ↓14.8 %13.0 to 26.0" in _plain(scan_page(report, None).html())
    assert "Balanced accuracy ↑0.560.39 to 0.80" in _plain(scan_page(report, None).html())


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
    shown = _plain(page)
    assert (
        "Shown beside it are two training scans: of 21 tau-negative ones that with a meta-ROI of 1.15 and "
        "of 15 tau-positive ones that with a meta-ROI of 1.81. Each has the regional SUVR nearest to the "
        "mean of its group."
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
    shown = _plain(scan_page(report, suvr, typical=scans[:1]).html())
    assert (
        "Shown beside it is a training scan: of 21 tau-negative ones that with a meta-ROI of 1.15. It has"
        in shown
    )


def test_without_typical_scans_nothing_stands_beside(html):
    assert "beside it" not in _plain(html)
    assert "this scan on the cortex" in html
    assert "typical" not in _plain(html)
