"""The card of a classifier: what is stored is read back, by this program and of older ones."""

from __future__ import annotations

import json

import pytest

from models.bundle import BundleFormatError
from models.card import Card, ConfidenceBin
from models.classifier import CalibratedClassifier

STORED = {
    "study": "small",
    "synthetic": True,
    "tracer": "AV1451",
    "imaging": {"tracer_window_min": [75, 105], "reference": None},
    "loss": {"name": "gce", "options": {"q": 0.7}, "label": None},
    "calibrator": {"name": "temperature", "reason": "It had the lowest NLL."},
    "split": {"train": 90, "validation": 20, "calibration": 30, "test": 30},
    "class_counts": {"CN": 60, "AD": 30},
    "subjects": {"test": 25, "train": 80},
    "metrics": {"brier_score": {"value": 0.4, "low": 0.3, "high": 0.5}},
    "coverage": {"CN": [18, 20], "AD": [9, 10]},
    "likeness": [[0.0, 0.1, 0, 0], [0.8, 0.9, 20, 11]],
    "norms": [{"region": "amygdala", "side": "left", "mean": 1.1, "sd": 0.1, "n": 12}],
    "data_digest": "00aa",
    "split_digest": "11bb",
}


def test_a_card_as_programs_before_wrote_it_keeps_every_fact():
    written = Card.from_dict(STORED).to_dict()
    subjects = written.pop("subjects")
    assert subjects == STORED["subjects"] | {"validation": None, "calibration": None}
    kept = {name: value for name, value in STORED.items() if name != "subjects"}
    assert written == kept | {"scheme": "split", "noise": {}}


def test_reading_what_was_written_gives_the_same_card():
    card = Card.from_dict(STORED)
    assert Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card


@pytest.mark.parametrize("key", STORED)
def test_a_card_without_one_of_its_facts_is_read(key):
    card = Card.from_dict({name: value for name, value in STORED.items() if name != key})
    assert getattr(card, key) == getattr(Card(), key)


def test_a_key_of_a_newer_program_is_stored_again_at_every_level():
    stored = STORED | {"reviewer": {"seen": None}, "split": {"train": 90, "external": 7}}
    written = Card.from_dict(stored).to_dict()
    assert written["reviewer"] == {"seen": None}
    assert written["split"]["external"] == 7


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"split": {"train": "90"}}, r"card\.split\.train: .*found '90'"),
        ({"synthetic": "yes"}, r"card\.synthetic: "),
        ({"metrics": {"brier_score": {"value": 0.4}}}, r"card\.metrics\.brier_score\.low: "),
        ({"likeness": [[0.1, 0.2, 3]]}, r"card\.likeness\.0\.3: "),
        ({"coverage": {"CN": 18}}, r"card\.coverage\.CN: "),
        ({"norms": "none"}, r"card\.norms: "),
    ],
)
def test_a_wrong_type_is_an_error_that_names_the_key(change, key):
    with pytest.raises(BundleFormatError, match=key):
        Card.from_dict(STORED | change)


@pytest.mark.parametrize("stored", [[], "text", 3, None])
def test_what_is_no_mapping_is_an_error(stored):
    with pytest.raises(BundleFormatError, match=r"^card: "):
        Card.from_dict(stored)


def test_a_bin_holds_its_upper_end_and_the_first_its_lower_end_too():
    card = Card(likeness=(ConfidenceBin(0, 0.5, 1, 1), ConfidenceBin(0.5, 0.9, 2, 1)))
    bins = [card.bin_of(confidence) for confidence in (0.0, 0.5, 0.51, 0.95)]
    assert bins == [card.likeness[0], card.likeness[0], card.likeness[1], None]


def test_a_bundle_with_an_older_card_is_loaded_and_stored_again(small_classifier, tmp_path, monkeypatch):
    older = {"tracer": "AV1451", "subjects": {"test": 25}, "written_by": "0.0.9"}
    with monkeypatch.context() as patch:
        patch.setattr(Card, "to_dict", lambda _: older)
        small_classifier.save(tmp_path / "old")
    loaded = CalibratedClassifier.load(tmp_path / "old")
    assert (loaded.card.subjects.test, loaded.card.subjects.train) == (25, None)
    again = CalibratedClassifier.load(loaded.save(tmp_path / "new"))
    assert again.card == loaded.card
    assert again.card.to_dict()["written_by"] == "0.0.9"
