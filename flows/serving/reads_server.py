"""The form on which readers answer: a small server on loopback, in the process of `taucal serve`.

It trusts no request: the address asked for must be this machine's (no rebinding of names), a form must come
from a page of this server (Origin) and hold the token that this server put into it, bound to a cookie that
other sites cannot send. It serves text, runs no script, and loads nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from flows.reports.read_desk import ReadDesk
from flows.running.console import warn
from flows.serving.reads_views import form_of, index_of
from flows.serving.servers import Endpoint
from pipeline.errors import InputError, TaucalError, sentence
from pipeline.evaluation.monitoring.reads import CHOICES
from pipeline.reporting.page.html import Page
from pipeline.reporting.reading.read_page import given_of

LOOPBACK = "127.0.0.1"
_NAMES = (LOOPBACK, "localhost", "::1")
_COOKIE = "taucal_reads"
_SESSION = re.compile(r"[\w-]{32}", re.ASCII)
_LONGEST_BODY = 16_384
_MOST_FIELDS = 20
_TOKEN_SECONDS = 12 * 3600
_SECONDS_TO_SEND = 15
_FORM = "application/x-www-form-urlencoded"
_EXPIRED = ("token", "The form was too old. Nothing was stored; check what you wrote and send it again.")


class _RefusedRequestError(Exception):
    """A request that is not answered, with its status and a sentence."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class ReadsServer(ThreadingHTTPServer):
    """Serves the form of one study; every thread ends with the process."""

    daemon_threads = True

    def __init__(self, desk: ReadDesk, endpoint: Endpoint) -> None:
        self.desk, self._secret = desk, secrets.token_bytes(32)
        super().__init__((endpoint.host, endpoint.port), _Handler)

    def token(self, session: str, path: str, issued: int | None = None) -> str:
        """Return the token of a form: the time, and a code that only this server can make."""
        moment = int(time.time()) if issued is None else issued
        message = f"{session}\n{path}\n{moment}".encode()
        return f"{moment}.{hmac.new(self._secret, message, hashlib.sha256).hexdigest()}"

    def knows(self, token: str, session: str, path: str) -> bool:
        """Whether a token was made by this server for this cookie and path, within half a day."""
        moment = token.partition(".")[0]
        if not (session and moment.isdecimal() and moment.isascii() and len(moment) < 12):
            return False
        fresh = 0 <= time.time() - int(moment) < _TOKEN_SECONDS
        return fresh and hmac.compare_digest(token.encode(), self.token(session, path, int(moment)).encode())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that goes away is no error."""


@contextlib.contextmanager
def reads_served(desk: ReadDesk, endpoint: Endpoint) -> Iterator[ReadsServer]:
    """Serve the form for as long as the block runs."""
    with ReadsServer(desk, endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, name="reads", daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ReadsServer
    server_version, sys_version = "taucal", ""
    timeout = _SECONDS_TO_SEND

    def do_GET(self) -> None:
        """Show the list, or the form of a scan."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Store what a form holds."""
        self._answer(self._post)

    def log_message(self, *_: object) -> None:
        """Write no log: addresses hold pseudonyms."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - as its base calls it
        """Answer what is no request for a page, without echoing it."""
        self._send_text(HTTPStatus(code), HTTPStatus(code).phrase)

    def _answer(self, work: Callable[[str], None]) -> None:
        try:
            work(self._checked_host())
        except _RefusedRequestError as refused:
            self._send_text(refused.status, refused.text)
        except InputError as error:
            self._send_text(HTTPStatus.NOT_FOUND, str(error))
        except (TimeoutError, ConnectionError):
            self.close_connection = True
        except Exception as error:  # noqa: BLE001 - one request never ends the server
            known = isinstance(error, TaucalError)
            warn(f"The form for readers failed: {error if known else type(error).__name__}")
            self._send_text(HTTPStatus.INTERNAL_SERVER_ERROR, "Nothing was stored. Try again")

    def _get(self, _: str) -> None:
        address = urlsplit(self.path)
        reader = _first(parse_qs(address.query, max_num_fields=_MOST_FIELDS), "reader")
        if address.path == "/":
            self._send_page(index_of(self.server.desk, reader))
            return
        session = self._session() or secrets.token_urlsafe(24)
        token = self.server.token(session, address.path)
        stored = _first(parse_qs(address.query, max_num_fields=_MOST_FIELDS), "stored")
        number = int(stored) if stored.isdecimal() and len(stored) < 9 else None
        page = form_of(self.server.desk, _scan_in(address.path), token, reader=reader, stored=number)
        self._send_page(page, session=session)

    def _post(self, host: str) -> None:
        path = urlsplit(self.path).path
        scan, values = _scan_in(path), self._checked_form(host)
        session = self._session()
        wrong: tuple[str, str] | None = None
        if not self.server.knows(values.get("token", ""), session, path):
            wrong = _EXPIRED
        else:
            try:
                entry, recorded = self.server.desk.record(scan, given_of(values))
                query = urlencode({"reader": recorded.read.reader, "stored": recorded.number})
                self._redirect(f"/scan/{quote(entry.scan)}?{query}")
                return
            except InputError as error:
                # What can be chosen is there to be seen, in words; the hint has the values of the command.
                hint = "" if error.where in CHOICES else error.hint
                wrong = error.where, " ".join(sentence(part) for part in (error.problem, hint) if part)
        session = session or secrets.token_urlsafe(24)
        token = self.server.token(session, path)
        page = form_of(
            self.server.desk, scan, token, reader=values.get("reader", ""), values=values, wrong=wrong
        )
        self._send_page(page, session=session, status=HTTPStatus.UNPROCESSABLE_ENTITY)

    def _checked_host(self) -> str:
        """Return the address that was asked for; a name that leads here by rebinding is refused."""
        hosts = self.headers.get_all("Host") or []
        with contextlib.suppress(ValueError):
            if len(hosts) == 1 and urlsplit(f"//{hosts[0]}").hostname in _NAMES and "@" not in hosts[0]:
                return str(hosts[0])
        raise _RefusedRequestError(
            HTTPStatus.MISDIRECTED_REQUEST, "This server answers to 127.0.0.1 and localhost alone"
        )

    def _checked_form(self, host: str) -> dict[str, str]:
        """Return the fields of a form that a page of this server sent."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or not length.isascii():
            _refuse(HTTPStatus.LENGTH_REQUIRED, "The length of the form is missing")
        if len(length) > 9 or int(length) > _LONGEST_BODY:
            _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A form has at most {_LONGEST_BODY} bytes")
        body = self.rfile.read(int(length))  # also of a form that is refused, so that the answer arrives
        origins, sites = self.headers.get_all("Origin") or [], self.headers.get_all("Sec-Fetch-Site") or []
        if origins != [f"http://{host}"] or sites not in ([], ["same-origin"]):
            _refuse(HTTPStatus.FORBIDDEN, "The form was not sent by a page of this server")
        if self.headers.get_content_type() != _FORM or self.headers.get("Transfer-Encoding"):
            _refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "A form is expected")
        try:
            text = body.decode("utf-8")
            fields = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
        except ValueError:
            _refuse(HTTPStatus.BAD_REQUEST, "The form cannot be read")
        if any(len(values) > 1 for values in fields.values()):
            _refuse(HTTPStatus.BAD_REQUEST, "The form holds a field twice")
        return {name: values[0] for name, values in fields.items()}

    def _session(self) -> str:
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            return ""
        value = cookies[_COOKIE].value if _COOKIE in cookies else ""
        return value if _SESSION.fullmatch(value) else ""

    def _send_page(self, page: Page, *, session: str = "", status: HTTPStatus = HTTPStatus.OK) -> None:
        cookie = f"{_COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/" if session else ""
        headers = {"Set-Cookie": cookie} if cookie else {}
        self._send(status, "text/html; charset=utf-8", page.html().encode(), headers)

    def _send_text(self, status: HTTPStatus, text: str) -> None:
        body = f"{sentence(text)}\n".encode(errors="replace")
        self.close_connection = True
        self._send(status, "text/plain; charset=utf-8", body, {"Connection": "close"})

    def _redirect(self, place: str) -> None:
        self._send(HTTPStatus.SEE_OTHER, "text/plain; charset=utf-8", b"", {"Location": place})

    def _send(self, status: HTTPStatus, kind: str, body: bytes, more: Mapping[str, str]) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Content-Security-Policy": "frame-ancestors 'none'",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "same-origin",
        }
        for name, value in (headers | dict(more)).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _refuse(status: HTTPStatus, text: str) -> NoReturn:
    raise _RefusedRequestError(status, text)


def _scan_in(path: str) -> str:
    first, _, scan = path.removeprefix("/").partition("/")
    if first != "scan" or not scan or "/" in scan:
        _refuse(HTTPStatus.NOT_FOUND, "There is no such page")
    return unquote(scan)


def _first(query: Mapping[str, list[str]], name: str) -> str:
    return query.get(name, [""])[0]
