"""Requests that the form for readers refuses, whoever sends them, and what no page of it ever holds."""

from __future__ import annotations

import contextlib
import html as html_module
import re
import socket
from urllib.parse import urlencode

import pytest
from desk_browser import GOOD, HOSTILE, PATH, Browser, reads_of

from pipeline import tracking
from pipeline.tracking import AnsweredScan


def test_hostile_strings_are_inert(browser, open_desk):
    browser.send(**GOOD, comment=HOSTILE)
    for path in (PATH, f"{PATH}?reader=%22%3E%3Cscript%3E", "/?reader=%3Cimg%20src=x%3E"):
        _, _, page = browser.ask("GET", path)
        assert "<script" not in page
        assert "<img src=x" not in page
        assert "<b>odd" not in page
    assert reads_of(open_desk)[0].read.comment == HOSTILE


def test_every_page_has_the_policy_that_allows_one_form_and_nothing_else(browser):
    for path in ("/", PATH):
        _, headers, page = browser.ask("GET", path)
        policy = html_module.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1])
        assert "default-src 'none'" in policy
        assert "form-action 'self'" in policy
        assert "unsafe" not in policy
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers
        assert "Python" not in headers["Server"]


def test_the_cookie_is_of_this_site_alone_and_no_script_reads_it(browser):
    cookie = browser.ask("GET", PATH)[1]["Set-Cookie"]
    assert re.fullmatch(r"taucal_reads=[\w-]{32}; HttpOnly; SameSite=Strict; Path=/", cookie)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "localhost@evil.example"}, 421),
        ({"Host": "evil.example@localhost"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": None}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/json"}, 415),
        ({"Content_Length": "99999"}, 413),
        ({"Content_Length": "-1"}, 411),
        ({"Content_Length": "x"}, 411),
    ],
    ids=str,
)
def test_a_forged_request_is_refused_and_stores_nothing(browser, open_desk, headers, status):
    body = urlencode({"token": browser.token(), "step": "whole", "reader": "AB", **GOOD})
    assert browser.ask("POST", PATH, body, **headers)[0] == status
    assert reads_of(open_desk) == ()


def test_a_name_that_leads_here_by_rebinding_shows_nothing(browser):
    status, _, text = browser.ask("GET", PATH, Host="evil.example")
    assert (status, text) == (421, "This server answers to 127.0.0.1 and localhost alone.\n")
    assert browser.ask("GET", PATH, Host=f"localhost:{browser.port}")[0] == 200
    assert browser.ask("GET", PATH, Host="localhost:8080")[0] == 200, "through a tunnel"


def test_a_token_is_of_one_cookie_one_scan_and_one_server(browser, open_desk, monkeypatch):
    tracking.record_answer(open_desk.store, AnsweredScan("report", "sub-B_ses-1", "0", "3", "run", {}))
    mine = browser.token()
    moment, code = mine.split(".")
    stranger = Browser(browser.port)
    for sender, token, path in (
        (browser, "made.up", PATH),
        (browser, f"{int(moment) + 1}.{code}", PATH),
        (browser, f"{moment}.", PATH),
        (browser, "", PATH),
        (browser, "ü.ü", PATH),
        (browser, mine, "/scan/sub-B_ses-1"),
        (stranger, mine, PATH),
    ):
        body = urlencode({"token": token, "step": "whole", "reader": "AB", **GOOD})
        status, _, page = sender.ask("POST", path, body)
        assert status == 422
        assert "The form was too old. Nothing was stored" in page
        assert re.search(r'name="tau" value="positive" checked', page), "what was written is still there"
    assert reads_of(open_desk) == ()
    monkeypatch.setattr("flows.serving.reads_server._TOKEN_SECONDS", 0)
    assert browser.send(token=mine, **GOOD)[0] == 422, "too old"


def test_the_form_of_an_expired_token_can_be_sent_again(browser, open_desk):
    page = browser.send(token="1.old", **GOOD)[2]
    assert browser.send(token=re.search(r'name="token" value="([^"]+)"', page)[1], **GOOD)[0] == 303
    assert len(reads_of(open_desk)) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/scan/", 404),
        ("GET", "/scan/sub-Z_ses-9", 404),
        ("GET", "/scan/sub-A%27%20OR%201=1", 404),
        ("GET", "/scan/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/other", 404),
        ("GET", "//evil.example/scan/x", 404),
        ("PUT", PATH, 501),
        ("DELETE", PATH, 501),
        ("POST", "/", 404),
    ],
)
def test_what_is_no_page_is_answered_without_an_echo(browser, method, path, status):
    found, headers, text = browser.ask(method, path, "" if method == "POST" else None)
    assert found == status
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "passwd" not in text or "sub-" not in text


def test_a_field_that_comes_twice_and_bytes_that_are_no_text_are_refused(browser, open_desk):
    token = browser.token()
    twice = urlencode([("token", token), ("reader", "AB"), ("reader", "CD"), *GOOD.items()])
    assert browser.ask("POST", PATH, twice)[0] == 400
    assert browser.ask("POST", PATH, f"token={token}&comment=%ff%fe")[0] == 400
    assert browser.ask("POST", PATH, "&".join(f"a{n}=1" for n in range(50)))[0] == 400
    assert reads_of(open_desk) == ()


def test_bytes_that_are_no_request_do_not_end_the_server(browser, server):
    odd = (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000 + b"\r\n\r\n")
    for sent in odd:
        connection = socket.create_connection(server.server_address, timeout=60)
        with connection, contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    assert browser.ask("GET", "/")[0] == 200
