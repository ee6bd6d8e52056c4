"""Rules of the house that no linter holds: one name for one thing, and words that a stranger knows."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for top in ("flows", "models", "pipeline")
    for path in (ROOT / top).rglob("*.py")
    if path.stat().st_size
)
ODD_WORDS = re.compile(
    r"(?!(?<=\")(mend|undone)\")\b(mend(s|ed|ing)?|got none|of that kind|undone|culprit)\b", re.IGNORECASE
)
"""Words that strangers stumble over; a hint, a similar one and a prior correction are meant.

Older files hold "mend" and "undone" as keys.
"""


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_file_name_is_used_twice():
    found = defaultdict(list)
    for path in FILES:
        if path.name != "__init__.py":
            found[path.name].append(_name(path))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_no_class_name_is_used_twice():
    found = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(_name(path))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_words_are_plain(path):
    odd = [
        f"line {number}: {match.group()}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := ODD_WORDS.search(line))
    ]
    assert not odd


def test_every_package_of_the_product_is_in_the_readme_or_a_readme_of_its_room():
    """A stranger finds each room of `flows`, `pipeline` and `models` in the picture of the README."""
    picture = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = {p.parent.name for p in FILES if p.name == "__init__.py" and len(p.relative_to(ROOT).parts) == 3}
    assert sorted(room for room in rooms if f"{room}/" not in picture) == []
