from dataclasses import replace

import pytest

from models.card import Card
from pipeline.reporting.scan.model_facts import likeness_at, model_facts, model_versions, set_counts


def test_training_and_test_are_stated_with_scans_and_subjects(small_classifier):
    facts = model_facts(small_classifier, "3")
    assert facts.version == "3"
    assert facts.trained_on == "90 synthetic AV1451 scans (60 CN, 20 MCI, 10 AD) of 80 subjects"
    assert facts.tested_on == "30 synthetic AV1451 scans of 25 other subjects"
    assert {v.label: v.value for v in facts.versions}["loss"] == "gce"


def test_what_an_older_card_does_not_hold_is_not_printed_as_none(small_classifier):
    facts = model_facts(replace(small_classifier, card=Card()), "3")
    assert facts.trained_on == facts.tested_on == "AV1451 scans (their number is not stored)"


def test_the_target_is_named_in_words(small_classifier):
    assert model_facts(small_classifier, "3").target == "diagnosis"
    other = replace(small_classifier, card=Card(target="amyloid_status"))
    assert model_facts(other, "3").target == "amyloid status"


def test_the_level_of_the_intervals_is_that_of_the_study(small_classifier):
    assert model_facts(small_classifier, "3").level == 0.95
    wide = replace(small_classifier, card=small_classifier.card.model_copy(update={"level": 0.9}))
    assert model_facts(wide, "3").level == 0.9
    assert Card.from_dict(wide.card.to_dict()).level == 0.9


def test_classes_with_few_calibration_scans_are_a_limitation(small_classifier):
    few = (
        "Classes with few calibration scans (10 of CN, 10 of MCI and 10 of AD): their prediction sets can be"
    )
    assert [line for line in model_facts(small_classifier, "3").where_it_fails if line.startswith(few)]
    counts = replace(small_classifier.conformal, counts=(60, 19, 20))
    facts = model_facts(replace(small_classifier, conformal=counts), "3")
    assert facts.where_it_fails[-1] == (
        "Classes with few calibration scans (19 of MCI): their prediction sets can be wider than needed."
    )
    counts = replace(small_classifier.conformal, counts=(60, 20, 20))
    assert len(model_facts(replace(small_classifier, conformal=counts), "3").where_it_fails) == 4


def test_tested_sets_are_in_the_order_of_the_classes():
    card = Card(coverage={"AD": (4, 4), "CN": (12, 24)})
    assert [(t.name, t.held, t.scans) for t in set_counts(card, ("CN", "MCI", "AD"))] == [
        ("CN", 12, 24),
        ("AD", 4, 4),
    ]


def test_versions_name_what_made_the_classifier(small_classifier):
    versions = model_versions(small_classifier, "3")
    assert versions["model version"] == "3"
    assert versions["calibrator"] == "temperature scaling"
    assert "taucal" in versions


@pytest.mark.parametrize(("confidence", "right"), [(0.8, 3), (0.81, 9), (1.0, 9)])
def test_experience_is_that_of_test_scans_of_similar_confidence(confidence, right):
    card = Card.from_dict({"likeness": [[0.5, 0.8, 10, 3], [0.8, 1.0, 12, 9]]})
    found = likeness_at(card, confidence)
    assert found is not None
    assert found.right == right


def test_without_experience_there_is_none():
    assert likeness_at(Card(), 0.9) is None
