"""The form for readers: what each step asks for, in a browser without scripts, and before axe-core."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from flows.serving.reads_server import reads_served
from flows.serving.reads_views import form_of, index_of
from flows.serving.servers import free_endpoint
from pipeline import tracking
from pipeline.evaluation.monitoring.reads import AskedRead, Read, RecordedRead
from pipeline.reporting.page.facts import NBSP
from pipeline.reporting.reading.read_page import ShownAnswer, given_of, step_of, values_of

SCAN = "sub-A_ses-1"
READ = Read("AB", "positive", "temporal", "limited", "AD", "reject", "borderline", "see slice 40")


def stored(read: Read, trace: str = "tr-1") -> RecordedRead:
    return RecordedRead(read, "a-1", trace, "2026-11-21T15:40:00Z", 1)


@pytest.mark.parametrize("read", [READ, Read("AB", None, None, "unreadable", verdict="accept")])
def test_what_the_form_holds_is_what_was_stored(read):
    values = values_of(stored(read)) | {"step": "whole"}
    given = given_of(values)
    assert {name: value or None for name, value in given.items()} == {
        name: value or None for name, value in read.to_dict().items() if name != "blind"
    }


def test_a_field_that_a_browser_does_not_send_is_empty_and_others_are_not_taken():
    given = given_of(
        {"step": "verdict", "reader": "AB", "verdict": "accept", "tau": "negative", "blind": "1"}
    )
    assert given == {"reader": "AB", "verdict": "accept", "reason": "", "comment": ""}


def test_a_blind_study_asks_for_the_read_then_the_verdict_then_corrections():
    asked = AskedRead("tr-1", {}, ("CN", "AD"), blind=True)
    first = replace(READ, verdict=None, blind=True)
    assert step_of(asked, (), "ab") == "own"
    assert step_of(asked, [stored(first)], "ab") == "verdict"
    assert step_of(asked, [stored(first)], "cd") == "own", "of another reader"
    assert step_of(asked, [stored(READ)], "ab") == "whole"
    assert step_of(asked, [stored(READ, "tr-0")], "ab") == "verdict", "on an earlier answer"
    assert step_of(replace(asked, blind=False), (), "ab") == "whole"


def test_the_probabilities_at_the_clinics_prevalence_are_shown_where_there_are_any():
    answer = {"probabilities": {"CN": 0.5, "AD": 0.5}, "clinic_probabilities": {"CN": 0.8, "AD": 0.2}}
    shown = ShownAnswer.of({**answer, "decision": "refer", "reasons": ["odd"]})
    assert shown.probabilities.replace(NBSP, " ") == "CN 80 %, AD 20 % at your clinic's prevalence"
    plain = ShownAnswer.of({"decision": "refer", "probabilities": answer["probabilities"]})
    assert plain.probabilities.replace(NBSP, " ") == "CN 50 %, AD 50 %"
    assert (shown.decision, shown.finding) == ("No finding: referred to an expert", "")
    refused = ShownAnswer.of({"decision": "refused", "probabilities": None, "prediction_set": None})
    assert (refused.decision, refused.probabilities) == ("Not applied", "")


@pytest.mark.slow
def test_axe_finds_no_violation(read_desk, violations):
    desk = read_desk()
    assert violations(index_of(desk, "").html()) == []
    assert violations(form_of(desk, SCAN, "token").html()) == []
    desk.record(SCAN, {"reader": "AB", "tau": "negative", "verdict": "accept", "comment": "W" * 900})
    for wrong in ("reader", "tau", "pattern", "quality", "verdict", "reason", "comment", "token"):
        page = form_of(desk, SCAN, "token", reader="AB", values={}, wrong=(wrong, "It is missing."))
        assert violations(page.html()) == []
    assert violations(form_of(desk, SCAN, "token", reader="AB", stored=1).html()) == []
    assert violations(index_of(desk, "AB").html()) == []


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("width", [1200, 400])
def test_a_reader_answers_in_a_browser_without_scripts(read_desk, browser, width):
    desk = read_desk(blind_reads=True)
    with reads_served(desk, free_endpoint("127.0.0.1", 0, "here")) as server:
        context = browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=False)
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        here = f"http://127.0.0.1:{server.server_address[1]}/"
        page.goto(here)
        page.get_by_role("link", name=SCAN).click()
        page.get_by_label("Your initials").fill("ab")
        page.get_by_label("Tau-positive").check()
        page.get_by_label("Pattern").select_option("temporal-and-beyond")
        page.get_by_role("button", name="Store my read").click()
        assert "Your read is entry 1" in page.inner_text("main")
        assert re.search(r"AD 84\s%", page.inner_text("main"))
        page.get_by_label("I reject it").check()
        page.get_by_role("button", name="Store my verdict").click()
        assert "To reject an answer needs a reason" in page.inner_text("main")
        page.get_by_label("Reason").select_option("off-target")
        page.get_by_role("button", name="Store my verdict").click()
        assert "Your read is entry 2" in page.inner_text("main")
        assert all(
            url.startswith((f"http://127.0.0.1:{server.server_address[1]}/", "data:")) for url in asked
        )
        context.close()
    (entry,) = tracking.answered_scans(desk.store, scan=SCAN)
    assert [(r.read.verdict, r.read.blind, r.superseded) for r in entry.reads] == [
        (None, True, True), ("reject", True, False),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.server
def test_a_form_of_another_site_is_refused_by_browser_and_server(read_desk, browser):
    desk = read_desk()
    with reads_served(desk, free_endpoint("127.0.0.1", 0, "here")) as server:
        place = f"http://127.0.0.1:{server.server_address[1]}/scan/{SCAN}"
        context = browser.new_context()
        page = context.new_page()
        page.goto(place)  # the cookie is there
        fields = {"token": "x", "step": "whole", "reader": "AB", "tau": "negative", "verdict": "accept"}
        inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
        page.goto("about:blank")
        page.set_content(f'<form method="post" action="{place}">{inputs}<button>go</button></form>')
        with page.expect_navigation():
            page.get_by_role("button").click()
        assert "The form was not sent by a page of this server" in page.inner_text("body")
        context.close()
    (entry,) = tracking.answered_scans(desk.store, scan=SCAN)
    assert entry.reads == ()
