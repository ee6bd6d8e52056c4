"""The form for readers through real HTTP on loopback: what it shows and stores."""

from __future__ import annotations

import html as html_module
import re
import threading

import pytest
from desk_browser import GOOD, HOSTILE, PATH, SCAN, Browser, reads_of

from flows.serving.reads_server import ReadsServer, reads_served
from flows.serving.servers import free_endpoint
from pipeline import tracking
from pipeline.reporting.page.facts import SYNTHETIC
from pipeline.tracking import AnsweredScan


def test_a_form_that_is_sent_is_stored_as_the_command_stores_it(browser, open_desk):
    status, headers, _ = browser.send(**GOOD, comment="clear")
    assert (status, headers["Location"]) == (303, f"{PATH}?reader=AB&stored=1")
    (recorded,) = reads_of(open_desk)
    assert recorded.read.to_dict() == {
        "reader": "AB", "tau": "positive", "pattern": "temporal", "quality": "good", "diagnosis": "AD",
        "verdict": "accept", "reason": None, "comment": "clear", "blind": False,
    }  # fmt: skip
    assert [entry.kind for entry in tracking.audit_of(open_desk.output).entries()] == ["read"]
    page = browser.ask("GET", headers["Location"])[2]
    assert "Your read is entry 1 of the audit log." in page
    assert re.search(r'name="tau" value="positive" checked', page), "what was stored is there to be corrected"
    again = {"reader": "ab", "verdict": "reject", "reason": "borderline"}
    open_desk.record(SCAN, again)
    assert [r.superseded for r in reads_of(open_desk)] == [True, False]


def test_the_pseudonym_of_a_subject_with_one_scan_leads_to_it(browser, open_desk):
    page = browser.ask("GET", "/scan/sub-A")[2]
    assert 'action="' not in page, "a form goes where its token belongs"
    status, headers, _ = browser.send("/scan/sub-A", **GOOD)
    assert (status, headers["Location"]) == (303, f"{PATH}?reader=AB&stored=1")


def test_the_list_shows_who_has_read_what(browser, open_desk):
    page = browser.ask("GET", "/")[2]
    assert "Not read: 1" in page
    assert "nobody yet" in page
    browser.send(**GOOD)
    assert "Read: 1" in browser.ask("GET", "/")[2]
    assert "Not read by CD: 1" in browser.ask("GET", "/?reader=cd")[2]
    assert "Not read by AB: 0" in browser.ask("GET", "/?reader=ab")[2]


@pytest.mark.parametrize("path", ["/", "/scan/sub-P_ses-1"])
def test_a_scan_of_the_phantom_is_marked_synthetic(browser, open_desk, path):
    assert SYNTHETIC not in browser.ask("GET", "/")[2]
    (entry,) = tracking.answered_scans(open_desk.store, scan=SCAN)
    answered = AnsweredScan(
        "report", "sub-P_ses-1", "p" * 64, entry.version, "none", entry.answer, measured={"synthetic": True}
    )
    tracking.record_answer(open_desk.store, answered)
    assert SYNTHETIC in browser.ask("GET", path)[2]


def test_a_long_list_is_cut_and_says_so(browser, open_desk, monkeypatch):
    assert "Older scans" not in browser.ask("GET", "/")[2]
    monkeypatch.setattr("flows.serving.reads_views._MOST_ANSWERS", 1)
    page = browser.ask("GET", "/")[2]
    assert "tiny: the newest 1 scan that has an answer of the model" in page
    assert "Older scans are not listed" in page


def test_a_scan_that_is_not_readable_needs_one_choice(browser, open_desk):
    fields = {"tau": "unreadable", "pattern": "temporal", "quality": "good", "verdict": "reject"}
    assert browser.send(**fields, reason="image-quality")[0] == 303
    (recorded,) = reads_of(open_desk)
    assert (recorded.read.tau, recorded.read.pattern, recorded.read.quality) == (None, None, "unreadable")
    assert re.search(r'value="unreadable" checked', browser.ask("GET", f"{PATH}?reader=AB")[2])


def test_what_is_wrong_is_named_beside_its_field_and_nothing_that_was_written_is_lost(browser, open_desk):
    comment = f"{HOSTILE} {'long ' * 150}".strip()
    fields = GOOD | {"verdict": "reject", "comment": comment}
    status, _, page = browser.send(**fields)
    assert status == 422
    assert "Nothing was stored" in page
    assert '<a href="#reason">To reject an answer needs a reason.</a>' in page
    assert html_module.unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)[1]) == comment
    assert re.search(r'name="verdict" value="reject" checked', page)
    assert "<title>Error: " in page
    assert reads_of(open_desk) == ()


def test_a_form_is_blind_until_the_read_is_stored(read_desk):
    desk = read_desk(blind_reads=True)
    with reads_served(desk, free_endpoint("127.0.0.1", 0, "here")) as server:
        browser = Browser(server.server_address[1])
        assert "Finding" not in browser.ask("GET", "/")[2]
        for path in (PATH, f"{PATH}?reader=ab"):
            page = browser.ask("GET", path)[2]
            assert "84" not in re.sub(r"<style>.*?</style>|value=\"[^\"]*\"", "", page, flags=re.DOTALL)
            assert "The model's answer is shown once" in html_module.unescape(page)
            assert 'name="verdict"' not in page
        own = {name: GOOD[name] for name in ("tau", "pattern", "quality", "diagnosis")}
        assert browser.send(step="whole", **GOOD)[0] == 422, "no verdict before the read"
        _, headers, _ = browser.send(step="own", **own)
        page = browser.ask("GET", headers["Location"])[2]
        assert "AD 84" in page
        assert 'name="tau"' not in page
        assert browser.send(step="verdict", verdict="accept", reason="")[0] == 303
        assert [(r.read.blind, r.read.verdict, r.superseded) for r in reads_of(desk)] == [
            (True, None, True), (True, "accept", False),
        ]  # fmt: skip
        other = browser.ask("GET", f"{PATH}?reader=cd")[2]
        assert "AD 84" not in other, "another reader is blind too"
        changed = own | {"tau": "negative", "pattern": "none"}
        assert browser.send(step="whole", **changed, verdict="reject", reason="borderline")[0] == 303
        assert reads_of(desk)[-1].read.blind is False


def test_many_forms_at_once_are_all_stored_and_the_chain_holds(browser, open_desk):
    token = browser.token()
    done: list[int] = []

    def send(reader: str) -> None:
        done.append(Browser(browser.port, browser.cookie).send(token=token, **GOOD, reader=reader)[0])

    threads = [threading.Thread(target=send, args=(reader,)) for reader in ("ab", "cd", "ef", "gh", "ab")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [303] * 5
    assert sorted(r.read.reader for r in reads_of(open_desk)) == ["AB", "CD", "EF", "GH"]
    tracking.audit_of(open_desk.output).verify()


def test_an_error_that_nobody_foresaw_shows_no_detail(browser, open_desk, monkeypatch, capsys):
    def failing(*_, **__):
        raise ValueError("/home/jane")

    monkeypatch.setattr("flows.serving.reads_views.ReadDesk.find", failing)
    status, _, text = browser.ask("GET", PATH)
    assert (status, text) == (500, "Nothing was stored. Try again.\n")
    assert capsys.readouterr().err == "The form for readers failed: ValueError\n"


def test_the_server_listens_on_loopback_alone(server):
    assert isinstance(server, ReadsServer)
    assert server.server_address[0] == "127.0.0.1"
