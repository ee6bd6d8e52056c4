"""A page as a tagged PDF/A-3u, where the machine can write one."""

from __future__ import annotations

import atexit
import functools
import hashlib
import io
import logging
import re
from typing import Any

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@functools.lru_cache(maxsize=1)
def why_no_pdf() -> str | None:
    """Return why this machine cannot write PDF, or None where it can."""
    try:
        import weasyprint  # noqa: F401 - needs the pango libraries, which a machine may lack
    except (ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        return f"PDF needs the pango libraries (Debian: apt-get install libpangoft2-1.0-0): {reason}"
    return None


def pdf_bytes(html: str, paper_style: str) -> bytes:
    """Return a page as PDF with running heads and page numbers; the same page gives the same bytes.

    Parameters
    ----------
    html : str
        Only what the page itself embeds is loaded.
    paper_style : str
        Style sheet for paper, beside the page's own.
    """
    import weasyprint

    from pipeline.reporting.page.pdf_pictures import pictures_apart

    # Style sheets are written for browsers too; what the PDF cannot use is no news to a user.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    fonts, sheets = _parsed((paper_style, *_STYLE.findall(html)))
    short, pictures = pictures_apart(_STYLE.sub("", html))
    stream = io.BytesIO()
    weasyprint.HTML(string=short, url_fetcher=_fetcher()).write_pdf(
        stream,
        font_config=fonts,
        stylesheets=sheets,
        cache=pictures,
        pdf_identifier=hashlib.sha256(html.encode("utf-8")).digest()[:16],
        pdf_variant="pdf/a-3u",
        pdf_tags=True,
    )
    return stream.getvalue()


@functools.lru_cache(maxsize=1)
def _fetcher() -> Any:
    import weasyprint

    return weasyprint.urls.URLFetcher(allowed_protocols=("data",))


@functools.lru_cache(maxsize=2)
def _parsed(styles: tuple[str, ...]) -> tuple[Any, list[Any]]:
    """Return fonts and style sheets, once for all pages of a process that share them."""
    import weasyprint
    from weasyprint.text.fonts import FontConfiguration

    fonts = FontConfiguration()
    atexit.register(_parsed.cache_clear)  # its files are removed while Python still can
    sheets = [weasyprint.CSS(string=s, font_config=fonts, url_fetcher=_fetcher()) for s in styles]
    return fonts, sheets
