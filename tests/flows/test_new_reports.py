"""Scans without a report get one by the champion; a bad one never stops the others, a report stands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows import new_reports
from flows.ingest import COHORT_TABLE, DERIVATIVES
from flows.new_reports import report_new_scans
from pipeline.config import Study, TrackingSettings
from pipeline.errors import CohortError
from pipeline.scan import Cohort


@pytest.fixture
def three_scans(whole_way, tmp_path) -> Study:
    """A cohort of the first three scans of the small one, with its champion and an output of its own."""
    theirs, mine = whole_way.study.cohort.path, tmp_path / "bids"
    header, *rows = (theirs / COHORT_TABLE).read_text().splitlines()[:4]
    (mine / DERIVATIVES).mkdir(parents=True)
    (mine / COHORT_TABLE).write_text("\n".join([header, *rows]) + "\n")
    for scan in Cohort.read_tsv(theirs / COHORT_TABLE, whole_way.study.cohort.classes).scans[:3]:
        place = scan.path.parent.relative_to(theirs)
        shutil.copytree(scan.path.parent, mine / place, dirs_exist_ok=True)
    store = TrackingSettings(uri=f"sqlite:///{whole_way.folder.resolve() / 'mlflow.db'}")
    cohort = whole_way.study.cohort.model_copy(update={"path": mine})
    changed = {"output": tmp_path / "out", "cohort": cohort, "tracking": store}
    return whole_way.study.model_copy(update=changed)


def scans_of(study: Study) -> list[tuple[str, Path]]:
    cohort = Cohort.read_tsv(study.cohort.path / COHORT_TABLE, study.cohort.classes)
    return [(scan.scan_id, scan.path) for scan in cohort.scans]


@pytest.mark.slow
def test_what_has_no_report_gets_one_and_a_bad_scan_stops_no_other(three_scans, capsys):
    (first, _), (bad, image), (last, _) = scans_of(three_scans)
    whole = image.read_bytes()
    image.write_bytes(whole[:1000])
    reports = three_scans.output / "reports"
    done = report_new_scans(three_scans)
    assert done.written == (first, last)
    assert [scan_id for scan_id, _ in done.failed] == [bad]
    assert bad in capsys.readouterr().err
    pages = {page: page.stat().st_mtime_ns for page in reports.glob("*/report.html")}
    assert {page.parent.name for page in pages} >= {first, last}

    image.write_bytes(whole)
    (reports / last / "report.json").unlink()  # as where the process was killed
    done = report_new_scans(three_scans)
    assert (set(done.written), done.failed) == ({bad, last}, ())
    stands = reports / first / "report.html"
    assert stands.stat().st_mtime_ns == pages[stands]
    assert report_new_scans(three_scans).written == ()


@pytest.mark.slow
def test_without_a_champion_nothing_is_written_and_that_is_said(three_scans, capsys):
    without = three_scans.model_copy(update={"tracking": TrackingSettings()})
    assert report_new_scans(without).written == ()
    assert "no champion yet" in capsys.readouterr().err
    assert not (without.output / "reports").exists()


def test_without_a_cohort_it_says_what_to_run(tmp_path):
    nowhere = Study(name="tiny", output=tmp_path / "out", cohort={"path": tmp_path / "nowhere"})
    with pytest.raises(CohortError, match=r"nowhere.*taucal ingest"):
        new_reports._report_new_scans(nowhere)
