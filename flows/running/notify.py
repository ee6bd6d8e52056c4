"""Notices by webhook, by e-mail or by any service that apprise knows; never a reason to fail.

Webhook and e-mail are sent from here: apprise reports only that a notice failed, not why, and its own webhook
posts another body.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import urlsplit

from flows.running.console import say
from pipeline.config import EmailSettings, Study

_SECONDS = 10


def send_notice(study: Study, event: str, facts: Mapping[str, object]) -> None:
    """Send a notice to everybody the study names; one that cannot be sent is reported on the console.

    Parameters
    ----------
    study : Study
        Section `notify` names the receivers.
    event : str
        ``"failure"``, ``"promotion"``, ``"challenger"``, ``"waiting"``, ``"shift"`` or ``"week"``.
    facts : mapping
        Numbers, names of flows and models. Nothing that identifies a patient, no path, no text of an error.
    """
    notice = {
        "event": event,
        "study": study.name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "facts": dict(facts),
    }
    webhook, email = study.notify.webhook, study.notify.email
    if webhook is not None:
        _try(event, "the webhook", lambda: _post(webhook, notice))
    if email is not None:
        _try(event, "the mail server", lambda: _mail(email, notice))
    for number, url in enumerate(study.notify.urls, start=1):
        _try(event, f"address {number} of notify.urls", functools.partial(_send_by_apprise, url, notice))


def _try(event: str, receiver: str, send: Callable[[], None]) -> None:
    try:
        send()
    except Exception as error:  # noqa: BLE001 - a notice is never a reason to fail
        # The text of an error can hold the address, and an address can hold a secret.
        say(f"The notice of {event!r} did not reach {receiver}: {_kind(error)}.")


def _kind(error: Exception) -> str:
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, urllib.error.HTTPError):
        return f"the answer was {error.code}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the answer was {error.smtp_code}"
    reason = getattr(error, "reason", error)
    return (reason.strerror if isinstance(reason, OSError) else None) or type(error).__name__


class _Refused(Exception):  # noqa: N818 - our own reason not to send
    """The reason why a notice was not sent, in words that hold no secret."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A notice goes to the address of the study and nowhere else; a redirected POST would lose its body."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002 - the signature is the library's
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: HTTPMessage,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        """Follow nothing."""
        return


def _post(webhook: str, notice: Mapping[str, Any]) -> None:
    if urlsplit(webhook).scheme not in ("http", "https"):
        raise _Refused("notify.webhook does not begin with http:// or https://")
    request = urllib.request.Request(
        webhook,
        data=json.dumps(notice, default=str, ensure_ascii=False).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "taucal"},
        method="POST",
    )
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS):
        pass


def _mail(settings: EmailSettings, notice: Mapping[str, Any]) -> None:
    password = os.environ.get(settings.password_env) if settings.password_env else None
    if settings.user and password is None:
        raise _Refused(f"the password is not in the environment variable {settings.password_env}")
    message = EmailMessage()
    message["Subject"] = _title(notice)
    message["From"], message["To"] = settings.sender, ", ".join(settings.to)
    message.set_content(_text(notice))
    with smtplib.SMTP(settings.host, settings.port, timeout=_SECONDS) as server:
        if settings.starttls:
            server.starttls(context=ssl.create_default_context())
        if settings.user and password is not None:
            server.login(settings.user, password)
        server.send_message(message)


def _send_by_apprise(url: str, notice: Mapping[str, Any]) -> None:
    import apprise  # deferred: a tenth of a second, and few studies have such addresses

    # Its log names the addresses.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    service = apprise.Apprise.instantiate(url, asset=apprise.AppriseAsset(app_id="taucal"))
    if service is None:
        raise _Refused("apprise cannot read it; its documentation shows the address of each service")
    service.redirects = False
    service.socket_connect_timeout = service.socket_read_timeout = _SECONDS
    if not service.notify(title=_title(notice), body=_text(notice)):
        raise _Refused("the service did not accept it")


def _title(notice: Mapping[str, Any]) -> str:
    return f"taucal: {notice['event']} of {notice['study']}"


def _text(notice: Mapping[str, Any]) -> str:
    lines = [f"{name}: {value}" for name, value in notice["facts"].items()]
    return "\n".join([f"{notice['event']}, study {notice['study']}, {notice['time']}", *lines])
