"""Notices reach a real web and mail server; where they do not, nothing fails and no secret shows."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flows.running.notify import send_notice
from pipeline.config import Study

SECRET = "T0KEN-s3cret"


def study_with(**notify) -> Study:
    return Study(name="tiny", output="out", cohort={"path": "bids"}, notify=notify)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def web():
    """Port of a web server, what it received, and the status it answers with."""
    received, answer = [], {"status": 200}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(answer["status"])
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - the library's name

        def log_message(self, *_):
            pass

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, received, answer


@pytest.fixture
def mail():
    """Port of a mail server and the conversations it had."""
    conversations = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            said = []
            conversations.append(said)
            self.wfile.write(b"220 here\r\n")
            for line in self.rfile:
                said.append(line.decode().rstrip("\r\n"))
                if said[-1].upper() == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    while (line := self.rfile.readline()) != b".\r\n":
                        said.append(line.decode().rstrip("\r\n"))
                if said[-1].upper().startswith("EHLO"):
                    self.wfile.write(b"250-here\r\n250 AUTH PLAIN\r\n")
                elif said[-1].upper().startswith("AUTH"):
                    self.wfile.write(b"235 welcome\r\n")
                elif said[-1].upper() == "QUIT":
                    self.wfile.write(b"221 bye\r\n")
                else:
                    self.wfile.write(b"250 well\r\n")

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, conversations


def test_a_webhook_gets_event_study_time_and_facts(web, capsys):
    port, received, _ = web
    send_notice(
        study_with(webhook=f"http://127.0.0.1:{port}/hook/{SECRET}"), "promotion", {"version": 3, "nll": 0.25}
    )
    ((path, kind, notice),) = received
    assert (path, kind) == (f"/hook/{SECRET}", "application/json")
    assert datetime.fromisoformat(notice.pop("time")).tzinfo is not None
    assert notice == {"event": "promotion", "study": "tiny", "facts": {"version": 3, "nll": 0.25}}
    assert capsys.readouterr().err == ""


def test_a_mail_has_sender_receivers_and_facts(mail, monkeypatch, capsys):
    port, conversations = mail
    monkeypatch.setenv("MAIL_PASSWORD", SECRET)
    sender = {"sender": "taucal@clinic.example", "to": ("a@clinic.example", "b@clinic.example")}
    login = {"user": "taucal", "password_env": "MAIL_PASSWORD"}
    send_notice(
        study_with(email={"host": "127.0.0.1", "port": port, **sender, **login}), "shift", {"scans": 12}
    )
    (said,) = conversations
    assert any(line.startswith("AUTH PLAIN") for line in said)
    commands = [
        line.partition(" size=")[0].lower() for line in said
    ]  # Python 3.13 writes them in small letters
    assert "mail from:<taucal@clinic.example>" in commands
    assert [line for line in commands if line.startswith("rcpt to")] == [
        "rcpt to:<a@clinic.example>",
        "rcpt to:<b@clinic.example>",
    ]
    assert "Subject: taucal: shift of tiny" in said
    assert "scans: 12" in said
    assert capsys.readouterr().err == ""


def test_a_service_of_apprise_gets_title_and_facts(web, capsys):
    port, received, _ = web
    send_notice(study_with(urls=(f"json://127.0.0.1:{port}/{SECRET}",)), "shift", {"scans": 12})
    ((path, _, notice),) = received
    assert path == f"/{SECRET}"
    assert notice["title"] == "taucal: shift of tiny"
    assert notice["message"].startswith("shift, study tiny, 20")
    assert notice["message"].endswith("\nscans: 12")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("json://127.0.0.1:1/{}", "did not accept it"),
        ("json://jo:{}@127.0.0.1:1/", "did not accept it"),
        ("nothing://{}", "apprise cannot read it"),
        ("{}", "apprise cannot read it"),
    ],
    ids=["nobody listens", "password", "unknown service", "no address"],
)
def test_an_address_of_apprise_out_of_reach_is_reported_without_its_secrets(form, reason, capfd, caplog):
    send_notice(study_with(urls=("json://127.0.0.1:1/", form.format(SECRET))), "failure", {})
    output, errors = capfd.readouterr()
    assert f"address 2 of notify.urls: {'apprise cannot' if 'apprise' in reason else 'the service'}" in errors
    assert reason in " ".join(errors.split())
    assert SECRET not in output + errors + caplog.text


@pytest.mark.parametrize("status", [302, 307, 403, 500])
def test_a_service_of_apprise_that_refuses_or_points_elsewhere_is_not_followed(web, status, capsys):
    port, received, answer = web
    answer["status"] = status
    send_notice(study_with(urls=(f"json://127.0.0.1:{port}/?redirect=yes",)), "failure", {})
    assert len(received) == 1
    assert "address 1 of notify.urls: the service did not accept it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "notify",
    [
        {"webhook": "http://127.0.0.1:{}/"},
        {"urls": ("json://127.0.0.1:{}/",)},
        {"email": {"host": "127.0.0.1", "port": "{}", "sender": "a@b.example", "to": ("c@b.example",)}},
    ],
    ids=["webhook", "apprise", "mail"],
)
def test_a_server_that_is_silent_is_not_waited_for(notify, monkeypatch, capsys):
    monkeypatch.setattr("flows.running.notify._SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        send_notice(study_with(**json.loads(json.dumps(notify).replace("{}", str(port)))), "failure", {})
    assert "The notice of 'failure' did not reach" in capsys.readouterr().err


def test_no_receiver_is_no_error(capsys):
    send_notice(study_with(), "failure", {})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("webhook", "told"),
    [
        (f"http://127.0.0.1:1/{SECRET}", "Connection refused"),
        (f"http://jo:{SECRET}@127.0.0.1:1/", "did not reach the webhook"),
        (f"file:///etc/{SECRET}", "does not begin with http"),
        (f"{SECRET}", "does not begin with http"),
        (f"http://{SECRET}\n/", "did not reach the webhook"),
    ],
    ids=["nobody listens", "password", "file", "no address", "line break"],
)
def test_a_webhook_out_of_reach_is_said_without_its_secrets(webhook, told, capsys):
    send_notice(study_with(webhook=webhook), "failure", {"kind": "TrainingError"})
    said = capsys.readouterr().err
    assert told in said
    assert "'failure'" in said
    assert SECRET not in said


@pytest.mark.parametrize("status", [302, 307, 403, 500])
def test_a_webhook_that_refuses_or_points_elsewhere_is_said_and_not_followed(web, status, capsys):
    port, received, answer = web
    answer["status"] = status
    send_notice(study_with(webhook=f"http://127.0.0.1:{port}/{SECRET}"), "failure", {})
    said = capsys.readouterr().err
    assert len(received) == 1
    assert f"the answer was {status}" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("email", "told"),
    [
        ({"port": 1}, "Connection refused"),
        ({"user": "jo", "password_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
        ({"starttls": True}, "did not reach the mail server"),
    ],
    ids=["nobody listens", "no password", "no encryption"],
)
def test_a_mail_that_cannot_be_sent_is_said(mail, email, told, capsys):
    port, conversations = mail
    settings = {"host": "127.0.0.1", "port": port, "sender": "a@b.example", "to": ("c@b.example",), **email}
    send_notice(study_with(email=settings), "failure", {"kind": "TrainingError"})
    assert told in capsys.readouterr().err
    assert not any(line.upper() == "DATA" for said in conversations for line in said)


def test_one_way_that_fails_does_not_stop_the_other(mail, capsys):
    port, conversations = mail
    settings = {"host": "127.0.0.1", "port": port, "sender": "a@b.example", "to": ("c@b.example",)}
    send_notice(study_with(webhook="http://127.0.0.1:1/", email=settings), "challenger", {"version": 4})
    assert "the webhook" in capsys.readouterr().err
    assert "version: 4" in conversations[0]
