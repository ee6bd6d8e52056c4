"""An undecided challenger is judged again on scans of subjects from whom nothing was learned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.retraining import evidence
from pipeline.config import GateSettings, RetrainSettings
from pipeline.evaluation.monitoring.challenger import scans_of_others
from pipeline.evaluation.monitoring.verdict import GateCheck, Look, Verdict
from pipeline.learning.split_cohort import SplitCohort
from pipeline.scan import Cohort, Scan, Split

CLASSES = ("CN", "AD")


def verdict(outcome: str) -> Verdict:
    passed, undecided = outcome == "promote", outcome == "wait"
    check = GateCheck("negative_log_likelihood", passed, 0.0, 0.0, 0.0, 0.0, f"{outcome}.", undecided)
    return Verdict(passed, (check,))


def cohort_of(subjects: int) -> Cohort:
    scans = [Scan(f"{n:02}", "M0", Path(), diagnosis=CLASSES[n % 2]) for n in range(subjects)]
    return Cohort(tuple(scans), CLASSES)


def split_of(cohort: Cohort) -> Split:
    """Ten scans to learn from, five to test on."""
    ids = cohort.scan_ids
    subject_of = dict(zip(ids[:15], cohort.subjects[:15], strict=True))
    return Split(ids[:6], ids[6:8], ids[8:10], ids[10:15], subject_of)


@pytest.fixture
def asked(monkeypatch):
    """Replace the gate; return what it was asked, and answer what `answers` says."""
    calls = SimpleNamespace(looks=[], tested=[], answers=[])

    def gate(study, champion, challenger, test, scans, looks=()):
        calls.looks.append(tuple(looks))
        calls.tested.append(scans.split.test)
        return verdict(calls.answers.pop(0))

    monkeypatch.setattr(evidence, "ask_gate", gate)
    return calls


def again(months: float, subjects: int, facts: dict, **settings):
    cohort = cohort_of(subjects)
    split = split_of(cohort_of(15))
    known = SimpleNamespace(split=split, classifier=None, predictions=lambda scans: scans)
    gate = GateSettings(level=0.8, waiting=0.06)
    study = SimpleNamespace(retrain=RetrainSettings(gate=gate, wait_months=3, **settings))
    time = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=months * 365.25 / 12)).isoformat()
    scans = SplitCohort(cohort, None, split)
    return evidence.ask_again(study, known, known, scans, SimpleNamespace(facts=facts), time)


def first(outcome="wait", wait_months=3):
    study = SimpleNamespace(retrain=RetrainSettings(gate=GateSettings(level=0.8), wait_months=wait_months))
    return evidence.first_answer(study, verdict(outcome), list("aabbc"), "k", "2026-01-01T00:00:00Z")


def test_the_first_answer_is_the_gates_and_is_stored():
    found = first()
    assert (found.outcome, found.key) == ("wait", "k")
    assert found.facts["looks"] == [[3, pytest.approx(0.2)]]
    assert "later scans" in found.reasons[-1]
    assert first("promote").outcome == "promote"
    assert first("reject").reasons == ("reject.",)
    assert first(wait_months=0).outcome == "reject", "nobody is to wait"


def test_later_looks_are_on_all_scans_of_others_and_are_paid_for(asked):
    asked.answers = ["wait", "promote"]
    facts = first().facts | {"looks": [[5, 0.2]]}
    one = again(1, 18, facts)
    assert one.outcome == "wait"
    assert asked.tested[0] == cohort_of(18).scan_ids[10:], "the test part, and whoever came since"
    assert asked.looks[0] == (Look(5, 0.2), Look(8, pytest.approx(0.22, abs=0.002)))
    two = again(2, 20, one.facts)
    assert two.outcome == "promote"
    assert [look.subjects for look in asked.looks[1]] == [5, 8, 10]
    assert one.key != two.key


def test_without_another_subject_there_is_no_look(asked):
    facts = first().facts | {"looks": [[5, 0.2]]}
    same = again(1, 15, facts)
    assert (same.outcome, same.key) == ("wait", "")
    assert asked.looks == []


def test_who_has_waited_too_long_is_rejected_with_or_without_a_last_look(asked):
    facts = first().facts | {"looks": [[5, 0.2]]}
    old = again(3.5, 15, facts)
    assert old.outcome == "reject"
    assert "It has waited for 3.5 months, and 5 subjects do not decide." in old.reasons[-1]
    assert old.key
    asked.answers = ["wait", "promote"]
    assert again(3.5, 18, facts).outcome == "reject"
    assert again(3.5, 19, facts).outcome == "promote", "the last look may decide"


@pytest.fixture
def judged(monkeypatch):
    """Let the gate be asked about a champion of an audit entry; return the lead that it is given."""

    def lead_given(entry):
        monkeypatch.setattr(evidence, "chosen_by", lambda *_: entry)
        champion = SimpleNamespace(
            version=2,
            split=split_of(cohort_of(15)),
            predictions=lambda scans: SimpleNamespace(logits=None),
            classifier=SimpleNamespace(calibrator=SimpleNamespace(transform=lambda logits: "theirs")),
        )
        test = SimpleNamespace(scan_ids=cohort_of(20).scan_ids[10:])
        scans = SplitCohort(cohort_of(20), None, champion.split)
        study = SimpleNamespace(
            tracking=None, output=Path(), seed=0, retrain=SimpleNamespace(gate=GateSettings())
        )
        return evidence.ask_gate(study, champion, SimpleNamespace(prevalence=None), test, scans)

    rivals = SimpleNamespace(of=lambda *_: SimpleNamespace(baseline=None))
    monkeypatch.setattr(evidence, "Rivals", rivals)
    monkeypatch.setattr(evidence, "region_table", lambda study: None)
    monkeypatch.setattr(evidence.tracking, "store_of", lambda *_: None)
    monkeypatch.setattr(evidence, "judged_of", lambda *_, champion, baseline, lead: lead)
    monkeypatch.setattr(evidence, "judge", lambda lead, *_: lead)
    return lead_given


def passed_with(**facts):
    check = GateCheck("negative_log_likelihood", True, -0.04, -0.09, 0.01, 0.035, "Better.", luck=0.01)
    return SimpleNamespace(facts={"gate": Verdict(True, (check,)).to_dict(), "looks": [[40, 0.2]]} | facts)


def test_the_gate_is_told_by_what_the_champion_was_chosen_and_on_which_scans(judged):
    lead = judged(passed_with())
    assert (lead.lead, lead.spare, lead.subjects) == (pytest.approx(0.04), pytest.approx(0.025), 40)
    assert lead.shared == 0.5, "its test part of five, of ten scans; the others came since"
    later = judged(passed_with(looks=[[40, 0.2], [60, 0.25]]))
    assert (later.spare, later.subjects) == (pytest.approx(0.035), 60), "luck was allowed for at a later look"


def test_a_champion_that_met_no_other_or_not_the_gate_has_no_lead(judged):
    assert judged(None) is None
    first = GateCheck("baseline", True, -0.1, -0.2, 0.0, 0.0, "Better.")
    assert judged(passed_with(gate=Verdict(True, (first,)).to_dict())) is None
    old = passed_with()
    del old.facts["looks"]
    assert judged(old) is None, "as version 0.1.0 wrote it"


def test_scans_of_others_exclude_whoever_was_learned_from_by_either():
    cohort = cohort_of(18)
    split = split_of(cohort_of(15))
    second = Scan("03", "M12", Path(), diagnosis="CN")
    grown = Cohort((*cohort.scans, second), CLASSES)
    assert scans_of_others(grown, [split]) == cohort.scan_ids[10:]
    other = Split(cohort.scan_ids[15:16], (), (), (), {cohort.scan_ids[15]: "15"})
    assert scans_of_others(grown, [split, other]) == cohort.scan_ids[10:15] + cohort.scan_ids[16:]
