"""A browser of the form for readers, over real HTTP on loopback."""

from __future__ import annotations

import contextlib
import http.client
import re
from dataclasses import dataclass, field
from urllib.parse import urlencode

from pipeline import tracking

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


def reads_of(desk):
    (entry,) = tracking.answered_scans(desk.store, scan=SCAN)
    return entry.reads
