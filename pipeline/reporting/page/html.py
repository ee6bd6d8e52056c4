"""The one page maker: a template and facts in; HTML, JSON and, where asked for, PDF out.

A page is one file: it holds its fonts, pictures and style. Its Content-Security-Policy allows nothing else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.errors import sentence
from pipeline.files import write_json, write_text, written_whole
from pipeline.reporting.page import pdf as paper
from pipeline.reporting.page.facts import (
    RESEARCH_USE_ONLY,
    SYNTHETIC,
    Facts,
    counted_share,
    exact_percent,
    listed,
    moment,
    number,
    percent,
    percent_range,
    signed,
    with_minus,
)
from pipeline.wording import counted

POLICIES = {
    "static": (
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    ),
    "form": (
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; font-src data:; "
        "base-uri 'none'; form-action 'self'"
    ),
    "viewer": (
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src data:; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    ),
}
"""Content-Security-Policies by name.

``static``: no script, no request, no style attribute; only the page's own style sheet and what it embeds.
``form``: the same, with a form that is sent to the server which made the page.
``viewer``: as ``static``, with the page's one script, which can make no request either.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """A report as one self-contained page.

    Parameters
    ----------
    template : str
        File name below ``templates``.
    report : Facts
        What the page reports, also written as JSON. Has ``report_date``, ``run_id`` and ``synthetic``.
    heading : str
        Stands at the top of every sheet. Pseudonyms only.
    drawn : mapping
        What else the template draws, such as pictures. Every string is escaped.
    policy : str
        Key of `POLICIES`.
    script : str
        File name below ``templates`` of the one script that the policy admits; none where empty.
    """

    template: str
    report: Facts
    heading: str
    drawn: Mapping[str, Any] = field(default_factory=dict)
    policy: str = "static"
    script: str = ""

    def html(self) -> str:
        """Return the page as HTML."""
        # The only texts that are not escaped: they are our own files.
        style = _style()
        script = template_bytes(self.script).decode("utf-8") if self.script else ""
        return (
            _environment()
            .get_template(self.template)
            .render(
                style=Markup(style),
                script=Markup(script),
                policy=content_security_policy(style, self.policy, script),
                report=self.report,
                heading=self.heading,
                **self.drawn,
            )
        )

    def write(self, folder: Path, name: str, *, pdf: bool = False) -> dict[str, Path]:
        """Write ``<name>.html``, ``<name>.pdf`` where asked for and possible, and last ``<name>.json``.

        Nothing is written before all of it is made. Where PDF is asked for and this machine cannot write it,
        a warning is logged; `pipeline.reporting.page.pdf.why_no_pdf` returns the reason.

        Returns
        -------
        dict of str to Path
            ``"html"``, ``"json"``, and ``"pdf"`` where it was written.
        """
        html, facts, printed = self.html(), self.report.model_dump(mode="json"), None
        if pdf and (reason := paper.why_no_pdf()):
            _log.warning("No PDF of %s: %s", name, reason)
        elif pdf:
            printed = paper.pdf_bytes(html, template_bytes("paper.css").decode("utf-8"))
        written = {"html": write_text(folder / f"{name}.html", html)}
        if printed is not None:
            written["pdf"] = folder / f"{name}.pdf"
            with written_whole(written["pdf"]) as beside:
                beside.write_bytes(printed)
        return written | {"json": write_json(folder / f"{name}.json", facts)}


def content_security_policy(style: str, policy: str = "static", script: str = "") -> str:
    """Return the policy of this name for a page with this one style sheet and this one script."""
    return POLICIES[policy].format(style=_digest(style), script=_digest(script))


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Return bytes as an address that needs no request."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def template_bytes(name: str) -> bytes:
    """Return a file that ships below ``templates``."""
    return resources.files("pipeline.reporting").joinpath("templates", name).read_bytes()


@functools.lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        counted=counted,
        percent=percent,
        exact_percent=exact_percent,
        listed=listed,
        counted_share=counted_share,
        number=number,
        signed=signed,
        sentence=lambda text: with_minus(sentence(text)),
        minus=with_minus,
        moment=moment,
    )
    environment.globals.update(
        percent_range=percent_range, research_use_only=RESEARCH_USE_ONLY, synthetic_line=SYNTHETIC
    )
    return environment


@functools.lru_cache(maxsize=1)
def _style() -> str:
    faces = []
    for name, weight in (("regular", 400), ("semibold", 600)):
        address = data_uri(template_bytes(f"fonts/geist-{name}.woff2"), "font/woff2")
        faces.append(
            f'@font-face{{font-family:"Geist";font-weight:{weight};src:url("{address}") format("woff2")}}'
        )
    return "\n".join(faces) + "\n" + template_bytes("report.css").decode("utf-8")
