"""The page of a year: events, actions, and how policies compare as far as the numbers show."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from pipeline.config import EvaluationSettings
from pipeline.evaluation.monitoring.prospective import PeriodPredictions, PolicyPredictions
from pipeline.reporting.year.year_page import (
    _months,
    build_year_report,
    write_year_report,
    year_figure,
    year_page,
    year_rows,
)

MONTHS = 5


def month(rng, n, *, good):
    labels = rng.integers(0, 3, n)
    right = np.full((n, 3), 0.1) + 0.7 * np.eye(3)[labels]
    flat = np.full((n, 3), 1 / 3)
    wrong = np.full((n, 3), 0.1) + 0.7 * np.eye(3)[(labels + 1) % 3]
    told = {"gate": right if good else flat, "never": flat, "always": wrong}
    covered, referred = np.ones(n, dtype=bool), np.arange(n) % 2 == 0
    ids = tuple(f"sub-{k}" for k in range(n))
    said = {policy: PolicyPredictions(1, p, covered, referred) for policy, p in told.items()}
    return PeriodPredictions(ids, ids, labels, right, said)


@pytest.fixture
def report(rng):
    decided = {"action": "retrain", "outcome": "promoted", "shift": "retrain", "reasons": ["<b>SUVR</b>"]}
    return build_year_report(
        title="a year",
        report_date="2026-11-21",
        run_id="4f1c",
        events=["", "", "a new scanner", "", ""],
        periods=[*(month(rng, 12, good=k > 2) for k in range(MONTHS - 1)), month(rng, 0, good=True)],
        decided=[{**decided, "champion": k} for k in range(MONTHS)],
        settings=EvaluationSettings(draws=100),
        seed=0,
    )


def test_sentences_go_by_the_paired_differences(report):
    never, always = report.sentences
    assert "was better than the one never retrained: difference of the NLL" in never
    assert "was better than the one always retrained, without the gate" in always
    assert "48 scans" in never


def test_months_and_quarters_are_all_there(report):
    assert [m.month for m in report.months] == [1, 2, 3, 4, 5]
    assert [s.name for s in report.spans] == ["months 1 to 3", "months 4 to 5", "the year"]
    assert [s.scans for s in report.spans] == [36, 12, 48]
    assert report.months[4].policies == {}
    first = report.spans[0].differences["never"]["negative_log_likelihood"]
    assert (first.value, first.low, first.high) == (0, 0, 0)


def test_the_console_table_has_a_row_a_month_also_where_no_scan_came(report):
    header, rows = year_rows(report)
    assert len(rows) == MONTHS
    assert {len(row) for row in rows} == {len(header)}
    assert rows[2][-1] == "a new scanner"
    scores = header.index("NLL gate / never / always (oracle)")
    assert rows[0][scores] == "1.10 / 1.10 / 2.30 (0.22)"
    assert rows[4][scores] == "–"


def test_the_files_hold_the_numbers_and_nothing_is_run(report, tmp_path):
    written = write_year_report(report, tmp_path)
    table = pd.read_csv(written["tsv"], sep="\t")
    assert len(table) == 3 * (MONTHS - 1)
    assert set(table.policy) == {"gate", "never", "always"}
    html = written["html"].read_text()
    assert "<script" not in html
    assert "&lt;b&gt;SUVR" in html
    assert "SYNTHETIC" in html
    assert "Research use only" in html


def test_the_level_of_the_intervals_is_stated_and_none_is_0_percent(report):
    never = {p: m.model_copy(update={"referred": 0.0}) for p, m in report.months[0].policies.items()}
    first = report.months[0].model_copy(update={"policies": never})
    changed = report.model_copy(update={"level": 0.9, "months": (first, *report.months[1:])})
    html = year_page(changed).html().replace("\u00a0", " ")
    assert "90 % intervals from a bootstrap" in html
    assert html.count('<td class="n">0.0 %</td>') == 3


def test_a_share_has_one_name_and_one_form_in_all_tables(report):
    html = year_page(report).html().replace("\u00a0", " ")
    assert html.count("50.0 %") == 3 * (MONTHS - 1) + 3 * len(report.spans)
    assert html.count("Scans referred") == 1 + 3, "of the spans, and of each policy's months"
    assert "Referred" not in html
    assert '>100.0 %<span class="range">' in re.sub(r"\s*<br>\s*", "", html), "coverage as well"


def test_a_quarter_of_one_month_is_named_so():
    assert (_months(4, 4), _months(4, 5)) == ("month 4", "months 4 to 5")


def test_the_chart_draws_each_policy_and_marks_what_came(report):
    axes = year_figure(report).axes[0]
    drawn = {line.get_label(): line for line in axes.get_lines()}
    gate = drawn["retrained with the gate"].get_ydata()
    expected = [m.policies["gate"].negative_log_likelihood for m in report.months if m.policies]
    assert list(gate) == expected
    assert list(drawn["event"].get_xdata()) == [3, 3]


@pytest.mark.slow
def test_axe_finds_no_violation(report, violations):
    assert violations(year_page(report).html()) == []
