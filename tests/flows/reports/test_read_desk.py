"""A reader's answer by the command: which scan it is about, and what the reader sees of it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipeline import tracking
from pipeline.errors import InputError
from pipeline.files import write_json
from pipeline.tracking import AnsweredScan

GIVEN = {"reader": "AB", "tau": "positive", "pattern": "temporal", "verdict": "accept"}


def typed(desk, *arguments: str):
    result = CliRunner().invoke(app, [*arguments, "--study", str(desk.output)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_a_scan_is_found_by_the_pseudonym_of_its_subject_unless_that_has_several(read_desk):
    desk = read_desk()
    assert desk.record("sub-A", GIVEN)[0].scan == "sub-A_ses-1"
    tracking.record_answer(desk.store, AnsweredScan("report", "sub-A_ses-2", "0a", "3", "run", {}))
    message = "sub-A: The subject has 2 scans. Give one of sub-A_ses-1, sub-A_ses-2"
    with pytest.raises(InputError, match=message):
        desk.record("sub-A", GIVEN)
    with pytest.raises(InputError, match="sub-B: No report or prediction of this scan is recorded"):
        desk.record("sub-B", GIVEN)


def test_a_read_belongs_to_the_last_answer_and_earlier_reads_are_known(read_desk):
    desk = read_desk()
    desk.record("sub-A_ses-1", GIVEN)
    tracking.record_answer(desk.store, AnsweredScan("report", "sub-A_ses-1", "0a", "4", "run", {}))
    entry, recorded = desk.record(
        "sub-A_ses-1", {"reader": "AB", "verdict": "reject", "reason": "processing"}
    )
    assert (entry.version, recorded.read.tau, recorded.read.verdict) == ("4", "positive", "reject")
    reads = {e.version: [r.read.verdict for r in e.reads] for e in tracking.answered_scans(desk.store)}
    assert reads == {"3": ["accept"], "4": ["reject"]}, "both are current: each is about another answer"


def test_the_command_stores_the_read_and_shows_the_answer(read_desk):
    desk = read_desk()
    call = ("read", "sub-A_ses-1", "ab", "modify", "--tau", "negative", "--reason", "off-target", "--json")
    found = json.loads(typed(desk, *call).stdout)
    assert (found["scan"], found["entry"], found["reader"], found["verdict"]) == (
        "sub-A_ses-1", 1, "AB", "modify",
    )  # fmt: skip
    assert found["answer"]["prediction_set"] == ["AD"]
    listed = json.loads(typed(desk, "reports", "--json").stdout)
    assert listed[0]["reads"][0]["read"]["tau"] == "negative"
    assert "AB (modify)" in typed(desk, "reports").stdout
    audited = json.loads(typed(desk, "audit", "--json").stdout)
    assert [(entry["kind"], entry["who"]) for entry in audited] == [("read", "AB")]


@pytest.mark.parametrize("clinic", [False, True])
def test_the_command_shows_the_probabilities_of_the_report_and_their_prevalence(read_desk, clinic):
    desk = read_desk()
    answer = {"decision": "report", "probabilities": {"CN": 0.779, "AD": 0.221}, "prediction_set": ["CN"]}
    if clinic:
        answer |= {
            "clinic_probabilities": {"CN": 0.81, "AD": 0.19}, "clinic_prevalence": {"CN": 0.6, "AD": 0.4},
        }  # fmt: skip
    tracking.record_answer(desk.store, AnsweredScan("report", "sub-A_ses-1", "0a", "4", "run", answer))
    shown = " ".join(typed(desk, "read", "sub-A", "AB", "accept", "--tau", "negative").stdout.split())
    assert ("81.0 %" in shown, "77.9 %" in shown) == (clinic, not clinic)
    assert ("at your clinic's prevalence (CN 60 %, AD 40 %)" in shown) == clinic
    assert ("at the prevalence of training" in shown) == (not clinic)


def test_a_blind_read_by_the_command_comes_first_and_its_verdict_second(read_desk):
    desk = read_desk(blind_reads=True)
    with pytest.raises(InputError, match="verdict: The model's answer is shown after the read"):
        typed(desk, "read", "sub-A", "AB", "accept", "--tau", "negative")
    first = typed(desk, "read", "sub-A", "AB", "--tau", "negative")
    assert "83.7 %" in first.stdout
    assert "Now give your verdict: `taucal read sub-A_ses-1 AB accept`, modify or reject." in first.stderr
    found = json.loads(typed(desk, "read", "sub-A", "AB", "accept", "--json").stdout)
    assert (found["blind"], found["verdict"], found["tau"]) == (True, "accept", "negative")


@pytest.mark.parametrize("synthetic", [False, True])
def test_a_read_appears_in_the_list_of_reports(read_desk, synthetic):
    desk = read_desk()
    place = desk.output / "reports" / "sub-A_ses-1"
    stored = {
        "subject": "A", "session": "1", "report_date": "2026-11-21", "synthetic": synthetic,
        "verdict": "report",
        "headline": "Most like AD", "quality": "pass", "model": {"version": "3"},
    }  # fmt: skip
    write_json(place / "report.json", stored)
    desk.record("sub-A_ses-1", GIVEN)
    page = (desk.output / "reports" / "index.html").read_text()
    assert "read by AB: accepts the answer" in page
    desk.record("sub-A_ses-1", {"reader": "AB", "verdict": "reject", "reason": "borderline"})
    page = (desk.output / "reports" / "index.html").read_text()
    assert "read by AB: rejects the answer" in page
    assert "accepts" not in page
    agreement = (desk.output / "reports" / "agreement.html").read_text()
    assert ("SYNTHETIC: a computed phantom" in agreement) == synthetic


def test_a_list_that_cannot_be_written_is_named_and_the_read_is_stored(read_desk, capsys):
    desk = read_desk()
    (desk.output / "reports" / "index.html").mkdir(parents=True)
    assert desk.record("sub-A_ses-1", GIVEN)[1].number == 1
    assert "The list of reports is not written" in capsys.readouterr().err
