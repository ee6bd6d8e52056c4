"""The page of agreement: its numbers are those that were counted, and none contradicts another."""

from __future__ import annotations

import html as html_module
import re

import pytest
from page_reads import agreement_contradictions

from pipeline.evaluation.monitoring.agreement import agreement_of
from pipeline.evaluation.monitoring.reads import AnsweredRead, Read, RecordedRead
from pipeline.reporting.page.facts import NBSP
from pipeline.reporting.reading.agreement_page import build_agreement_report, write_agreement_page

LABELS = "Reads are not used as labels."


def reads_of_a_year() -> list[AnsweredRead]:
    found = []
    for n in range(60):
        changed, positive = n % 5 == 0, n % 3 != 0
        read = Read(
            reader="AB" if n % 2 else "CD",
            tau="positive" if positive else "negative",
            pattern="temporal" if positive else None,
            quality="good",
            diagnosis="AD" if n % 4 == 0 else None,
            verdict="reject" if changed else "accept",
            reason="borderline" if changed else None,
            blind=n % 7 == 0,
        )
        recorded = RecordedRead(read, "", f"tr-{n}", f"2026-{1 + n // 5:02d}-03T10:00:00Z", n + 1)
        answer = {"decision": "report", "most_likely": "AD", "confidence": 0.41 + n / 110}
        found.append(AnsweredRead(f"sub-{n // 2}_ses-1", str(1 + n // 30), answer, recorded))
    return found


@pytest.fixture(scope="module")
def report():
    return build_agreement_report(agreement_of(reads_of_a_year()), "clinic", "2026-12-31", LABELS)


@pytest.fixture
def html(report, tmp_path) -> str:
    return write_agreement_page(report, tmp_path).read_text()


def text_of(html: str) -> str:
    bare = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return html_module.unescape(" ".join(re.sub(r"<[^>]+>", " ", bare).split())).replace(NBSP, " ")


def test_the_page_shows_every_group_with_its_interval(html, report):
    text = text_of(html)
    assert "60 reads of 30 scans by 2 readers" in text
    assert "all 12 of 60 20 % (12 to 32 %)" in text
    for title in (
        "confidence of the finding",
        "decision",
        "version of the model",
        "month",
        "reader had seen",
    ):
        assert title in text
    assert len(report.groups["month"]) == 12
    assert len(re.findall(r"\b2026-\d\d\b(?!-)", text)) == 12
    assert "borderline uptake 12" in text
    assert "In 15 of 15 reads of a finding that state a class it is the model's most likely one." in text
    assert LABELS in text


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r | {"scans": 31},
        lambda r: r | {"overall": r["overall"] | {"overrides": 13}},
        lambda r: r | {"overall": r["overall"] | {"low": 0.1}},
        lambda r: r | {"groups": r["groups"] | {"version": r["groups"]["version"][:1]}},
        lambda r: r | {"groups": r["groups"] | {"month": []}},
    ],
)
def test_a_contradiction_of_page_and_facts_is_found(html, report, change):
    facts = report.model_dump(mode="json")
    assert agreement_contradictions(html, facts) == []
    assert agreement_contradictions(html, change(facts))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("12 to 32", "10 to 32"), ('x1="20.00%"', 'x1="25.00%"'), ("12 of 60 <", "11 of 60 <"),
        ("by 2 readers", "by 3 readers"), ("answers changed, 20", "answers changed, 21"),
    ],
)  # fmt: skip
def test_a_page_that_contradicts_itself_is_found(html, report, old, new):
    plain = html.replace(NBSP, " ")
    assert old in plain
    assert agreement_contradictions(plain.replace(old, new, 1), report.model_dump(mode="json"))


def page_of(reads: list[AnsweredRead], folder) -> str:
    return write_agreement_page(
        build_agreement_report(agreement_of(reads), "clinic", "", LABELS), folder
    ).read_text()


def test_a_share_of_none_or_all_is_stated_as_such(tmp_path):
    assert "all 0 of 3 0 % (<1 to 56 %)" in text_of(page_of(reads_of_a_year()[1:4], tmp_path))
    changed = [r for r in reads_of_a_year() if r.recorded.read.overrides][:2]
    assert "all 2 of 2 100 % (34 to >99 %)" in text_of(page_of(changed, tmp_path))


def test_one_is_singular(tmp_path):
    found = page_of(reads_of_a_year()[:1], tmp_path)
    assert "1 read of 1 scan by 1 reader" in text_of(found)
    assert "In 1 of 1 read of a finding that states a class it is" in text_of(found)


@pytest.mark.parametrize("synthetic", [True, False])
def test_reads_of_a_phantom_are_marked(tmp_path, synthetic):
    counted = agreement_of(reads_of_a_year())
    report = build_agreement_report(counted, "clinic", "2026-12-31", LABELS, synthetic=synthetic)
    page = write_agreement_page(report, tmp_path).read_text()
    assert ("SYNTHETIC: a computed phantom" in page) == synthetic


def test_without_a_verdict_the_page_states_so(tmp_path):
    assert "There is no read with a verdict yet." in text_of(page_of([], tmp_path))


@pytest.mark.slow
def test_axe_finds_no_violation(html, tmp_path, violations):
    assert violations(html) == []
    assert violations(page_of([], tmp_path)) == []
