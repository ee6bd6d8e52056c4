"""Scans without a report get one by the champion; a bad one never stops the others, a report stands."""

from __future__ import annotations

import shutil

import pytest

from flows.ingestion.ingest_tables import COHORT_TABLE, DERIVATIVES
from flows.reports import new_reports
from flows.reports.new_reports import report_new_scans
from pipeline.config import Study, TrackingSettings
from pipeline.errors import CohortError
from pipeline.scan import Cohort


@pytest.fixture
def two_scans(whole_way, tmp_path) -> Study:
    """A cohort of the first two scans of the small one, with its champion and an output of its own."""
    theirs, mine = whole_way.study.cohort.path, tmp_path / "bids"
    header, *rows = (theirs / COHORT_TABLE).read_text().splitlines()[:3]
    (mine / DERIVATIVES).mkdir(parents=True)
    (mine / COHORT_TABLE).write_text("\n".join([header, *rows]) + "\n")
    for scan in Cohort.read_tsv(theirs / COHORT_TABLE, whole_way.study.cohort.classes).scans[:2]:
        place = scan.path.parent.relative_to(theirs)
        shutil.copytree(scan.path.parent, mine / place, dirs_exist_ok=True)
    store = TrackingSettings(uri=f"sqlite:///{whole_way.folder.resolve() / 'mlflow.db'}")
    cohort = whole_way.study.cohort.model_copy(update={"path": mine})
    changed = {"output": tmp_path / "out", "cohort": cohort, "tracking": store}
    return whole_way.study.model_copy(update=changed)


@pytest.mark.slow
def test_what_has_no_report_gets_one_and_a_bad_scan_stops_no_other(two_scans, capsys):
    cohort = Cohort.read_tsv(two_scans.cohort.path / COHORT_TABLE, two_scans.cohort.classes)
    bad, good = cohort.scans
    whole = bad.path.read_bytes()
    bad.path.write_bytes(whole[:1000])
    done = report_new_scans(two_scans)
    assert done.written == (good.scan_id,)
    assert f'href="{good.scan_id}/report.html"' in (two_scans.output / "reports" / "index.html").read_text()
    assert [scan_id for scan_id, _ in done.failed] == [bad.scan_id]
    assert bad.scan_id in capsys.readouterr().err
    stands = two_scans.output / "reports" / good.scan_id / "report.html"
    written = stands.stat().st_mtime_ns

    bad.path.write_bytes(whole)
    done = report_new_scans(two_scans)
    assert (done.written, done.failed) == ((bad.scan_id,), ())
    assert stands.stat().st_mtime_ns == written
    assert report_new_scans(two_scans).written == ()
    stands.with_name("report.json").unlink()  # as where the process was killed before the end
    assert not new_reports._is_reported(stands.parent)


@pytest.mark.slow
def test_without_a_champion_nothing_is_written_and_that_is_said(two_scans, capsys):
    without = two_scans.model_copy(update={"tracking": TrackingSettings()})
    assert report_new_scans(without).written == ()
    assert "no champion yet" in capsys.readouterr().err
    assert not (without.output / "reports").exists()


def test_without_a_cohort_it_says_what_to_run(tmp_path):
    nowhere = Study(name="tiny", output=tmp_path / "out", cohort={"path": tmp_path / "nowhere"})
    with pytest.raises(CohortError, match=r"nowhere.*taucal ingest"):
        new_reports.report_new_scans(nowhere)
