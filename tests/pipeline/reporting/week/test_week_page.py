"""The page of a week: its counts, its advice, and that a browser finds nothing wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from page_week import week_contradictions

from pipeline.evaluation.monitoring.agreement import OverrideRate
from pipeline.evaluation.monitoring.shift import ShiftTest
from pipeline.reporting.page.html import Page
from pipeline.reporting.week import week_page
from pipeline.reporting.week.week_page import WeekReads, WeekReport, count_answers, write_week_page


@dataclass(frozen=True)
class Given:
    """An answer as the ledger holds it."""

    scan: str
    time: str = "2026-03-02T05:30:00"
    kind: str = "report"
    version: str = "2"
    answer: dict[str, Any] = field(default_factory=lambda: {"decision": "report", "reasons": []})
    measured: dict[str, Any] = field(default_factory=dict)
    diagnosis: str | None = None


REFERRED = {"decision": "refer", "reasons": ["The 80 % prediction set contains more than 2 classes"]}
TESTS = (
    ShiftTest("regions", 0.3, 0.00004, 0.0001, True, "SUVR of the left precuneus rose by 0.3 SD"),
    ShiftTest("scanner", 0.05, 0.4, 0.812, False, "PET-1 made 80 % of the scans, 75 % before"),
)


READS = WeekReads.of(OverrideRate("since", 3, 20, 0.052, 0.36), OverrideRate("before", 4, 60, 0.026, 0.159))


def report_of(entries, **changed) -> WeekReport:
    facts = {
        "title": "clinic", "report_date": "2026-03-09", "synthetic": True, "since": "2026-03-02",
        "champion": 2, "performance": ("Expected of 34 subjects: NLL 0.5.",), "compared": 34,
        "answer": "retrain", "reasons": ("The regional SUVR has changed.",),
        "tests": week_page.tests_of(TESTS), "reads": READS,
    }  # fmt: skip
    return WeekReport(**facts | changed, **count_answers(entries))


QUIET = {"answer": "nothing", "tests": (), "compared": 0, "performance": (), "reasons": ("No scan is new.",)}
QUIET["reads"] = WeekReads()
WEEKS = {
    "a change": report_of(
        [Given("sub-A_ses-1"), Given("sub-A_ses-2", answer=REFERRED), Given("sub-B_ses-1")]
    ),
    "a new scanner": report_of(
        [Given("sub-A_ses-1")],
        answer="nothing",
        reasons=("Scanner PET-2 made 20 of 34 scans, before 0 of 300.", "No action is needed."),
        tests=week_page.tests_of((replace(TESTS[1], changed=True),)),
    ),
    "one scan": report_of([Given("sub-A_ses-1", diagnosis="AD")], **QUIET),
    "nothing": report_of([], **QUIET, champion=None),
    "many reasons": report_of(
        [Given(f"sub-A_ses-{n}", answer={"decision": "refused", "reasons": [f"Rule {n}"]}) for n in range(14)]
    ),
}


def html_of(report: WeekReport) -> str:
    return Page("week.html.j2", report, "Week").html()


@pytest.mark.parametrize("name", WEEKS)
def test_the_page_agrees_with_its_json(name):
    assert week_contradictions(html_of(WEEKS[name]), WEEKS[name].model_dump(mode="json")) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", WEEKS)
def test_a_browser_finds_no_violation(name, violations):
    assert violations(html_of(WEEKS[name])) == []


def test_each_scan_counts_once_by_its_last_answer():
    late = "2026-03-03T05:30:00"
    found = report_of(
        [Given("sub-A_ses-1", late, "predict", "3", REFERRED), Given("sub-A_ses-1"), Given("sub-B_ses-1")]
    )
    assert (found.scans, found.subjects) == (2, 2)
    assert {one.label: one.value for one in found.versions} == {"version 2": "1", "version 3": "1"}
    assert {one.label: one.value for one in found.kinds} == {"report": "1", "predict": "1"}
    assert {one.label for one in found.decisions} == {"finding", "referred to an expert"}


def test_a_reason_counts_once_whatever_its_number():
    low = [f"The highest probability, {p} %, is below 72.5 %, the least for a finding" for p in (53.7, 59.9)]
    answers = [{"decision": "refer", "reasons": [reason]} for reason in low]
    found = report_of([Given(f"sub-{n}_ses-1", answer=answer) for n, answer in enumerate(answers)])
    (why,) = found.why
    assert (why.label, why.value) == ("No class is likely enough for a finding of the model", "2")


def test_what_is_written_is_in_the_readers_grammar():
    assert "1 scan of 1 subject was answered since" in html_of(WEEKS["one scan"])
    assert "1 of them has a later diagnosis" in html_of(WEEKS["one scan"])
    assert "0 scans of 0 subjects were answered" in html_of(WEEKS["nothing"])
    assert "&lt; 0.001" in html_of(WEEKS["a change"])
    assert "The 10 most frequent of 14 reasons" in html_of(WEEKS["many reasons"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scans", 4), ("subjects", 1), ("champion", 3), ("answer", "recalibrate"), ("compared", 33),
        ("reasons", ["Another one."]), ("diagnoses", 1), ("why_kinds", 12), ("tests", []),
        ("reads", READS.model_dump() | {"overrides": 4}), ("reads", READS.model_dump() | {"reads_before": 0}),
        ("decisions", [{"label": "reported", "value": "3"}]), ("kinds", [{"label": "report", "value": "4"}]),
    ],
)  # fmt: skip
def test_a_contradiction_would_be_found(key, value):
    facts = WEEKS["a change"].model_dump(mode="json") | {key: value}
    assert week_contradictions(html_of(WEEKS["a change"]), facts) != []


def test_where_nothing_was_tested_nothing_is_called_unchanged():
    for name in ("one scan", "nothing"):
        html = html_of(WEEKS[name])
        assert "<strong>Not tested.</strong>" in html
        assert 'class="decision untested"' in html
        assert "No action is needed" not in html
    quiet = report_of([Given("sub-A_ses-1")], answer="nothing", tests=week_page.tests_of(TESTS[1:]))
    assert "<strong>No action is needed.</strong>" in html_of(quiet)
    assert "Of few scans only large changes are found" in html_of(quiet)


def test_reasons_have_a_minus_and_names_their_hyphens():
    gap = {"decision": "refused", "reasons": ["sub-7: 3 slices are missing at z = -340.5 mm"]}
    assert "sub-7: 3 slices are missing at z = −340.5 mm" in html_of(
        report_of([Given("sub-A_ses-1", answer=gap)])
    )


def test_page_and_json_are_written(tmp_path):
    written = write_week_page(WEEKS["a change"], tmp_path)
    assert {path.name for path in written.values()} >= {"week.html", "week.json"}


def test_the_override_rate_has_its_interval_and_what_was_before():
    assert READS.sentence == (
        "Readers changed 3 of the 20 answers that they read: 15\u00a0% (95 % interval 5 to 36\u00a0%). "
        "Before this week they changed 4 of 60."
    )
    assert WeekReads().sentence == "No reader has answered."
    assert WeekReads(overrides=0, reads=1, high=0.79).sentence.startswith(
        "Readers changed 0 of the 1 answer that they read: 0\u00a0% (95"
    )
