"""What a reader sees of a page."""

import re
from html import unescape


def words_seen(html: str) -> str:
    """What a reader sees: no tags, no style, no pictures."""
    body = html.partition("<body>")[2] or html
    return " ".join(unescape(re.sub(r"<[^>]+>", "", body)).replace("\u00a0", " ").split())
