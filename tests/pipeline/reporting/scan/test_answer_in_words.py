"""How the page words an answer: what it rests on, how uncertain it is, and why a scan has none."""

import re
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from page_words import words_seen

from models.card import Card
from models.prediction import reasons_to_refer
from pipeline.errors import RefusedScan, sentence
from pipeline.imaging.quality import judge, refuse_if_needed
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_page import scan_page, scan_schema


def test_a_clinics_prevalence_moves_the_page_and_the_training_one_stands_beside(
    scan, context, two, at_clinic, suvr, html
):
    assert "your clinic" not in html
    moved = at_clinic(replace(two, operating_point=0.5), (0.3, 0.6, 0.1))
    assert [round(100 * p) for p in moved.shown] == [45, 52, 3]
    shown = words_seen(scan_page(build_scan_report(scan, context, moved), suvr).html())
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
    shown = words_seen(scan_page(build_scan_report(scan, context, two), suvr).html())
    assert "Most like CN (72 %, plausible range 58 to 83 %). The scan may also be MCI." in shown
    assert "The prediction set is CN or MCI: the model does not decide between them." in shown
    assert "only class" not in shown


def test_a_scan_unlike_those_of_training_is_referred_in_plain_words(scan, context, prediction, suvr):
    far = replace(prediction, mahalanobis=45.0, energy=3.0, decision="refer")
    far = replace(far, reasons=reasons_to_refer(far))
    page = scan_page(build_scan_report(scan, context, far), suvr).html()
    first, *_, facts = (words_seen(sheet) for sheet in page.split('<section class="sheet"')[1:])
    assert (
        "The scan is unlike those the classifier was trained on: at most about 1 of 100 accepted scans"
        in first
    )
    assert "This scan is unlike the test scans: what was counted on them may not hold for it." in first
    assert "45.0" not in first
    assert "Distance to the scans of training (Mahalanobis)45.0at most 31.0refer" in facts


def test_what_was_not_tested_is_not_promised(scan, context, prediction):
    untested = replace(context, card=Card())
    shown = words_seen(scan_page(build_scan_report(scan, untested, prediction), None).html())
    assert "How often such sets hold the true class was not tested." in shown
    assert "They are set to contain the true class in at least 90 % of the scans of each class." in shown
    assert "test scans with a highest" not in shown


def test_sets_that_missed_their_aim_are_named(scan, context, prediction):
    counts = {"CN": (12, 24), "MCI": (13, 16), "AD": (4, 4)}
    missed = replace(context, card=context.card.model_copy(update={"coverage": counts}))
    shown = words_seen(scan_page(build_scan_report(scan, missed, prediction), None).html())
    assert "12 of 24 CN, 13 of 16 MCI, 4 of 4 AD scans. They were set to contain the true" in shown
    assert "true class in at least 90 % of the scans" in shown
    assert "of each class: for CN they did not." in shown


def test_a_class_outside_the_set_may_be_likelier_than_one_inside(scan, context, two):
    odd = replace(two, prediction_set=("CN", "AD"))
    shown = words_seen(scan_page(build_scan_report(scan, context, odd), None).html())
    assert "MCI is outside the set although it is more likely than a class inside: each class has a" in shown


def test_figures_at_a_limit_are_written_so_that_they_differ(scan, context, two):
    close = replace(two, operating_point=0.724, decision="refer", reasons=("the confidence is too low",))
    shown = words_seen(scan_page(build_scan_report(scan, context, close), None).html())
    assert "Confidence: highest probability 72.0 %at least 72.4 %refer".replace("y 7", "y7") in shown


def test_a_model_without_an_operating_point_has_no_least_confidence(scan, context, two, at_clinic):
    never = replace(two, operating_point=1.0, reasons=())
    never = replace(never, decision="refer", reasons=reasons_to_refer(never))
    shown = words_seen(scan_page(build_scan_report(scan, context, never), None).html())
    assert "highest probability72.0 %none: no finding for any scanrefer" in shown
    assert "100.0 %" not in shown
    clinic = build_scan_report(scan, context, at_clinic(never, (0.3, 0.6, 0.1)))
    shown = words_seen(scan_page(clinic, None).html())
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


def test_one_network_states_what_its_range_leaves_out(html):
    shown = words_seen(html)
    assert "Faded part: its plausible range; the last section explains what that covers. Blue" in shown
    assert "It shows how uncertain the calibration is, widened by a factor of 2. The factor was" in shown
    assert "chosen on simulated scans, whose true probability is known; on real scans it cannot be" in shown
    assert "It does not cover: training the network again, differences between your patients and the" in shown
    part = shown.partition("What the plausible range covers")[2].partition("Limitations of the model")[0]
    assert "networks" not in part


def test_a_classifier_of_an_older_version_has_the_range_of_its_refits(scan, context, averaged):
    old = replace(averaged, range_factor=None, ood_quantile=None, largest_set=1)
    shown = words_seen(scan_page(build_scan_report(scan, context, old), None).html())
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
    shown = words_seen(scan_page(report, suvr).html())
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
    shown = words_seen(scan_page(build_scan_report(scan, context, doubtful), suvr).html())
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
    shown = words_seen(scan_page(build_scan_report(bare, context, None, refusal), None).html())
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
    shown = words_seen(scan_page(report, None).html())
    failed, _, passed = shown.partition("PassedLimit")
    assert "Motion between frames (mm): 1warn above 6, refuse above 12" in passed
    assert "Better fit of the head turned over: −0.0832" in passed, "with the minus of all numbers"
    assert "brain-overlaprefuseDice overlap with the template's brain: 0.31" in failed
