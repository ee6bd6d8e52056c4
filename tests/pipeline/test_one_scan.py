"""One path in, one answer out."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

from models.card import Card
from pipeline import one_scan
from pipeline.errors import ConfigError, InputError, RefusedScan
from pipeline.ingest.scan_reading import read_scan
from pipeline.ingest.sidecar import OWN_FACTS
from pipeline.ingest.sources import find_scans
from pipeline.one_scan import answer, check_prevalence


def test_an_image_inherits_what_its_dataset_tells(pet_scans, tmp_path):
    image = pet_scans["nifti"]
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    pet = tmp_path / "sub-A" / "ses-B" / "pet"
    pet.mkdir(parents=True)
    shutil.copyfile(image, pet / image.name)
    alone = read_scan(image)
    with_nothing = read_scan(pet / image.name)
    assert with_nothing.unit != alone.unit
    sidecar = json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())
    (tmp_path / "trc-18FAV1451_pet.json").write_text(json.dumps(sidecar))
    inherited = read_scan(pet / image.name)
    assert (inherited.unit, inherited.facts) == (alone.unit, alone.facts)
    np.testing.assert_array_equal(inherited.array, alone.array)
    (pet / "sub-A_ses-B_trc-18FAV1451_pet.json").write_text(json.dumps(sidecar | {"Units": "SUV"}))
    assert read_scan(pet / image.name).unit == "SUV", "what stands nearer counts"


def test_a_sidecar_that_claims_to_be_our_own_is_read_as_anybodys(pet_scans, tmp_path):
    image = tmp_path / pet_scans["nifti"].name
    shutil.copyfile(pet_scans["nifti"], image)
    beside = pet_scans["nifti"].with_name(image.name.replace(".nii.gz", ".json"))
    claims = json.loads(beside.read_text()) | {OWN_FACTS: {"tracer": "AV1451", "site": "invented"}}
    image.with_name(beside.name).write_text(json.dumps(claims))
    (found,) = find_scans(tmp_path, "nifti").scans
    assert read_scan(image).facts.get("site") != "invented"
    assert read_scan(found).facts.get("site") != "invented"


def test_every_answer_has_the_same_keys_and_is_json(small_classifier, pet_scans):
    answers = [answer(small_classifier, pet_scans[kind]) for kind in ("nifti", "empty", "nothing")]
    assert len({tuple(told) for told in answers}) == 1
    assert json.loads(json.dumps(answers)) == answers
    assert {told["decision"] for told in answers} <= {"report", "refer", "refused"}


def test_a_scan_of_another_tracer_is_refused_without_its_path(small_classifier, pet_scans):
    other = dataclasses.replace(small_classifier, card=Card(tracer="PI2620"))
    told = answer(other, pet_scans["nifti"])
    assert (told["decision"], told["rule"]) == ("refused", "wrong-tracer")
    assert "The tracer is AV1451, but the classifier was trained on PI2620" in told["reasons"][0]
    assert str(pet_scans["nifti"]) not in told["reasons"][0]


def test_a_path_to_nothing_is_refused_where_it_is_served_and_an_error_where_it_is_read(
    small_classifier, pet_scans
):
    assert answer(small_classifier, pet_scans["nothing"])["rule"] == "no-such-scan"
    with pytest.raises(InputError, match="no such file or folder"):
        read_scan(pet_scans["nothing"])


def test_a_prevalence_names_the_classes(small_classifier):
    shares = {"AD": 0.2, "CN": 0.5, "MCI": 0.3}
    assert list(check_prevalence(small_classifier, shares)) == ["CN", "MCI", "AD"]
    percent = {name: 100 * share for name, share in shares.items()}
    assert check_prevalence(small_classifier, percent) == pytest.approx(shares)
    with pytest.raises(
        ConfigError, match=r"--prevalence: The shares of the classes are CN 60, MCI 30, AD 1;"
    ):
        check_prevalence(small_classifier, {"CN": 60, "MCI": 30, "AD": 1})
    with pytest.raises(ConfigError, match=r"names CN\. Expected a share for each of CN, MCI, AD"):
        check_prevalence(small_classifier, {"CN": 1.0})


def test_a_folder_of_several_images_is_refused_with_their_number(small_classifier, pet_scans, tmp_path):
    for name in ("sub-1_pet.nii.gz", "sub-2_pet.nii.gz"):
        shutil.copy(pet_scans["nifti"], tmp_path / name)
    found = answer(small_classifier, tmp_path)
    assert found["rule"] == "several-series"
    assert found["reasons"] == ["There are 2 PET scans. Name the folder or file of one of them."]
    (tmp_path / "sub-2_pet.nii.gz").unlink()
    assert answer(small_classifier, tmp_path)["rule"] is None


def test_a_second_suvr_is_computed_where_it_is_asked_for(small_classifier, pet_scans, monkeypatch):
    """The prediction does not depend on it: the settings of training are used otherwise."""
    asked = []

    def stop(_, settings):
        asked.append(settings)
        raise RefusedScan("stop", "enough is known")

    monkeypatch.setattr(one_scan, "normalise", stop)
    for wanted in (False, True):
        one_scan.infer(small_classifier, pet_scans["nifti"], partial_volume=wanted)
    assert [settings.partial_volume for settings in asked] == [False, True]
    assert asked[0].processing() == asked[1].processing()
