"""Addresses as they may be shown: an address of a database can hold a password."""

from __future__ import annotations

import re

_USER = re.compile(r"(?P<before>://[^:/@\s]*):\S*@")
_QUERY = re.compile(r"(?<=[?&])[^=&\s]*(?:password|passwd|secret|token)[^=&\s]*=[^&\s]*&?", re.IGNORECASE)


def without_password(text: str) -> str:
    """Return an address, or a text that holds some, without passwords.

    Examples
    --------
    >>> without_password("postgresql+psycopg://jo:pass:w@rd@db.local:5432/taucal?sslmode=require")
    'postgresql+psycopg://jo@db.local:5432/taucal?sslmode=require'
    >>> without_password("postgresql+psycopg:///taucal?user=jo&password=p&host=/run")
    'postgresql+psycopg:///taucal?user=jo&host=/run'
    >>> without_password("sqlite:////data/mlflow.db")
    'sqlite:////data/mlflow.db'
    """
    return _QUERY.sub("", _USER.sub(r"\g<before>@", text))
