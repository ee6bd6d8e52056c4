"""A trained model predicts and reports a scan wherever it lies: in an archive, packed, on a medium."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from pydicom.fileset import FileSet
from typer.testing import CliRunner

from flows.cli import app
from pipeline.ingest.source_map import map_beside, read_map
from pipeline.scan import Cohort

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def study(whole_way, tmp_path_factory) -> Path:
    """A copy of a finished study: its store and its private map may grow."""
    folder = tmp_path_factory.mktemp("archived") / "demo"
    shutil.copytree(whole_way.folder, folder, ignore=shutil.ignore_patterns("adni", "cache", "reports"))
    for path in whole_way.folder.parent.glob("*.key*"):
        shutil.copy2(path, folder.parent)
    text = (folder / "study.yaml").read_text().replace(str(whole_way.folder), str(folder))
    (folder / "study.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def packed(study, tmp_path_factory) -> dict[str, Path]:
    """One sound scan of the study in all ways to hand it over."""
    (table,) = (study / "bids").glob("derivatives/taucal/cohort.tsv")
    scan = Cohort.read_tsv(table).scans[0]
    source = Path(read_map(map_beside(study / "bids.key"))[scan.scan_id]["paths"][-1])
    folder = tmp_path_factory.mktemp("packed")
    slices = sorted(source.glob("*.dcm"))
    places = {name: folder / name for name in ("a.zip", "a.tar.gz", "gz", "medium", "two.zip")}
    places["gz"].mkdir()
    medium = FileSet()
    with zipfile.ZipFile(places["a.zip"], "w") as archive, tarfile.open(places["a.tar.gz"], "w:gz") as tar:
        for n, path in enumerate(slices):
            archive.write(path, f"series/{n}.dcm")
            tar.add(path, f"series/{n}.dcm")
            (places["gz"] / f"{n}.dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
            medium.add(path)
    medium.write(places["medium"])
    others = Cohort.read_tsv(table).scans[1:]
    other = next(s for s in others if s.subject != scan.subject)
    second = Path(read_map(map_beside(study / "bids.key"))[other.scan_id]["paths"][-1])
    with zipfile.ZipFile(places["two.zip"], "w") as archive:
        for name, paths in (("first", slices), ("second", sorted(second.glob("*.dcm")))):
            for n, path in enumerate(paths):
                archive.write(path, f"{name}/{n}.dcm")
    return {"series": source, **places, "index": places["medium"] / "DICOMDIR"}


ONE = ("series", "a.zip", "a.tar.gz", "gz", "medium", "index")


def test_a_prediction_does_not_depend_on_how_the_scan_was_packed(study, packed):
    paths = [str(packed[name]) for name in ONE]
    done = CliRunner().invoke(app, ["predict", *paths, "--study", str(study), "--json"])
    assert done.exit_code == 0, done.output
    answers = json.loads(done.stdout)
    assert [answer.pop("scan") for answer in answers] == paths
    assert answers[0]["probabilities"] is not None
    assert all(answer == answers[0] for answer in answers)


def test_one_scan_packed_in_several_ways_has_one_report_of_its_patient(study, packed, tmp_path):
    paths = [str(packed[name]) for name in ("series", "a.zip", "gz", "index")]
    call = ["report", *paths, "--out", str(tmp_path / "reports"), "--no-pdf", "--study", str(study)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    (folder,) = (path for path in (tmp_path / "reports").iterdir() if path.is_dir())
    assert done.stderr.count(f"the same images as {packed['series']}: one report, {folder.name}.") == 3
    who = CliRunner().invoke(app, ["who", folder.name, "--study", str(study), "--json"])
    assert json.loads(who.stdout)[0]["paths"][-1].startswith(str(packed["medium"]))


def test_an_archive_of_two_scans_has_two_reports_and_no_one_prediction(study, packed, tmp_path):
    done = CliRunner().invoke(app, ["predict", str(packed["two.zip"]), "--study", str(study), "--json"])
    assert done.exit_code == 1
    (answer,) = json.loads(done.stdout)
    assert answer["reasons"] == ["There are 2 PET scans. Unpack it, and name the folder of one of them."]
    call = ["report", str(packed["two.zip"]), "--out", str(tmp_path / "r"), "--no-pdf", "--study", str(study)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert len([path for path in (tmp_path / "r").iterdir() if path.is_dir()]) == 2


def test_a_broken_archive_is_refused_and_named(study, packed, tmp_path):
    cut = tmp_path / "cut.zip"
    cut.write_bytes(packed["a.zip"].read_bytes()[:5000])
    done = CliRunner().invoke(app, ["predict", str(cut), "--study", str(study), "--json"])
    assert done.exit_code == 1
    (answer,) = json.loads(done.stdout)
    assert (answer["decision"], "archive is broken" in answer["reasons"][0]) == ("refused", True)
