"""Sentences of a scan's report at the edges: no tests, classes without test scans, several alternatives."""

from __future__ import annotations

import pytest

from pipeline.reporting.scan import scan_sentences as sentences
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_numbers import SetCount


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
        ((("CN", 9, 9), ("AD", 0, 0)), "true class of 9 of 9 CN scans. They are made"),
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
