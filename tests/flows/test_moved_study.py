"""A trained study is copied and renamed: nothing is trained again, its model predicts, reports and moves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.report import Request, report_scans
from flows.reports.predict import predict_scans
from flows.retraining.promotion import checked_audit, promote_by_hand
from flows.train import train_study
from pipeline import tracking

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.mark.parametrize("name", ["moved", "Study #1, 50 %"])
def test_a_study_that_was_copied_and_renamed_goes_on_as_before(whole_way, tmp_path, name):
    before = {p: p.stat().st_mtime_ns for p in whole_way.folder.rglob("*") if p.is_file()}
    copy = Path(shutil.copytree(whole_way.folder, tmp_path / "copy"))
    folder = copy.rename(tmp_path / name)
    cohort = whole_way.study.cohort.model_copy(update={"path": folder / "bids"})
    study = whole_way.study.model_copy(update={"output": folder, "cohort": cohort})

    networks = {p: p.stat().st_mtime_ns for p in (folder / "network").rglob("*")}
    trained = train_study(study)
    assert (trained.run_id, trained.version) == (whole_way.result["run_id"], whole_way.result["version"])
    assert {p: p.stat().st_mtime_ns for p in (folder / "network").rglob("*")} == networks, "trained again"

    scan = sorted((folder / "bids").glob("sub-*/ses-*/pet/*_pet.nii.gz"))[0]
    (answer,) = predict_scans([scan], "models:/taucal@champion", folder)
    assert answer["decision"] in ("report", "refer", "refused")
    (pages,) = report_scans([scan], Request(tmp_path / "out", "@champion", folder, pdf=False))
    assert pages["html"].is_file()

    store = tracking.store_at(folder)
    version = tracking.register(store, trained.run_id, folder / "classifier", {}, "by hand")
    promote_by_hand(store, folder, version, "test")
    assert tracking.champion_version(store) == version
    assert checked_audit(store, folder)[-1].version == version
    assert {p: p.stat().st_mtime_ns for p in before} == before, "the original stays as it was"
