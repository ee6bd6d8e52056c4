"""The form for readers through real HTTP on loopback: what it stores, and which requests it refuses."""

from __future__ import annotations

import contextlib
import html as html_module
import http.client
import re
import socket
import threading
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest

from flows.serving.reads_server import ReadsServer, reads_served
from flows.serving.servers import free_endpoint
from pipeline import tracking
from pipeline.reporting.page.facts import SYNTHETIC
from pipeline.tracking import AnsweredScan

SCAN = "sub-A_ses-1"
PATH = f"/scan/{SCAN}"
HOSTILE = '"><script>alert(1)</script></textarea><img src=x onerror=alert(1)>'


@dataclass
class Browser:
    """As much of a browser as the form needs."""

    port: int
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: str | None = None, **more: str | None):
        """Send one request; return status, headers and text. A header that is None is left out."""
        headers = {"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie, **self.headers}
        if method == "POST":
            headers |= {
                "Origin": f"http://127.0.0.1:{self.port}", "Sec-Fetch-Site": "same-origin",
                "Content-Type": "application/x-www-form-urlencoded",
            }  # fmt: skip
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            sent = {name: value for name, value in headers.items() if value is not None}
            connection.putrequest(method, path, skip_host=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in headers:
                connection.putheader("Content-Length", str(len(body.encode())))
            connection.endheaders(None if body is None else body.encode())
            answer = connection.getresponse()
            text = answer.read().decode()
        if cookie := answer.headers.get("Set-Cookie"):
            self.cookie = cookie.partition(";")[0]
        return answer.status, answer.headers, text

    def token(self, path: str = PATH) -> str:
        return re.search(r'name="token" value="([^"]+)"', self.ask("GET", path)[2])[1]

    def send(self, path: str = PATH, *, token: str | None = None, **fields: str):
        """Send a form as a page of the server does."""
        body = {"token": token or self.token(path), "step": "whole", "reader": "ab", **fields}
        return self.ask("POST", path, urlencode(body))


GOOD = {"tau": "positive", "pattern": "temporal", "quality": "good", "diagnosis": "AD", "verdict": "accept"}


@pytest.fixture
def open_desk(read_desk):
    return read_desk()


@pytest.fixture
def server(open_desk):
    with reads_served(open_desk, free_endpoint("127.0.0.1", 0, "here")) as server:
        yield server


@pytest.fixture
def browser(server) -> Browser:
    return Browser(server.server_address[1])


def reads_of(desk):
    (entry,) = tracking.answered_scans(desk.store, scan=SCAN)
    return entry.reads


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
