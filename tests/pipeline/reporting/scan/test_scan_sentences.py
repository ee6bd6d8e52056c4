"""Sentences of a scan's report at the edges: no tests, classes without test scans, several alternatives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.prediction import reasons_to_refer
from pipeline.reporting.scan import scan_sentences as sentences
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_numbers import SetCount, Visit


@pytest.fixture
def report(scan, context, two):
    return build_scan_report(scan, context, two)


def _plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_a_headline_lists_every_other_class_of_the_set(report):
    classes = [c.model_copy(update={"in_set": True}) for c in report.classes]
    found = _plain(sentences.headline(classes))
    assert found == "Most like CN (72 %, plausible range 58 to 83 %). The scan may also be MCI or AD."


def test_of_equal_classes_the_first_is_the_headline(report):
    classes = [c.model_copy(update={"shown": 0.5, "in_set": True}) for c in report.classes[:2]]
    assert sentences.headline(classes).startswith("Most like CN (50")


@pytest.mark.parametrize(
    ("tested", "words"),
    [
        ((), "How often such sets hold the true class was not tested."),
        ((("CN", 0, 0),), "How often such sets hold the true class was not tested."),
        ((("CN", 9, 9), ("AD", 0, 0)), "true class of 9 of 9 CN scans. They are set to contain"),
        ((("CN", 9, 9), ("AD", 0, 0)), "of each class. No test scan was of MCI or AD."),
        ((("CN", 5, 9), ("MCI", 5, 9), ("AD", 5, 9)), "each class: for CN, MCI and AD they did not."),
    ],
)
def test_counts_are_stated_as_far_as_there_are_any(report, tested, words):
    found = tuple(SetCount(name=name, held=held, scans=scans) for name, held, scans in tested)
    assert words in sentences.tested_sentence(report.model_copy(update={"tested_sets": found}))


@pytest.mark.parametrize(("held", "short"), [(38, True), (39, True), (40, True), (41, False), (50, False)])
def test_sets_miss_their_aim_only_beyond_chance(report, held, short):
    """Of 50 scans at 90 %, 40 or fewer are held in 2.5 % of cases (binomial tables: .0245; 41: .0579)."""
    found = (SetCount(name="CN", held=held, scans=50),)
    text = sentences.tested_sentence(report.model_copy(update={"tested_sets": found}))
    assert ("for CN they did not" in text) == short


def test_several_classes_outside_the_set_are_named_together(report):
    shown = zip(report.classes, (0.6, 0.3, 0.1), (False, False, True), strict=True)
    classes = tuple(c.model_copy(update={"shown": p, "in_set": held}) for c, p, held in shown)
    text = sentences.own_thresholds_sentence(report.model_copy(update={"classes": classes}))
    assert text.startswith("CN and MCI are outside the set although they are more likely than a class inside")


def test_reasons_of_the_model_are_in_words_and_others_as_they_are(scan, context, doubtful):
    all_of_them = ("The head moved by 6 mm", *doubtful.reasons)
    report = build_scan_report(scan, context, replace(doubtful, reasons=all_of_them))
    assert sentences.reader_reasons(report) == [
        "The head moved by 6 mm",
        "The model does not decide between CN, MCI and AD",
        "No class is likely enough for a finding of the model",
    ]
    assert report.reasons == all_of_them, "programs get the numbers"


def test_a_model_that_gives_no_finding_at_all_has_its_own_reason(scan, context, doubtful):
    never = replace(doubtful, operating_point=1.0, reasons=())
    never = replace(never, reasons=reasons_to_refer(never))
    words = sentences.reader_reasons(build_scan_report(scan, context, never))
    assert words[-1] == "This model has not been shown to be right often enough, so every scan is referred"


def _visits(*values) -> tuple[Visit, ...]:
    """Visits a year apart: meta-ROI, and probability with its range where there is one."""
    keys = ("probability", "lower", "upper")
    return tuple(
        Visit(
            label=f"visit {n}", months=12.0 * (n - 1), meta_roi=suvr, **dict(zip(keys, known, strict=False))
        )
        for n, (suvr, *known) in enumerate(values, start=1)
    )


@pytest.mark.parametrize(
    ("last", "found"),
    [
        (1.2, "risen by 0.0 %, within its test-retest variation of 3.0 %: it may not have changed."),
        (1.23, "risen by 2.5 %, within its test-retest variation of 3.0 %: it may not have changed."),
        (1.2364, "risen by 3.03 %, more than its test-retest variation of 3.00 %."),
        (1.14, "fallen by 5.0 %, more than its test-retest variation of 3.0 %."),
    ],
)
def test_a_change_of_suvr_stands_beside_its_test_retest_variation(report, last, found):
    seen = report.model_copy(update={"visits": _visits((1.2,), (last,))})
    assert sentences.suvr_change_sentence(seen, 0.03) == f"Since visit 1 the meta-ROI has {found}"


def test_a_change_of_the_probability_is_judged_by_the_plausible_ranges(report):
    apart = report.model_copy(update={"visits": _visits((1.2, 0.3, 0.2, 0.5), (1.4, 0.72, 0.58, 0.83))})
    assert _plain(sentences.probability_change_sentence(apart)) == (
        "For the scan of visit 1 the same model gives CN a probability of 30 % (20 to 50 %), for this scan "
        "72 % (58 to 83 %); the plausible ranges do not overlap."
    )
    near = report.model_copy(update={"visits": _visits((1.2, 0.6, 0.4, 0.7), (1.4, 0.72, 0.58, 0.83))})
    assert _plain(sentences.probability_change_sentence(near)).endswith(
        "the plausible ranges overlap: the scans alone do not show a change."
    )


def test_without_earlier_predictions_no_change_of_the_probability_is_stated(report):
    for visits in (
        _visits((1.2,), (1.4,)),
        _visits((1.2,), (1.4, 0.7, 0.6, 0.8)),
        _visits((1.2, 0.7, 0.6, 0.8), (1.4,)),
    ):
        assert sentences.probability_change_sentence(report.model_copy(update={"visits": visits})) == ""


@pytest.mark.parametrize(
    ("suvr", "words"),
    [
        (1.0, ""),
        (1.20, "in cognitively normal training scans (z = 0.0)."),
        (1.29, "(z = +0.9)."),
        (1.2999, "(z = +0.999)."),
        (1.31, ""),
        (1.5, ""),
    ],
)
def test_a_value_in_the_zone_that_is_usual_in_normal_scans_is_called_so(report, suvr, words):
    status = "negative" if suvr < 1.19 else "positive" if suvr >= 1.34 else "uncertain"
    tau = report.tau.model_copy(update={"suvr": suvr, "status": status})
    meta = report.meta_roi.model_copy(update={"suvr": suvr, "norm_mean": 1.2, "norm_sd": 0.1})
    text = sentences.usual_sentence(report.model_copy(update={"tau": tau, "meta_roi": meta}))
    assert text.startswith("Such a value is usual in") == bool(words)
    assert text.endswith(words)
    assert sentences.usual_sentence(report.model_copy(update={"meta_roi": None})) == ""
