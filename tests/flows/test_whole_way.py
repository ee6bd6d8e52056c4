"""From DICOM to a clinician's page: what must hold at the end, and what another process can do with it."""

from __future__ import annotations

import csv
import json
import os
import pickletools
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from page_check import contradictions_in

from flows.demo import run_demo
from flows.ingestion.ingest_tables import COHORT_TABLE
from flows.learning.build_classifier import track
from flows.learning.study_files import StudyFiles
from flows.report import Request, report_scans
from flows.train import train_study
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.errors import CohortError, InputError
from pipeline.evaluation.classifier.results import Results
from pipeline.files import read_json
from pipeline.one_scan import answer
from pipeline.scan import Cohort, Split

pytestmark = [pytest.mark.slow, pytest.mark.server]


def truth(folder: Path) -> list[dict[str, str]]:
    with (folder / "adni" / "tables" / "PHANTOM_TRUTH.csv").open() as stream:
        return list(csv.DictReader(stream))


def outcomes(folder: Path) -> list[dict[str, str]]:
    with (folder / "bids" / "derivatives" / "taucal" / "ingest_report.tsv").open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_spoiled_scans_are_refused_for_their_reason_and_sound_ones_are_not(whole_way):
    spoiled = sorted(row["SPOILED"] for row in truth(whole_way.folder) if row["SPOILED"])
    refused = [row for row in outcomes(whole_way.folder) if row["verdict"] == "refused"]
    assert spoiled, "the cohort must hold some"
    assert sorted(row["rule"] for row in refused) == spoiled
    assert all(row["message"] for row in refused)


def test_every_scan_found_is_accounted_for(whole_way):
    rows = outcomes(whole_way.folder)
    assert len(rows) == len(truth(whole_way.folder)) == 56
    cohort = Cohort.read_tsv(whole_way.folder / "bids" / COHORT_TABLE, ("CN", "MCI", "AD"))
    assert len(cohort) == sum(row["verdict"] != "refused" for row in rows)
    np.testing.assert_allclose(cohort.posterior.sum(axis=1), 1, atol=1e-6)


def test_no_subject_stands_in_two_parts(whole_way):
    cohort = Cohort.read_tsv(whole_way.folder / "bids" / COHORT_TABLE, ("CN", "MCI", "AD"))
    subject_of = {s.scan_id: s.subject for s in cohort.scans}
    parts = {name: tuple(ids) for name, ids in read_json(whole_way.folder / "split.json").items()}
    split = Split(**parts, subject_of=subject_of)  # raises on leakage
    assert sum(len(split.part(p)) for p in parts) == len(cohort)


def test_the_table_of_results_holds_every_rival(whole_way):
    results = whole_way.result["results"]
    kinds = {row["kind"] for row in results["rows"]}
    assert {"network", "chosen", "baseline", "oracle", "prior"} <= kinds
    for row in results["rows"]:
        nll = row["metrics"]["negative_log_likelihood"]
        assert nll["low"] <= nll["value"] <= nll["high"]
    oracle = next(r for r in results["rows"] if r["kind"] == "oracle")
    assert oracle["metrics"]["posterior_error"]["value"] == 0


def test_no_page_contradicts_itself_or_the_results_of_the_study(whole_way):
    pages = whole_way.folder / "reports"
    assert len(list(pages.rglob("report.html"))) == 3
    listed = (pages / "index.html").read_text()
    assert all(f'href="{kind}/report.html"' in listed for kind in ("clear", "uncertain", "refer"))
    assert 'href="study/study.html"' in listed
    assert contradictions_in(pages, whole_way.folder / "results.json") == []


def test_who_tracks_the_same_study_at_once_makes_one_run_and_one_version(whole_way, tmp_path):
    shutil.copytree(whole_way.folder / "classifier", tmp_path / "classifier")
    shutil.copytree(whole_way.folder / "network", tmp_path / "network")
    for name in ("split.json", "results.json"):
        shutil.copy(whole_way.folder / name, tmp_path / name)
    study, files = whole_way.study.model_copy(update={"output": tmp_path}), StudyFiles(tmp_path)
    results = Results.from_dict(read_json(files.results))
    with ThreadPoolExecutor(3) as pool:
        tracked = list(pool.map(lambda _: track(study, results, files, "one key"), range(3)))
    assert len(set(tracked)) == 1
    store = tracking.store_of(study.tracking, tmp_path)
    assert len(store.client().search_model_versions(f"name = '{store.model_name}'")) == 1
    assert len(store.client().search_runs([store.experiment_id()])) == 1


def test_the_second_run_does_nothing_and_ends_the_same(whole_way):
    bundle = whole_way.folder / "classifier"
    before = {p: p.stat().st_mtime_ns for p in bundle.iterdir()}
    again = run_demo(whole_way.study)
    assert {p: p.stat().st_mtime_ns for p in bundle.iterdir()} == before
    assert again["results"] == whole_way.result["results"]
    assert (again["run_id"], again["version"]) == (whole_way.result["run_id"], whole_way.result["version"])


def test_two_runs_of_one_seed_give_the_same_network_and_the_same_metrics(whole_way, tmp_path):
    other = whole_way.study.model_copy(update={"output": tmp_path / "other"})
    train_study(other)
    for made in (Path("network") / "member-0" / "network.safetensors", Path("predictions_test.npz")):
        assert (tmp_path / "other" / made).read_bytes() == (whole_way.folder / made).read_bytes()
    again, before = (read_json(folder / "results.json") for folder in (tmp_path / "other", whole_way.folder))
    for mine, theirs in zip(again["rows"], before["rows"], strict=True):
        assert mine["name"] == theirs["name"]
        for metric, interval in mine["metrics"].items():
            # The last digit of scikit-learn's baseline hangs on how its memory happens to be aligned.
            assert interval == pytest.approx(theirs["metrics"][metric], abs=1e-9), (mine["name"], metric)


def a_native_scan(folder: Path) -> Path:
    return sorted((folder / "bids").glob("sub-*/ses-*/pet/*_pet.nii.gz"))[0]


def a_sound_dicom_folder(folder: Path) -> Path:
    sound = next(row for row in truth(folder) if not row["SPOILED"])
    return next((folder / "adni").glob(f"*/*/*/I{sound['IMAGEUID']}"))


def test_another_process_without_taucal_loads_the_champion_and_agrees(whole_way, tmp_path):
    paths = [str(a_native_scan(whole_way.folder)), str(a_sound_dicom_folder(whole_way.folder))]
    script = f"""
import json, sys
sys.path = [p for p in sys.path if p not in ("", {str(Path.cwd())!r})]
import mlflow
mlflow.set_tracking_uri("sqlite:///{whole_way.folder / "mlflow.db"}")
model = mlflow.pyfunc.load_model("models:/taucal@champion")
answers = model.predict({paths!r})
import pipeline
print(json.dumps({{"answers": answers, "code": pipeline.__file__}}))
"""
    # MLflow writes the stores that earlier tests used into the environment of this process.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False,
        env={**inherited, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert "mlartifacts" in told["code"] or "code" in Path(told["code"]).parts
    classifier = CalibratedClassifier.load(whole_way.folder / "classifier")
    for got, path in zip(told["answers"], paths, strict=True):
        mine = answer(classifier, Path(path))
        assert got["decision"] == mine["decision"]
        assert got["probabilities"] == pytest.approx(mine["probabilities"], abs=1e-6)


def test_nothing_registered_is_pickled(whole_way):
    files = [p for p in (whole_way.folder / "mlartifacts").rglob("*") if p.is_file()]
    assert any(p.suffix == ".safetensors" for p in files)
    for path in files:
        assert path.suffix not in {".pkl", ".pickle", ".pt", ".pth", ".joblib"}, path
        head = path.read_bytes()
        if head[:1] == b"\x80" and head[-1:] == b".":
            with pytest.raises(ValueError, match=r"opcode|end|exhausted"):
                list(pickletools.genops(head))


def test_no_written_byte_tells_who_was_scanned(whole_way):
    people = {row["PTID"] for row in truth(whole_way.folder)}
    source = str(whole_way.folder / "adni").encode()
    private = whole_way.folder / "bids.key.map.json"  # the way back, for whoever holds the key
    assert private.stat().st_mode & 0o777 == 0o600
    for path in whole_way.folder.rglob("*"):
        if path.is_file() and not path.is_relative_to(whole_way.folder / "adni") and path != private:
            content = path.read_bytes()
            assert not [p for p in people if p.encode() in content], path
            if path.suffix not in {".yaml", ".json"} or "mlartifacts" in path.parts:
                assert source not in content, path


def test_reports_say_what_a_clinician_needs(whole_way):
    for kind in ("clear", "uncertain", "refer"):
        html = whole_way.result["pages"][kind]["html"].read_text()
        for needed in ("Research use only", "SYNTHETIC", "Entorhinal", "AD", "MCI", "CN", "http-equiv"):
            assert needed in html, (kind, needed)
        assert "<script" not in html
    study = whole_way.result["pages"]["study"]["html"].read_text()
    for needed in ("Research use only", "oracle", "logistic regression", "refused"):
        assert needed in study, needed


def test_a_new_scan_gets_a_report_and_a_refused_one_says_why(whole_way, tmp_path):
    spoiled = next(row for row in truth(whole_way.folder) if row["SPOILED"])
    bad = next((whole_way.folder / "adni").glob(f"*/*/*/I{spoiled['IMAGEUID']}"))
    request = Request(
        tmp_path / "reports", "@champion", whole_way.folder, {"CN": 0.6, "MCI": 0.3, "AD": 0.1}, pdf=False
    )
    good_pages, bad_pages = report_scans([a_sound_dicom_folder(whole_way.folder), bad], request)
    good, refused = (read_json(pages["json"]) for pages in (good_pages, bad_pages))
    assert len(good["classes"]) == 3
    assert all(c["clinic_share"] is not None for c in good["classes"])
    assert refused["classes"] == []
    assert refused["reasons"] or refused["hint"]


def test_a_model_that_is_not_there_is_refused_with_its_mend(whole_way, tmp_path):
    with pytest.raises(InputError, match="taucal train"):
        report_scans([a_native_scan(whole_way.folder)], Request(tmp_path / "r", "@nobody", whole_way.folder))


def with_diagnoses(whole_way, tmp_path, rename) -> Path:
    cohort = Cohort.read_tsv(whole_way.folder / "bids" / COHORT_TABLE, ("CN", "MCI", "AD"))
    table = tmp_path / "bids" / COHORT_TABLE
    table.parent.mkdir(parents=True)
    text = cohort.write_tsv(table).read_text().splitlines()
    header = text[0].split("\t")
    at = header.index("diagnosis")
    rows = [line.split("\t") for line in text[1:]]
    for n, row in enumerate(rows):
        row[at] = rename(row[at], n)
    table.write_text("\n".join("\t".join(r) for r in [header, *rows]) + "\n")
    return tmp_path / "bids"


@pytest.mark.parametrize(
    ("rename", "told"),
    [
        (lambda d, n: "CN", "at least two classes"),
        (lambda d, n: "AD" if n < 2 else "CN", "AD"),
        (lambda d, n: "n/a", "No scan of the cohort has a diagnosis"),
    ],
    ids=["one class only", "a class with two subjects", "no diagnosis"],
)
def test_a_cohort_that_cannot_be_learned_from_is_refused_and_nothing_is_written(
    whole_way, tmp_path, rename, told
):
    bids = with_diagnoses(whole_way, tmp_path, rename)
    study = whole_way.study.model_copy(
        update={
            "output": tmp_path / "out",
            "cohort": whole_way.study.cohort.model_copy(update={"path": bids}),
        }
    )
    with pytest.raises(CohortError, match=told):
        train_study(study)
    assert not (tmp_path / "out").exists()
