"""The same page as a tagged PDF/A-3u, where the machine can, with running headers and page numbers."""

from __future__ import annotations

import functools
import hashlib
import io
import logging
from pathlib import Path

from pipeline.files import write_text, written_whole
from pipeline.reporting.page.html import template_bytes

_log = logging.getLogger(__name__)


@functools.lru_cache(maxsize=1)
def why_no_pdf() -> str | None:
    """Return why this machine cannot write PDF, or None where it can."""
    try:
        import weasyprint  # noqa: F401 - needs the pango libraries, which a machine may lack
    except (ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        return f"PDF needs the pango libraries (Debian: apt-get install libpangoft2-1.0-0): {reason}"
    return None


def write_page(html: str, stem: Path, *, pdf: bool) -> dict[str, Path]:
    """Write ``<stem>.html`` and, where asked for and possible, ``<stem>.pdf``.

    Where PDF is asked for and this machine cannot, that is logged as a warning; `why_no_pdf` tells it too.

    Returns
    -------
    dict of str to Path
        ``"html"``, and ``"pdf"`` where it was written.
    """
    written = {"html": write_text(stem.with_name(stem.name + ".html"), html)}
    if not pdf:
        return written
    if reason := why_no_pdf():
        _log.warning("No PDF of %s: %s", stem.name, reason)
        return written
    path = stem.with_name(stem.name + ".pdf")
    with written_whole(path) as beside:
        beside.write_bytes(_pdf_bytes(html))
    return written | {"pdf": path}


def _pdf_bytes(html: str) -> bytes:
    import weasyprint

    # Nothing but what the page itself holds is fetched; the identifier follows from the content, so that
    # the same facts give the same bytes.
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=("data",))
    paper = weasyprint.CSS(string=template_bytes("paper.css").decode("utf-8"))
    stream = io.BytesIO()
    weasyprint.HTML(string=html, url_fetcher=fetcher).write_pdf(
        stream,
        stylesheets=[paper],
        pdf_identifier=hashlib.sha256(html.encode("utf-8")).digest()[:16],
        pdf_variant="pdf/a-3u",
        pdf_tags=True,
    )
    return stream.getvalue()
