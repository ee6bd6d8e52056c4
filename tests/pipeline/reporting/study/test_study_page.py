import json
import re
import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pytest
from page_seen import rows_of
from page_words import words_seen

from models.names import CALIBRATOR_TITLES
from pipeline.reporting.page.pdf import why_no_pdf
from pipeline.reporting.study.study_build import build_study_report
from pipeline.reporting.study.study_figures import study_figures
from pipeline.reporting.study.study_numbers import StudyReport
from pipeline.reporting.study.study_page import study_page, write_study_report


@pytest.fixture(scope="module")
def html(report) -> str:
    return study_page(report, study_figures(report)).html()


def test_the_page_is_one_file_and_escaped(html):
    assert "<script" not in html
    assert not re.search(r"https?://", html)
    assert "<b>here</b>" not in html
    assert "&lt;b&gt;here&lt;/b&gt;" in html
    assert not re.search(r"<[^>]+\s(style|on\w+)=", html)


def test_the_first_line_names_the_target(html, report):
    assert "Target: diagnosis (CN, MCI, AD)" in html
    other = report.model_copy(update={"target": "visual read"})
    page = study_page(other, study_figures(other)).html()
    assert "Target: visual read (CN, MCI, AD)" in page


@pytest.mark.parametrize(
    "words",
    [
        "Flow of scans",
        "missing-slices",
        "MR (12)",
        "Choice of the calibrator",
        "oracle (true posterior)",
        "TRIPOD+AI",
        "How to read it.",
        "too few scans",
        "a computed phantom",
        "contain the diagnosis of 80\u00a0% of the scans of each class",
        "For MCI they contain it less often than chance explains.",
        "A set has 1.60 classes on average. 4 of 45 sets have more than 2 classes: these scans are referred.",
        "would have 1.25 on average, and 0 of 45 would be that large.",
        "38 of 45 test scans get a finding; the most likely class is the diagnosis in 29 of these 38.",
        "Calibration slope and intercepts",
        "Plausible ranges: how often they hold the true probability",
        '<td class="n">91\u00a0%</td><td class="n">47 points</td>',
        '<td class="n">78\u00a0%</td><td class="n">36 points</td>',
    ],
)
def test_the_page_says(html, words):
    assert words in html


def test_calibrators_have_the_names_that_people_use_and_never_those_of_settings(html, report):
    page = page_of(report)
    assert {row.name for row in report.selection} >= {"identity", "adaptive_temperature"}
    for row in report.selection:
        assert CALIBRATOR_TITLES[row.name] in page
        assert row.name not in page or row.name in CALIBRATOR_TITLES[row.name]
    assert f"Calibrator: {CALIBRATOR_TITLES[report.chosen]}." in page


def test_every_class_has_its_pictures_under_its_name_as_the_browser_writes_it(html):
    for name in ("most probable class", "CN", "MCI", "AD"):
        assert re.search(rf'<p>{name}</p><img src="[^"]+" alt="Reliability of {name}, before and after', html)
    for name in ("CN", "MCI", "AD"):
        assert re.search(
            rf'<p>{name}</p><img src="[^"]+" alt="Stated against true probability of {name}"', html
        )


def page_of(report) -> str:
    return words_seen(study_page(report, ()).html())


def test_the_level_is_that_of_the_intervals(sources):
    results = replace(sources.results, level=0.9)
    page = page_of(build_study_report(replace(sources, results=results)))
    assert page.count("90 % intervals from a bootstrap") == 2
    assert "(90 % interval" in page
    assert "95 % intervals from" not in page


def test_classes_with_few_test_scans_or_none_are_named(report):
    confusion = ((20, 0, 0), (1, 3, 0), (0, 0, 0))
    told = report.model_copy(update={"confusion": confusion}).few_scans
    assert told[0].startswith("No test scan is of AD: nothing here shows how it is recognised")
    assert told[1].startswith("Few test scans are of MCI (4): with fewer than 10 of a class, intervals")
    enough = report.model_copy(update={"confusion": ((20, 0, 0), (0, 20, 0), (0, 0, 20))})
    assert enough.few_scans == ()


@pytest.mark.parametrize(
    ("too_large", "words"),
    [
        (0, "None of the 45 sets has more than 2 classes."),
        (1, "1 of 45 sets has more than 2 classes: this scan is referred."),
        (3, "3 of 45 sets have more than 2 classes: these scans are referred."),
    ],
)
def test_sets_that_are_too_large_are_counted_in_words(report, too_large, words):
    decided = report.decided.model_copy(update={"too_large": too_large, "answered": 30})
    assert words in page_of(report.model_copy(update={"decided": decided}))


def test_a_share_of_all_is_100_percent_and_one_of_none_is_no_number(report):
    all_held = report.coverage[0].model_copy(update={"covered": 22, "scans": 22})
    report = report.model_copy(update={"coverage": (all_held, *report.coverage[1:])})
    rows = rows_of(study_page(report, ()).html())
    shown = {row[0]: row for row in rows if len(row) == 5 and row[0] in ("CN", "AD")}
    assert shown["CN"][3] == "100 %"
    assert shown["AD"][3:] == ("–", "–")


def test_sites_are_in_the_order_of_their_numbers(sources):
    scans = tuple(
        replace(scan, facts={**scan.facts, "site": (2, 10, 1)[n % 3]})
        for n, scan in enumerate(sources.cohort.scans)
    )
    report = build_study_report(replace(sources, cohort=replace(sources.cohort, scans=scans)))
    assert [s.slice for s in report.slices if "site" in s.slice] == ["site: 1", "site: 2", "site: 10"]


def test_every_item_of_the_checklist_is_on_the_page_once(html):
    items = re.findall(r'<th scope="row">(\d+) [A-Z][^<]+</th><td>([^<]+)</td>', html)
    assert [int(number) for number, _ in items] == list(range(1, 28))


def test_figures_come_with_their_numbers(report, tmp_path):
    written = write_study_report(report, tmp_path, pdf=False)
    names = {p.name for p in written["figures"].iterdir()}
    kinds = ("reliability", "risk_coverage", "confusion", "training", "posterior")
    assert names == {f"{k}.{s}" for k in kinds for s in ("svg", "png", "csv")}
    numbers = pd.read_csv(written["figures"] / "reliability.csv")
    assert numbers.groupby(["panel", "stage"]).scans.sum().unique().tolist() == [report.test_scans]


def test_the_json_holds_the_same_facts(report, tmp_path):
    written = write_study_report(report, tmp_path, pdf=False)
    assert StudyReport.model_validate(json.loads(written["json"].read_text())) == report


def test_the_same_study_gives_the_same_bytes(report):
    first, second = (study_page(report, study_figures(report)).html() for _ in range(2))
    assert first == second


def test_a_study_without_phantom_history_or_refusals_is_shorter(sources):
    real = replace(sources.results.decisions, true_sets=None, plausible=None)
    sources = replace(sources, results=sources.results.with_decisions(real))
    bare = replace(sources, posterior=None, history=(), outcomes=(), ignored={}, synthetic=False, versions={})
    report = build_study_report(bare)
    page = study_page(report, study_figures(report)).html()
    assert "SYNTHETIC" not in page
    assert "true probability" not in page
    assert "Whether the plausible range of a probability holds the true one" in page
    assert report.flow.found == len(sources.cohort)


def test_a_comparison_of_losses_is_reported_where_there_is_one(sources, html):
    losses = {name: f"{name} does not differ from CE." for name in ("GCE", "<b>focal</b>")}
    report = build_study_report(replace(sources, losses=losses, losses_stage="after ATS"))
    page = study_page(report, study_figures(report)).html()
    assert "GCE does not differ from CE." in page
    assert "&lt;b&gt;focal&lt;/b&gt; does not differ" in page
    assert "after ATS" in page
    assert "Losses compared" not in html


@pytest.mark.slow
def test_axe_finds_no_violation(html, violations):
    assert violations(html) == []


def test_the_printed_parts_follow_each_other_without_empty_pages(report, tmp_path):
    if why_no_pdf() or not shutil.which("pdftotext"):
        pytest.skip("needs pango and pdftotext")
    path = write_study_report(report, tmp_path)["pdf"]
    text = subprocess.run(["pdftotext", path, "-"], capture_output=True, text=True, check=True).stdout
    pages = text.split("\f")[:-1]
    parts = ("Calibration", "Decisions", "Limitations and checklist")
    before = {
        name: page.partition(f"\n{name}\n")[0] for name in parts for page in pages if f"\n{name}\n" in page
    }
    assert before.keys() == set(parts)
    assert any(text.count("\n") > 15 for text in before.values()), "each part began a page"
