"""The list of reports: what it shows of each, in which order, and what a blind reader must not see."""

from __future__ import annotations

import html as html_module
import os
import re
from dataclasses import replace

import pytest
from page_reads import list_contradictions

from pipeline.errors import RefusedScan
from pipeline.evaluation.monitoring.reads import AnsweredRead, Read, RecordedRead
from pipeline.files import read_json, write_json
from pipeline.reporting.page.reasons import in_words
from pipeline.reporting.reading.report_list import build_report_list, write_report_list
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_page import write_scan_report

CLEAR, DOUBTFUL, REFUSED = "sub-A7KD2M_ses-20310412", "sub-B_ses-2", "sub-C_ses-3"


@pytest.fixture(scope="module")
def made(tmp_path_factory, scan, context, prediction, doubtful):
    """Three reports of three days, without their volumes."""
    folder = tmp_path_factory.mktemp("reports")
    bare = replace(scan, subject="C", session="3", regions=None, composites={}, findings=(), visits=())
    gap = RefusedScan("missing-slices", "3 slices are missing", hint="fetch the series again")
    odd = replace(scan.findings[0], verdict="warn")
    warned = replace(scan, subject="B", session="2", findings=(odd,))
    days = ("2026-11-19", "2026-11-20", "2026-11-21")
    first, second, third = (replace(context, report_date=day) for day in days)
    reports = {
        CLEAR: build_scan_report(scan, first, prediction),
        DOUBTFUL: build_scan_report(warned, second, doubtful),
        REFUSED: build_scan_report(bare, third, None, gap),
    }
    for name, report in reports.items():
        write_scan_report(report, None, folder / name, pdf=False)
    return folder


def read_of(scan: str, reader: str = "AB", verdict: str | None = "accept", version: str = "3", **more):
    recorded = RecordedRead(
        Read(reader, "positive", "temporal", "good", verdict=verdict), "", "tr", "2026", 1, **more
    )
    return AnsweredRead(scan, version, {}, recorded)


def text_of(html: str) -> str:
    bare = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return html_module.unescape(" ".join(re.sub(r"<[^>]+>", " ", bare).split()))


def test_the_newest_report_comes_first_with_all_that_a_reader_asks(made):
    found = build_report_list(made, [], "clinic")
    assert [r.scan for r in found.reports] == [REFUSED, DOUBTFUL, CLEAR]
    assert found.counts == {"report": 1, "refer": 1, "refused": 1, "unread": 3}
    assert found.report_date == "2026-11-21"
    page = text_of(write_report_list(found, made).read_text())
    order = [page.index(scan) for scan in (REFUSED, DOUBTFUL, CLEAR)]
    assert order == sorted(order)
    assert "3 scans: 1 with a finding, 1 referred to an expert, 1 refused · 3 not read yet" in page
    assert page.count("not read yet") == 4


def test_a_list_that_no_read_renews_says_where_later_reads_are(made):
    found = build_report_list(made, [], "clinic")
    own, other = (
        text_of(write_report_list(found, made, follows_reads=follows).read_text())
        for follows in (True, False)
    )
    assert "written with each report and each read." in own
    assert "with each report that is written here; taucal reports lists later reads too." in other


def test_what_is_listed_is_what_the_reports_hold(made):
    page = text_of(write_report_list(build_report_list(made, [], "clinic"), made).read_text())
    for path in made.glob("*/report.json"):
        stored = read_json(path)
        assert stored["headline"] in page
        for reason in stored["reasons"]:
            assert in_words(reason, stored["prediction_set"]).rstrip(".")[1:] in page
        assert f"{stored['report_date']} · version {stored['model']['version']}" in page
    assert [page.count(f"Quality control: {words}") for words in ("passed", "warning", "refused")] == [
        1,
        1,
        1,
    ]
    assert page.index("Tau status uncertain") < page.index("Refer for expert read")
    assert page.rindex("Tau status uncertain") < page.index("Most like AD"), "no probability comes before it"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1 with a finding", "2 with a finding"), ("3 not read yet", "2 not read yet"),
        ("Most like AD", "Most like CN"), ("Quality control: passed", "Quality control: warning"),
        ("2026-11-20 · version 3", "2026-11-20 · version 4"), (f"{DOUBTFUL}/report", f"{CLEAR}/report"),
    ],
)  # fmt: skip
def test_a_list_that_contradicts_the_reports_is_found(made, old, new):
    found = build_report_list(made, [], "clinic")
    html, facts = write_report_list(found, made).read_text(), found.model_dump(mode="json")
    assert list_contradictions(html, facts) == []
    assert old in html
    assert list_contradictions(html.replace(old, new, 1), facts)


def test_every_link_leads_to_a_file(made):
    (made / CLEAR / "report.pdf").write_bytes(b"%PDF")
    (made / CLEAR / "viewer.html").write_text("")
    (made / "study").mkdir(exist_ok=True)
    (made / "study" / "study.html").write_text("")
    html = write_report_list(build_report_list(made, [], "clinic"), made).read_text()
    links = re.findall(r'href="([^"]+)"', html)
    assert len(links) == 6
    assert all((made / link).is_file() for link in links)
    (made / CLEAR / "report.pdf").unlink()
    (made / CLEAR / "viewer.html").unlink()


def test_a_read_is_listed_with_its_verdict_and_the_version_it_is_about(made):
    reads = [
        read_of(CLEAR, superseded=True),
        read_of(CLEAR, verdict="reject"),
        read_of(CLEAR, "CD", version="2"),
        read_of(DOUBTFUL, verdict=None),
    ]
    found = {r.scan: r.reads for r in build_report_list(made, reads, "clinic").reports}
    assert found == {
        CLEAR: ("AB: rejects the answer", "CD: accepts the answer of version 2"),
        DOUBTFUL: ("AB: no verdict yet",),
        REFUSED: (),
    }


def test_a_blind_reader_sees_no_answer_and_no_link_before_a_read(made):
    found = build_report_list(made, [read_of(CLEAR)], "clinic", blind=True)
    html = write_report_list(found, made).read_text()
    assert f'href="{CLEAR}/report.html"' in html
    assert f'href="{DOUBTFUL}/report.html"' not in html
    shown = {r.scan: r.headline for r in found.reports}
    assert shown[CLEAR] in html
    assert shown[DOUBTFUL] not in html
    assert text_of(html).count("The answer is listed once the scan is read") == 2


def test_a_blind_reader_gets_the_viewer_which_has_no_answer(made):
    (made / DOUBTFUL / "viewer.html").write_text("")
    found = build_report_list(made, [], "clinic", blind=True)
    html = write_report_list(found, made).read_text()
    (made / DOUBTFUL / "viewer.html").unlink()
    assert re.findall(rf'href="({CLEAR}[^"]+|{DOUBTFUL}[^"]+)"', html) == [f"{DOUBTFUL}/viewer.html"]


def test_a_report_that_cannot_be_read_is_named_and_the_others_are_listed(made, tmp_path):
    for name in ("cut", "other", "sound"):
        (tmp_path / name).mkdir()
    whole = (made / CLEAR / "report.json").read_text()
    (tmp_path / "cut" / "report.json").write_text(whole[:500])
    write_json(tmp_path / "other" / "report.json", ["no report"])
    (tmp_path / "sound" / "report.json").write_text(whole)
    found = build_report_list(tmp_path, [], "clinic")
    assert (len(found.reports), found.unreadable) == (1, ("cut", "other"))
    page = text_of(write_report_list(found, tmp_path).read_text())
    assert "2 cannot be read and are not listed: cut, other. Write them again with taucal report ." in page


def test_of_one_day_the_last_written_comes_first(made, tmp_path):
    stored = read_json(made / CLEAR / "report.json")
    for n, session in enumerate(("b", "a", "c")):
        path = write_json(tmp_path / session / "report.json", stored | {"session": session})
        os.utime(path, ns=(n, n))
    listed = [r.scan[-1] for r in build_report_list(tmp_path, [], "clinic").reports]
    assert listed == ["c", "a", "b"]


def test_reports_of_earlier_formats_are_listed(made, tmp_path):
    stored = read_json(made / CLEAR / "report.json")
    del stored["tau"]
    write_json(tmp_path / "old" / "report.json", stored | {"format_version": 2})
    (report,) = build_report_list(tmp_path, [], "clinic").reports
    assert report.tau == ""


def test_hostile_names_are_inert(made, tmp_path):
    stored = read_json(made / CLEAR / "report.json")
    hostile = '"><script>alert(1)</script>'
    place = tmp_path / "a b&'c"
    write_json(place / "report.json", stored | {"subject": hostile, "headline": hostile})
    (place / "report.html").write_text("")
    html = write_report_list(build_report_list(tmp_path, [], hostile), tmp_path).read_text()
    assert "<script" not in html
    assert 'href="a%20b%26%27c/report.html"' in html


def test_an_empty_folder_has_a_list_that_says_so(tmp_path):
    page = text_of(write_report_list(build_report_list(tmp_path, [], "clinic"), tmp_path).read_text())
    assert "There is no report in this folder." in page


def test_a_synthetic_report_marks_the_list(made, tmp_path):
    stored = read_json(made / CLEAR / "report.json")
    write_json(tmp_path / "a" / "report.json", stored | {"synthetic": True})
    assert "SYNTHETIC" in write_report_list(build_report_list(tmp_path, [], "x"), tmp_path).read_text()


@pytest.mark.slow
def test_axe_finds_no_violation(made, tmp_path, violations):
    found = build_report_list(made, [read_of(CLEAR)], "clinic")
    assert violations(write_report_list(found, made).read_text()) == []
    blind = build_report_list(made, [read_of(CLEAR)], "clinic", blind=True)
    assert violations(write_report_list(blind, made).read_text()) == []
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "report.json").write_text("{")
    assert violations(write_report_list(build_report_list(tmp_path, [], "x"), tmp_path).read_text()) == []
