"""`taucal predict`: the answers of the registered version on the screen, and nothing else."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.reports.predict import predict_scans, rows_of
from pipeline import tracking
from pipeline.config import TrackingSettings
from pipeline.errors import ConfigError, InputError
from pipeline.one_scan import answer
from pipeline.tracking import RunRecord

SHARES = {"AD": 0.1, "CN": 0.6, "MCI": 0.3}


@pytest.fixture(scope="module")
def study(tmp_path_factory, small_classifier):
    """The folder of a study whose store is elsewhere, with a champion in it."""
    folder = tmp_path_factory.mktemp("study")
    uri = f"sqlite:///{tmp_path_factory.mktemp('shared') / 'mlflow.db'}"
    settings = TrackingSettings(uri=uri, model_name="other")
    (folder / "study.yaml").write_text(
        f"name: x\noutput: {folder}\ncohort: {{path: nowhere}}\n"
        f"tracking: {{uri: '{uri}', model_name: other}}\n"
    )
    store = tracking.store_of(settings, folder)
    run_id = tracking.log_run(store, RunRecord("r", "k", {}, {}, {}))
    bundle = small_classifier.save(folder / "classifier")
    tracking.promote(store, tracking.register(store, run_id, bundle, {}, "k"))
    return folder


def predict(*arguments: object):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def test_the_answers_are_those_of_the_classifier_and_nothing_is_written(
    study, pet_scans, small_classifier, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = sorted(study.rglob("*"))
    scans = [pet_scans[kind] for kind in ("dicom", "nifti", "empty")]
    told = predict(*scans, "--study", study, "--json")
    assert told.exit_code == 1, told.output  # a scan that was asked for got no prediction
    answers = json.loads(told.stdout)
    assert [a.pop("scan") for a in answers] == [str(path) for path in scans]
    assert answers == [answer(small_classifier, path) for path in scans]
    assert not list(tmp_path.iterdir())
    assert sorted(study.rglob("*")) == before


def test_a_refused_scan_is_an_answer_with_its_reason(study, pet_scans):
    told = predict(pet_scans["empty"], pet_scans["nifti"], "--study", study)
    assert told.exit_code == 1
    assert "refused" in told.stdout
    assert re.search(r"│ (finding|referred to an expert) +│", told.stdout)
    assert "Research use only" in told.stdout
    assert " %" in told.stdout
    (refused,) = predict_scans([pet_scans["empty"]], "@champion", study)
    assert refused["probabilities"] is None
    assert refused["rule"]
    assert str(pet_scans["empty"]) not in refused["reasons"][0]


def test_a_prevalence_adds_what_a_clinic_would_see(study, pet_scans, small_classifier):
    (stated,) = predict_scans([pet_scans["nifti"]], "@champion", study, SHARES)
    plain = answer(small_classifier, pet_scans["nifti"])
    assert stated["probabilities"] == plain["probabilities"]
    assert plain["clinic_probabilities"] is None
    clinic = stated["clinic_probabilities"]
    assert sum(clinic.values()) == pytest.approx(1)
    assert clinic["AD"] < plain["probabilities"]["AD"]
    assert stated["clinic_prevalence"] == pytest.approx(SHARES)
    assert stated["most_likely"] == max(clinic, key=clinic.get)
    assert plain["most_likely"] == max(plain["probabilities"], key=plain["probabilities"].get)
    assert all(stated["lower"][name] <= p <= stated["upper"][name] for name, p in clinic.items())
    header, (row,) = rows_of([pet_scans["nifti"]], [stated])
    assert row[header.index("AD, clinic")] == f"{100 * clinic['AD']:.1f} %"
    assert row[header.index("AD, training")] == f"{100 * plain['probabilities']['AD']:.1f} %"
    assert stated["lower"]["AD"] < clinic["AD"] < stated["upper"]["AD"]
    assert row[header.index("set")].replace(" or ", ", ").split(", ") == stated["prediction_set"]


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"scan": "nothing"}, InputError, "no such file or folder"),
        ({"model": "@nobody"}, InputError, "taucal train"),
        ({"model": "models:/other/9"}, InputError, "taucal train"),
        (
            {"prevalence": {"CN": 0.5, "AD": 0.5}},
            ConfigError,
            r"names CN, AD\. Expected a share for each of CN, MCI, AD",
        ),
    ],
)
def test_a_wrong_call_is_refused_with_its_hint(study, pet_scans, change, error, told):
    call = {"scan": "nifti", "model": "@champion", "prevalence": None} | change
    with pytest.raises(error, match=told):
        predict_scans([pet_scans[call["scan"]]], call["model"], study, call["prevalence"])


def test_where_no_study_was_none_is_made(pet_scans, tmp_path):
    with pytest.raises(InputError, match="store does not exist yet"):
        predict_scans([pet_scans["nifti"]], "@champion", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predictions_are_recorded_by_pseudonym_listed_and_labelled(study, pet_scans):
    assert predict(pet_scans["nifti"], pet_scans["empty"], "--study", study).exit_code == 1
    listed = CliRunner().invoke(app, ["reports", "--study", str(study), "--version", "1", "--json"])
    refused, found = json.loads(listed.stdout)[:2]
    assert (found["kind"], found["version"], refused["answer"]["decision"]) == ("predict", "1", "refused")
    assert found["answer"]["probabilities"].keys() == {"CN", "MCI", "AD"}
    assert str(pet_scans["nifti"]) not in listed.stdout
    for diagnosis, code in (("AD", 0), ("FTD", 2)):
        done = CliRunner().invoke(app, ["label", found["scan"], diagnosis, "--study", str(study)])
        assert done.exit_code == code or isinstance(done.exception, InputError), done.output
    listed = CliRunner().invoke(app, ["reports", "--study", str(study), "--since", "2020-01-01", "--json"])
    assert {e["diagnosis"] for e in json.loads(listed.stdout) if e["scan"] == found["scan"]} == {"AD"}
    later = CliRunner().invoke(app, ["reports", "--study", str(study), "--since", "2999-01-01", "--json"])
    assert json.loads(later.stdout) == []
