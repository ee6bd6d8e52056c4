"""What holds for every page: one is singular, negative numbers have a minus, every picture has a name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from page_seen import text_of

_NOUNS = "scan|subject|seed|fold|read|reader|answer|month|report|network|set|reason|PET scan"
_PLURAL_OF_ONE = re.compile(rf"(?<![\w.,:−-])1 (?:test )?(?:(?:{_NOUNS})s|losses|classes)\b")
_NUMBER_CELL = re.compile(r'<td class="n[^"]*">(.*?)</td>', re.DOTALL)
_HYPHEN = re.compile(r"(?:^|[ (\[])-\.?\d")


def slips(html: str) -> list[str]:
    """Return what no page may have, whatever it is about."""
    return [*_grammar(html), *_minus(html), *_pictures(html)]


def _grammar(html: str) -> Iterator[str]:
    for found in _PLURAL_OF_ONE.finditer(text_of(html)):
        yield f"one is no plural: {found[0]}"


def _minus(html: str) -> Iterator[str]:
    for cell in _NUMBER_CELL.findall(html):
        if _HYPHEN.search(text_of(cell)):
            yield f"a negative number has a hyphen for a minus: {text_of(cell)}"


def _pictures(html: str) -> Iterator[str]:
    for picture in re.findall(r"<img [^>]*>", html):
        if not re.search(r'alt="[^"]*\w', picture):
            yield f"a picture has no name: {picture[-80:]}"
