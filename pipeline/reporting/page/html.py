"""One self-contained page: a template and facts in, HTML out.

The HTML holds its fonts, pictures and style, no script and no address; its Content-Security-Policy admits
nothing else, not even a style attribute.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import unicodedata
from importlib import resources
from typing import Annotated, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, BeforeValidator, ConfigDict

RESEARCH_USE_ONLY = "Research use only - not for diagnostic use"
SYNTHETIC = "SYNTHETIC: a computed phantom, no person was scanned"
NBSP = "\u00a0"
_LONGEST = 400


def clean(value: object) -> str:
    r"""Return text that is safe to set in a line: no control or direction marks, one space, not endless.

    Headers come from anywhere. Escaping is the template's work; this takes away what escaping leaves, such as
    a right-to-left override that shows ``exe.gpj`` as ``jpg.exe``.

    Examples
    --------
    >>> clean("  AV1451\n\u202e  PET\x00 ")
    'AV1451 PET'
    >>> len(clean("x" * 10_000))
    400
    """
    text = unicodedata.normalize("NFC", str(value).replace("\ud800", ""))
    kept = (" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    line = " ".join("".join(kept).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


Text = Annotated[str, BeforeValidator(clean)]


class Facts(BaseModel):
    """Numbers and strings only; what a template draws. Refuses NaN and unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Named(Facts):
    """A label and its value."""

    label: Text
    value: Text


def percent(share: float) -> str:
    """Return a share in whole percent; the ends are never claimed.

    Examples
    --------
    >>> [percent(p).replace(NBSP, " ") for p in (0.0, 0.004, 0.864, 0.999, 1.0)]
    ['<1 %', '<1 %', '86 %', '>99 %', '>99 %']
    """
    return f"{_whole(share)}{NBSP}%"


def percent_range(low: float, high: float) -> str:
    """Return two shares as one range in whole percent.

    Examples
    --------
    >>> percent_range(0.786, 0.912).replace(NBSP, " ")
    '79 to 91 %'
    """
    first, last = _whole(low), _whole(high)
    return f"{first}{NBSP}%" if first == last else f"{first} to {last}{NBSP}%"


def _whole(share: float) -> str:
    shown = f"{100 * share:.0f}"
    return {"0": "<1", "-0": "<1", "100": ">99"}.get(shown, shown)


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with fixed digits and a true minus, or a dash where there is none.

    Examples
    --------
    >>> number(1.2345), number(-0.5, 1), number(None), number(-0.001)
    ('1.23', '−0.5', '–', '0.00')
    """
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float | None, digits: int = 1) -> str:
    """Return a number with its sign, as `number` does.

    Examples
    --------
    >>> signed(2.04), signed(-1.3), signed(0.0)
    ('+2.0', '−1.3', '0.0')
    """
    text = number(value, digits)
    return f"+{text}" if value is not None and float(f"{value:.{digits}f}") > 0 else text


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Return bytes as an address that needs no request."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@functools.lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number, signed=signed)
    environment.globals.update(
        percent_range=percent_range, research_use_only=RESEARCH_USE_ONLY, synthetic_line=SYNTHETIC
    )
    return environment


def template_bytes(name: str) -> bytes:
    """Return a file that ships below ``templates``."""
    return resources.files("pipeline.reporting").joinpath("templates", name).read_bytes()


@functools.lru_cache(maxsize=1)
def _style() -> str:
    faces = []
    for name, weight in (("regular", 400), ("semibold", 600)):
        address = data_uri(template_bytes(f"fonts/geist-{name}.woff2"), "font/woff2")
        faces.append(
            f'@font-face{{font-family:"Geist";font-weight:{weight};src:url("{address}") format("woff2")}}'
        )
    return "\n".join(faces) + "\n" + template_bytes("report.css").decode("utf-8")


def content_security_policy(style: str) -> str:
    """Return a policy that admits this one style sheet, embedded pictures and fonts, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def render(template: str, **facts: Any) -> str:
    """Return one whole HTML page.

    Parameters
    ----------
    template : str
        File name below ``templates``.
    **facts
        What the template draws. Every string is escaped.
    """
    style = _style()  # the only text that is not escaped: it is our own file
    return (
        _environment()
        .get_template(template)
        .render(style=Markup(style), policy=content_security_policy(style), **facts)
    )
