"""What a stranger meets first: links that lead somewhere, a citation that is valid, an image without root."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *(ROOT / room / "README.md" for room in ("configs", "data", "flows", "models", "pipeline", "tests")),
    ROOT / "tests" / "benchmarks" / "RESULTS.md",
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [line.split() for line in DOCKERFILE.splitlines() if re.match(r"[A-Z]+ ", line)]


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_the_first_page_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", [p for p in PAGES if p.name == "README.md"], ids=lambda p: p.parent.name)
def test_words_of_pages_are_plain(page):
    """The word list of test_house.py, and words that say nothing where another one would."""
    odd = r"\b(mend(s|ed|ing)?|got none|of that kind|culprit|utili[sz]e|leverag\w+|seamless\w*|simply)\b"
    text = page.read_text(encoding="utf-8")
    assert re.findall(odd, text, flags=re.IGNORECASE) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_make_target_and_script_that_is_named_exists(page):
    text, makefile = page.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for script in re.findall(r"python (tests/[\w/]+\.py)", text):
        assert (ROOT / script).is_file(), script


def test_every_benchmark_is_listed():
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in (ROOT / "tests" / "benchmarks").glob("*.py") if f"`{p.name}`" not in text] == []


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    required = {"cff-version", "message", "title", "authors"}
    assert required <= citation.keys()
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    (paper,) = citation["references"]
    assert {"type", "title", "authors", "year", "url"} <= paper.keys()
    assert "2604.06689" in paper["url"]
    assert paper["title"] in (ROOT / "models/losses/generative.py").read_text(encoding="utf-8").replace(
        "\n    ", " "
    )


def test_the_image_is_pinned_and_not_run_as_root():
    (python,) = (words[1].partition("=")[2] for words in INSTRUCTIONS if words[1].startswith("PYTHON="))
    assert re.fullmatch(r"3\.(11|12|13)\.\d+", python)
    assert {words[1] for words in INSTRUCTIONS if words[0] == "FROM"} == {"python:${PYTHON}-slim-bookworm"}, (
        "no tag that moves"
    )
    users = [words[1] for words in INSTRUCTIONS if words[0] == "USER"]
    assert users[-1] not in ("root", "0")
    assert "http" not in DOCKERFILE, "the index is the builder's"
    for line in re.findall(r"pip install (.+)", DOCKERFILE):
        assert line.startswith("-c constraints.txt"), "every package has its version"


def test_the_image_gets_all_that_the_wheel_is_made_of():
    copied = {name for words in INSTRUCTIONS if words[0] == "COPY" for name in words[1:-1]}
    copied = {name for name in copied if not name.startswith(("--", "/opt"))}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    assert copied == set(allowed)
    assert all((ROOT / name).exists() for name in copied)
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    wheel = hatch["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], PROJECT["readme"], *PROJECT["license-files"]}
    assert needed <= copied
    assert not any(
        fnmatch.fnmatch(name, pattern) for name in needed for pattern in ignored if "*" in pattern[2:]
    )
