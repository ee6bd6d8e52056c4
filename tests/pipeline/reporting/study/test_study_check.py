"""The check of a study's page sees every number that is changed."""

from __future__ import annotations

import re

import pytest
from page_tables import study_contradictions

from pipeline.reporting.study.study_page import study_page


@pytest.fixture(scope="module")
def page(report) -> tuple[str, dict]:
    return study_page(report, ()).html(), report.model_dump(mode="json")


def test_the_page_of_a_study_does_not_contradict_itself(page):
    assert study_contradictions(*page) == []


@pytest.mark.parametrize(
    ("written", "other"),
    [
        ("has 1.60 classes", "has 1.70 classes"),
        ("4 of 45 sets", "5 of 45 sets"),
        ("more than 2 classes", "more than 3 classes"),
        ("1.25 on average", "1.35 on average"),
        ("0 of 45 would", "1 of 45 would"),
        ("38 of 45 test scans", "39 of 45 test scans"),
        ("in 29 of these", "in 28 of these"),
        ("For MCI they contain", "For CN they contain"),
        ("diagnosis of 80\u00a0%", "diagnosis of 90\u00a0%"),
        ('91\u00a0%</td><td class="n">47 p', '93\u00a0%</td><td class="n">47 p'),
        (">36 points<", ">37 points<"),
        (
            "95 % intervals from a bootstrap over subjects. Two",
            "90 % intervals from a bootstrap over subjects. Two",
        ),
        ("Few test scans are of AD (", "Few test scans are of MCI ("),
        ("hold it less often than in 80 %", "hold it as often as in 80 %"),
    ],
)
def test_a_figure_of_a_sentence_that_is_changed_is_found(page, written, other):
    html, report = page
    assert html.count(written) == 1
    assert study_contradictions(html.replace(written, other), report)


def test_every_number_of_the_tables_of_metrics_differences_and_slopes_is_checked(page):
    html, report = page
    start = html.index('<table class="metrics">')
    spans = [(start, html.index("</table>", start))]
    slopes = html.index("Calibration slope and intercepts</h2>")
    spans.append((html.index("<tbody>", slopes), html.index("</table>", slopes)))
    gains = html.index("With calibration minus without")
    spans.append((html.index("<tbody>", gains), html.index("</table>", gains)))
    places = [
        m
        for a, b in spans
        for m in re.finditer(r"(?<=[>\s\u00a0\u2212-])\d+\.\d+(?=[ <\u00a0])", html)
        if a < m.start() < b
    ]
    assert len(places) > 60
    for found in places:
        changed = f"{html[: found.start()]}{float(found[0]) + 33:g}.5{html[found.end() :]}"
        assert study_contradictions(changed, report), html[found.start() - 60 : found.end() + 20]


def test_every_count_and_share_of_the_confusion_is_checked(page):
    html, report = page
    start = html.index('<table class="confusion">')
    end = html.index("</table>", start)
    cells = [
        m for m in re.finditer(r"(?<=<strong>)\d+(?=<)|(?<=>)\d+(?=\u00a0%)", html) if start < m.start() < end
    ]
    assert len(cells) >= 12
    for found in cells:
        changed = f"{html[: found.start()]}{int(found[0]) + 3}{html[found.end() :]}"
        assert study_contradictions(changed, report), found


def test_a_conclusion_that_the_difference_does_not_bear_is_found(page):
    html, report = page
    openings = ("Calibration lowered", "Calibration raised", "Whether calibration changed")
    (stated,) = (opening for opening in openings if opening in html)
    for opening in set(openings) - {stated}:
        assert study_contradictions(html.replace(stated, opening), report)
