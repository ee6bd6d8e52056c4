"""Which answers of a reader are accepted, and what a second one of the same reader changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import InputError
from pipeline.evaluation.monitoring.reads import (
    LONGEST_COMMENT,
    AskedRead,
    Read,
    RecordedRead,
    current_reads,
    next_read,
    shown_of,
)

ANSWER = {"decision": "report", "prediction_set": ["CN", "MCI"]}
OPEN = AskedRead("tr-1", ANSWER, ("CN", "MCI", "AD"))
BLIND = replace(OPEN, blind=True)
POSITIVE = {"reader": "ab", "tau": "positive", "pattern": "temporal"}


def recorded(read: Read, number: int = 1, trace: str = "tr-1", **more) -> RecordedRead:
    return RecordedRead(read, f"a-{number}", trace, "2026-11-21T15:40:00Z", number, **more)


def test_a_read_holds_what_was_given():
    read = next_read({**POSITIVE, "verdict": "accept", "diagnosis": "MCI"}, (), OPEN)
    assert read == Read("AB", "positive", "temporal", "good", "MCI", "accept")
    assert not read.overrides
    assert read.sentence == (
        "AB accepts the model's answer. AB's own read: tau-positive; limited to the temporal lobe; class "
        "MCI; quality good."
    )


def test_what_a_reader_sees_is_not_written_as_what_the_model_answered():
    read = next_read({"reader": "AB", "tau": "negative", "verdict": "accept"}, (), OPEN)
    assert read.sentence == "AB accepts the model's answer. AB's own read: tau-negative; quality good."
    assert replace(read, blind=True).sentence == (
        "AB accepts the model's answer. AB's own read, before the model's answer was shown: tau-negative; "
        "quality good."
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reader": ""}, "reader: The reader is missing"),
        ({"reader": "Jane Doe"}, "reader: 'Jane Doe' are no initials"),
        ({"reader": "JANEDOE"}, "reader: 'JANEDOE' are no initials. Give initials of 1 to 6 letters"),
        ({"reader": "<b>"}, "reader: '<b>' are no initials"),
        ({"tau": "maybe"}, "tau: 'maybe' is not a known value. Give negative or positive"),
        ({"tau": ""}, "tau: It is missing whether the scan is tau-negative or tau-positive"),
        ({"pattern": ""}, "pattern: A tau-positive read has no pattern"),
        ({"pattern": "none"}, "pattern: A tau-positive read has no pattern"),
        ({"pattern": "frontal"}, "pattern: 'frontal' is not a known value"),
        ({"quality": "unreadable"}, "quality: The scan is not readable, but a read is given"),
        ({"diagnosis": "LBD"}, "diagnosis: 'LBD' is not a class of this study. Give CN, MCI or AD"),
        ({"diagnosis": "AD"}, "diagnosis: The answer CN or MCI is accepted, but the class given is AD"),
        ({"verdict": ""}, "verdict: The verdict on the model's answer is missing. Give accept, modify or"),
        ({"verdict": "perhaps"}, "verdict: 'perhaps' is not a known value"),
        ({"verdict": "reject"}, "reason: To reject an answer needs a reason"),
        ({"verdict": "modify", "reason": "weather"}, "reason: 'weather' is not a known value"),
        ({"verdict": "modify", "reason": "other"}, "comment: The reason is another one, which no text names"),
        ({"comment": "x" * (LONGEST_COMMENT + 1)}, "comment: The text has 1001 characters, expected at most"),
    ],
)
def test_what_is_missing_or_contradicts_itself_is_named_with_its_field(given, message):
    with pytest.raises(InputError, match=message.replace("<", r"\<")) as raised:
        next_read({**POSITIVE, "verdict": "accept", **given}, (), OPEN)
    assert raised.value.hint


def test_a_scan_that_is_not_readable_has_no_read():
    read = next_read({"reader": "AB", "quality": "unreadable", "verdict": "accept"}, (), OPEN)
    assert (read.tau, read.pattern, read.quality) == (None, None, "unreadable")
    assert "not read; quality not readable" in read.sentence


def test_a_negative_read_may_have_a_medial_temporal_pattern():
    given = {"reader": "AB", "tau": "negative", "pattern": "medial-temporal", "verdict": "accept"}
    assert next_read(given, (), OPEN).pattern == "medial-temporal"


def test_a_comment_is_one_line_without_control_and_direction_marks():
    hostile = "a\r\nb\x00\u202ec\ud800 <script>"
    read = next_read({**POSITIVE, "verdict": "accept", "comment": hostile}, (), OPEN)
    assert read.comment == "a bc <script>"


def test_a_correction_states_what_changes_and_the_rest_stays():
    first = Read("AB", "positive", "temporal", "limited", "AD", "reject", "borderline", "see slice 40")
    later = next_read({"reader": "AB", "verdict": "modify", "reason": "off-target"}, [recorded(first)], OPEN)
    assert later == replace(first, verdict="modify", reason="off-target")
    own = next_read({"reader": "AB", "tau": "negative"}, [recorded(first)], OPEN)
    assert own == Read("AB", "negative", None, "good", None, "reject", "borderline", "see slice 40")
    accepted = next_read({"reader": "AB", "verdict": "accept", "diagnosis": ""}, [recorded(first)], OPEN_AD)
    assert accepted.reason is None, "a reason belongs to the verdict that it was given for"


OPEN_AD = replace(OPEN, answer={"prediction_set": ["AD"]})


def test_of_another_reader_nothing_is_taken():
    first = recorded(Read("CD", "positive", "temporal", "good", verdict="accept"))
    with pytest.raises(InputError, match="tau: It is missing"):
        next_read({"reader": "AB", "verdict": "accept"}, [first], OPEN)


def test_a_verdict_on_an_earlier_answer_is_not_one_on_a_later():
    first = recorded(Read("AB", "positive", "temporal", "good", verdict="accept"), trace="tr-0")
    with pytest.raises(InputError, match="verdict: The verdict on the model's answer is missing"):
        next_read({"reader": "AB"}, [first], OPEN)
    assert next_read({"reader": "AB", "verdict": "accept"}, [first], OPEN).tau == "positive"


def test_a_blind_study_asks_for_the_read_first_and_the_verdict_alone_leaves_it_blind():
    with pytest.raises(InputError, match="verdict: The model's answer is shown after the read"):
        next_read({**POSITIVE, "verdict": "accept"}, (), BLIND)
    first = next_read(POSITIVE, (), BLIND)
    assert (first.blind, first.verdict) == (True, None)
    assert "has not seen the model's answer" in first.sentence
    second = next_read({"reader": "AB", "verdict": "accept"}, [recorded(first)], BLIND)
    assert second == replace(first, verdict="accept")


def test_a_read_that_is_changed_after_the_answer_was_shown_is_not_blind_any_more():
    first = recorded(next_read(POSITIVE, (), BLIND))
    same = next_read({**POSITIVE, "verdict": "accept"}, [first], BLIND)
    changed = next_read({"reader": "AB", "tau": "negative", "verdict": "accept"}, [first], BLIND)
    assert (same.blind, changed.blind) == (True, False)
    back = next_read({**POSITIVE, "verdict": "accept"}, [first, recorded(changed, 2)], BLIND)
    assert not back.blind, "what was seen cannot be unseen"


def test_a_read_outside_a_blind_study_is_never_blind():
    assert not next_read({**POSITIVE, "verdict": "accept"}, (), OPEN).blind
    with pytest.raises(InputError, match=r"verdict: The verdict .* is missing"):
        next_read(POSITIVE, (), OPEN)


def test_the_current_read_of_each_reader_is_the_last_that_no_other_supersedes():
    read = Read("AB", "negative", None, "good", verdict="accept")
    reads = [
        recorded(read, 3),
        recorded(read, 1, superseded=True),
        recorded(replace(read, reader="CD"), 2),
    ]
    assert [(r.read.reader, r.number) for r in current_reads(reads)] == [("CD", 2), ("AB", 3)]


def test_what_is_judged_is_the_answer_at_the_clinics_prevalence_where_one_is_stated():
    answer = {
        "decision": "report", "probabilities": {"CN": 0.5, "AD": 0.5}, "prediction_set": ["CN"],
        "clinic_probabilities": {"CN": 0.8, "AD": 0.2}, "most_likely": "CN",
    }  # fmt: skip
    assert shown_of(answer) == {
        "decision": "report", "most_likely": "CN", "confidence": 0.8, "prediction_set": ["CN"],
    }  # fmt: skip
    refused = {"decision": "refused", "probabilities": None, "prediction_set": None}
    assert shown_of(refused) == {
        "decision": "refused", "most_likely": None, "confidence": None, "prediction_set": [],
    }  # fmt: skip
