"""Tell people outside what happened: one POST to a webhook, one e-mail. Never a reason to fail."""

from __future__ import annotations

import json
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


def tell(study: Study, event: str, facts: Mapping[str, object]) -> None:
    """Send a notice to whom the study names; one that cannot be sent is said on the console.

    Parameters
    ----------
    study : Study
        Section `notify` says who is told.
    event : str
        ``"failure"``, ``"promotion"``, ``"challenger"``, ``"waiting"`` or ``"shift"``.
    facts : mapping
        What the reader needs to know: numbers, names of flows and models. Nothing that identifies a
        patient, no path, no text of an error.
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


def _try(event: str, whom: str, send: Callable[[], None]) -> None:
    try:
        send()
    except Exception as error:  # noqa: BLE001 - a notice is never a reason to fail
        # The text of an error can hold the address, and an address can hold a secret.
        say(f"The notice of {event!r} did not reach {whom}: {_kind(error)}.")


def _kind(error: Exception) -> str:
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered {error.code}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it answered {error.smtp_code}"
    reason = getattr(error, "reason", error)
    return (reason.strerror if isinstance(reason, OSError) else None) or type(error).__name__


class _Refused(Exception):  # noqa: N818 - our own reason not to send
    """Why a notice was not sent, in words that hold no secret."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A notice goes where the study says and nowhere else; a redirected POST would lose its body."""

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
        raise _Refused("notify.webhook must begin with http:// or https://")
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
    message["Subject"] = f"taucal: {notice['event']} of {notice['study']}"
    message["From"], message["To"] = settings.sender, ", ".join(settings.to)
    lines = [f"{name}: {value}" for name, value in notice["facts"].items()]
    message.set_content("\n".join([f"{notice['event']}, study {notice['study']}, {notice['time']}", *lines]))
    with smtplib.SMTP(settings.host, settings.port, timeout=_SECONDS) as server:
        if settings.starttls:
            server.starttls(context=ssl.create_default_context())
        if settings.user and password is not None:
            server.login(settings.user, password)
        server.send_message(message)
