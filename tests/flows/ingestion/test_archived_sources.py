"""An ingest of archives: the same dataset as of their folders, done once, named as the user names them."""

from __future__ import annotations

import json
import shutil
import zipfile

import pytest

from flows.ingestion import scan_jobs
from flows.ingestion.ingest_tables import COHORT_TABLE
from pipeline.errors import InputError
from pipeline.scan import Cohort


@pytest.fixture
def packed(put, tmp_path):
    """A BIDS source of two subjects as one archive, with its table."""
    put(tmp_path / "ds", "01"), put(tmp_path / "ds", "02")
    (tmp_path / "ds" / "dataset_description.json").write_text("{}")
    (tmp_path / "ds" / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tHC\nsub-02\tFTD\n")
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "ds.zip", "w") as archive:
        for path in sorted((tmp_path / "ds").rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
    shutil.rmtree(tmp_path / "ds")
    return tmp_path / "in" / "ds.zip"


def test_an_archive_is_ingested_once_and_nothing_is_left_of_it(packed, run, tmp_path, monkeypatch, capsys):
    bids = tmp_path / "out" / "bids"
    bids.parent.mkdir()
    result = run(packed, bids)
    assert (result.accepted + result.warned, result.layout) == (2, "bids")
    cohort = Cohort.read_tsv(bids / COHORT_TABLE)
    assert sorted(str(scan.diagnosis) for scan in cohort.scans) == ["CN", "None"]
    assert "1 scan states 'FTD'" in " ".join(capsys.readouterr().err.split())
    assert not list(bids.parent.glob(".taucal-unpacked*"))
    entries = json.loads((bids.parent / "key.map.json").read_text()).values()
    assert {entry["paths"][0].split("ds.zip/")[0] for entry in entries} == {f"{packed.parent}/"}
    monkeypatch.setattr(scan_jobs._ScanWork, "run", lambda _self: pytest.fail("a scan is done again"))
    assert run(packed, bids).scans == 2


def test_an_archive_that_is_none_is_refused_before_anything_is_written(run, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(InputError, match="archive is broken"):
        run(tmp_path / "a.zip", tmp_path / "out" / "bids")


def test_a_broken_archive_beside_a_good_one_is_named_and_fails_the_run(packed, run, tmp_path, capsys):
    (packed.parent / "more.zip").write_bytes(b"PK\x03\x04 broken")
    shutil.move(packed, packed.with_name("sub.zip"))
    result = run(packed.parent, tmp_path / "out" / "bids", layout="nifti")
    assert result.unopened == (str(packed.parent / "more.zip"),)
    assert result.exit_code == 1
    assert "more.zip" in capsys.readouterr().err
