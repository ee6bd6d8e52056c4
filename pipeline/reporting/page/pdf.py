"""A page as a tagged PDF/A-3u, where the machine can write one."""

from __future__ import annotations

import functools
import hashlib
import io
import logging


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

    # Style sheets are written for browsers too; what the PDF cannot use is no news to a user.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=("data",))
    stream = io.BytesIO()
    weasyprint.HTML(string=html, url_fetcher=fetcher).write_pdf(
        stream,
        stylesheets=[weasyprint.CSS(string=paper_style)],
        pdf_identifier=hashlib.sha256(html.encode("utf-8")).digest()[:16],
        pdf_variant="pdf/a-3u",
        pdf_tags=True,
    )
    return stream.getvalue()
