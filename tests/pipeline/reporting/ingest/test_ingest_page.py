import re
from pathlib import Path

import pytest

from pipeline.errors import RefusedScan
from pipeline.ingest.outcomes import ScanOutcome
from pipeline.reporting.ingest.ingest_page import IngestReport, build_ingest_report, write_ingest_page
from pipeline.scan import Cohort, Scan

CLASSES = ("CN", "AD")


def scan(subject: str, session: str, diagnosis: str | None) -> Scan:
    return Scan(subject, session, Path("x"), diagnosis=diagnosis)


@pytest.fixture
def report() -> IngestReport:
    gap = RefusedScan(
        "missing-slices", "3 slices are missing", hint="fetch <b>the whole</b> series", measured="3 of 90"
    )
    outcomes = [
        ScanOutcome("sub-A_ses-1", "accepted"),
        ScanOutcome("sub-A_ses-2", "accepted"),
        ScanOutcome("sub-B_ses-1", "warned", "done", "noise", "0.31", "Noise in white matter: 0.31"),
        *(ScanOutcome.of_refusal(f"sub-C_ses-{n}", "conversion", gap) for n in (1, 2)),
    ]
    scans = (scan("A", "1", "CN"), scan("A", "2", "AD"), scan("B", "1", None))
    return build_ingest_report(outcomes, {"CT images": 7}, "adni", Cohort(scans, CLASSES))


@pytest.fixture
def html(report, tmp_path) -> str:
    return write_ingest_page(report, tmp_path).read_text()


def test_negative_numbers_have_a_minus_and_names_keep_their_hyphens(tmp_path):
    gap = RefusedScan(
        "missing-slices", "2 slices are missing at z = -343.0, -340.5 mm", measured="at -343.0 mm"
    )
    outcomes = [
        ScanOutcome.of_refusal("sub-C_ses-1", "conversion", gap),
        ScanOutcome("sub-D_ses-1", "accepted", message="Better fit turned over: -0.2, 80-100 min"),
    ]
    report = build_ingest_report(outcomes, {}, "adni", Cohort((), CLASSES))
    html = write_ingest_page(report, tmp_path).read_text()
    for text in ("z = −343.0, −340.5 mm", "at −343.0 mm", "fit turned over: −0.2, 80-100 min", ">sub-C_<"):
        assert text in html
    assert report.refused[0].measured == "at -343.0 mm", "as tables have it"


def test_every_scan_is_counted_once(report):
    assert report.found == 5
    assert [row.scan for row in report.accepted] == ["sub-A_ses-1", "sub-A_ses-2"]
    assert {r.label: r.value for r in report.rules} == {"missing-slices": "2"}


def test_classes_count_scans_and_subjects(report):
    assert report.classes == {"CN": (1, 1), "AD": (1, 1)}
    assert report.without_diagnosis == 1
    assert report.subjects == 2


def test_refusals_come_first_with_rule_value_and_what_to_do(html):
    order = [html.index(f"<h2>{title}") for title in ("Refused scans", "Scans with", "Diagnoses", "Accepted")]
    assert order == sorted(order)
    assert "2 accepted, 1 with a warning, 2 refused" in html
    assert re.search(
        r">sub-C_</span><wbr><span class=.whole.>ses-1</span></th><td>missing-slices<br>.*"
        r"3 of 90; during conversion.*<td>3 slices",
        html,
    )
    assert "Fetch &lt;b&gt;the whole&lt;/b&gt; series." in html
    assert "CT images" in html
    assert "adni layout" in html


def test_the_page_has_the_style_and_the_policy_of_all_reports(html):
    assert "<script" not in html
    assert "default-src &#39;none&#39;; style-src &#39;sha256-" in html
    assert "unsafe-inline" not in html
    assert "Research use only" in html
    assert "SYNTHETIC" not in html
    assert not re.search(r"https?://", html)


def test_one_scan_of_one_subject_is_singular(tmp_path):
    cohort = Cohort((scan("A", "1", "CN"),), CLASSES)
    html = write_ingest_page(
        build_ingest_report([ScanOutcome("sub-A_ses-1", "accepted")], {}, "bids", cohort), tmp_path
    ).read_text()
    assert "1 PET scan (bids layout)" in html
    assert "1 subject in all" in html


def test_without_refusals_there_is_no_such_heading(tmp_path):
    bare = build_ingest_report([ScanOutcome("sub-A_ses-1", "accepted")], {}, "bids", Cohort((), CLASSES))
    html = write_ingest_page(bare, tmp_path).read_text()
    assert "Refused scans" not in html
    assert "Scans with a warning" not in html


def test_labels_that_the_source_lacks_are_no_warning_and_no_zeros(tmp_path):
    outcomes = [ScanOutcome(f"sub-{s}_ses-1", "accepted", message="no diagnosis is known") for s in "AB"]
    cohort = Cohort(tuple(scan(s, "1", None) for s in "AB"), CLASSES)
    html = write_ingest_page(
        build_ingest_report(outcomes, {}, "bids", cohort, silent=2), tmp_path
    ).read_text()
    assert "No diagnosis in the source for 2 scans. A study gives scans theirs from a table" in html
    assert "2 accepted, 0 with a warning, 0 refused" in html
    assert "referred to an expert" not in html
    assert 'scope="row">CN' not in html


def test_scans_of_no_class_are_counted_apart_from_those_that_state_nothing(tmp_path):
    cohort = Cohort(
        tuple(scan(s, "1", d) for s, d in zip("ABCD", ("CN", None, None, None), strict=True)), CLASSES
    )
    html = write_ingest_page(build_ingest_report([], {}, "bids", cohort, silent=1), tmp_path).read_text()
    assert re.search(r'>CN</th><td class="n">1<', html)
    assert re.search(r'>of none of these classes</th><td class="n">2<', html)
    assert re.search(r'>not stated in the source</th><td class="n">1<', html)
    assert "No diagnosis in the source for 1 scan." in html


@pytest.mark.slow
def test_axe_finds_no_violation(html, violations):
    assert violations(html) == []
