import pytest

from models.card import Card
from pipeline.reporting.scan.model_facts import likeness_at, model_facts, model_versions


def test_training_and_test_are_stated_with_scans_and_subjects(small_classifier):
    facts = model_facts(small_classifier, "3")
    assert facts.version == "3"
    assert facts.trained_on == "90 synthetic AV1451 scans (60 CN, 20 MCI, 10 AD) of 80 subjects"
    assert facts.tested_on == "30 synthetic AV1451 scans of 25 other subjects"
    assert {v.label: v.value for v in facts.versions}["loss"] == "gce"


def test_versions_name_what_made_the_classifier(small_classifier):
    versions = model_versions(small_classifier, "3")
    assert versions["model version"] == "3"
    assert versions["calibrator"] == "temperature"
    assert "taucal" in versions


@pytest.mark.parametrize(("confidence", "right"), [(0.8, 3), (0.81, 9), (1.0, 9)])
def test_experience_is_that_of_test_scans_of_similar_confidence(confidence, right):
    card = Card.from_dict({"likeness": [[0.5, 0.8, 10, 3], [0.8, 1.0, 12, 9]]})
    found = likeness_at(card, confidence)
    assert found is not None
    assert found.right == right


def test_without_experience_there_is_none():
    assert likeness_at(Card(), 0.9) is None
