"""The bundle: what it says, and that it comes back as it was stored or not at all."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from models.bundle import ARRAYS, DESCRIPTION, WEIGHTS, BundleFormatError
from models.calibrators import build_calibrator
from models.card import Card, MetricInterval
from models.classifier import CalibratedClassifier
from models.conformal import ConformalSets
from models.networks import build_network
from models.outliers import OutlierDetector
from models.preprocessing import Preprocessing
from models.typical_scans import TypicalScan

NAMES = ("CN", "MCI", "AD")
PREPROCESSING = Preprocessing(spacing_mm=8, suvr_max=4)


@pytest.fixture(scope="module")
def scans() -> np.ndarray:
    """30 SUVR volumes on the template grid, bright in the middle as their class is; read-only."""
    rng = np.random.default_rng(3)
    volumes = 1 + 0.1 * rng.standard_normal((30, 96, 112, 96), dtype=np.float32)
    volumes[:, 40:56, 48:64, 40:56] += 0.5 * (np.arange(30) % 3)[:, None, None, None]
    volumes.flags.writeable = False
    return volumes


@pytest.fixture(scope="module")
def classifier(scans) -> CalibratedClassifier:
    """An untrained network whose logits are calibrated on `scans`."""
    torch.manual_seed(0)
    network = build_network("small_cnn", 3, PREPROCESSING.in_shape, width=4).eval()
    labels = np.arange(30) % 3
    x = torch.from_numpy(np.stack([PREPROCESSING(v) for v in scans]))[:, None]
    with torch.no_grad():
        features = network.features(x)
        logits = network.head(features).double().numpy()
    calibrator = build_calibrator("temperature", prior=None).fit(logits, labels)
    refits = tuple(
        build_calibrator("temperature", prior=None).fit(logits[draw], labels[draw])
        for draw in np.random.default_rng(1).integers(0, 30, (20, 30))
    )
    return CalibratedClassifier(
        preprocessing=PREPROCESSING,
        network=network,
        network_name="small_cnn",
        network_options={"width": 4},
        calibrator=calibrator,
        refits=refits,
        conformal=ConformalSets.fit(calibrator.transform(logits), labels, coverage=0.9),
        outliers=OutlierDetector.fit(features.numpy(), logits, labels),
        class_names=NAMES,
        prevalence=(0.5, 0.3, 0.2),
        operating_point=0.0,
        card=Card(tracer="AV1451", metrics={"nll": MetricInterval(value=0.5, low=0.4, high=0.6)}),
    )


def test_a_stored_classifier_says_the_same(classifier, scans, tmp_path):
    loaded = CalibratedClassifier.load(classifier.save(tmp_path / "bundle"))
    assert loaded.predict(scans[0]) == classifier.predict(scans[0])
    assert loaded.card == classifier.card
    np.testing.assert_array_equal(loaded.saliency(scans[0]), classifier.saliency(scans[0]))


def test_typical_scans_are_stored_and_an_older_bundle_has_none(classifier, scans, tmp_path):
    assert CalibratedClassifier.load(classifier.save(tmp_path / "older")).typical_scans == ()
    typical = (TypicalScan("positive", np.asarray(scans[0]), 1.8, 5),)
    stored = dataclasses.replace(classifier, typical_scans=typical).save(tmp_path / "bundle")
    [read] = CalibratedClassifier.load(stored).typical_scans
    assert (read.status, read.meta_roi, read.among) == ("positive", 1.8, 5)
    np.testing.assert_allclose(read.suvr, np.clip(scans[0], 0, 255 / 64), atol=1 / 128 + 1e-6)


def test_no_pickle_is_stored(classifier, tmp_path):
    folder = classifier.save(tmp_path / "bundle")
    assert sorted(p.name for p in folder.iterdir()) == sorted([WEIGHTS, ARRAYS, DESCRIPTION])


def test_a_prediction_is_consistent(classifier, scans):
    p = classifier.predict(scans[5])
    assert sum(p.probabilities) == pytest.approx(1)
    assert all(lo <= x <= hi for lo, x, hi in zip(p.lower, p.probabilities, p.upper, strict=True))
    assert p.confidence == max(p.probabilities)
    assert (p.decision == "report") == (p.reasons == ())
    assert p.clinic_probabilities is None


def test_the_interval_of_an_older_bundle_is_the_percentiles_of_the_refits(classifier, scans):
    logits, _ = classifier.logits(scans[:1])
    refitted = np.stack([c.transform(logits)[0] for c in classifier.refits])
    p = classifier.predict(scans[0])
    low, high = np.percentile(refitted, [5, 95], axis=0)
    np.testing.assert_allclose(p.lower, np.minimum(low, p.probabilities))
    np.testing.assert_allclose(p.upper, np.maximum(high, p.probabilities))


def test_no_scan_has_no_prediction(classifier, scans):
    assert classifier.predict_batch([]) == []
    logits, features = classifier.logits(scans)
    for prevalence in (None, classifier.prevalence):
        assert classifier.decide(logits[:0], features[:0], prevalence=prevalence) == []


def test_every_reason_to_refer_is_told(classifier, scans):
    plain = dataclasses.replace(
        classifier,
        conformal=ConformalSets((-1.0, -1.0, -1.0), (20, 20, 20), 0.9),
        outliers=dataclasses.replace(classifier.outliers, mahalanobis_limit=1e9, energy_limit=1e9),
    )
    assert plain.predict(scans[0]).decision == "report"
    assert plain.predict(scans[0]).prediction_set == (plain.predict(scans[0]).most_likely,)
    cases = {
        "Motion between frames": plain.predict(scans[0], quality_reasons=["Motion between frames: 4 mm"]),
        "unlike those": dataclasses.replace(
            plain, outliers=dataclasses.replace(plain.outliers, mahalanobis_limit=0.0)
        ).predict(scans[0]),
        "little evidence": dataclasses.replace(
            plain, outliers=dataclasses.replace(plain.outliers, energy_limit=-1e9)
        ).predict(scans[0]),
        "more than one class: CN, MCI, AD": dataclasses.replace(
            plain, conformal=ConformalSets((math.inf,) * 3, (20, 20, 20), 0.9)
        ).predict(scans[0]),
        "more than 2 classes: CN, MCI, AD": dataclasses.replace(
            plain, conformal=ConformalSets((math.inf,) * 3, (20, 20, 20), 0.9), largest_set=2
        ).predict(scans[0]),
        "below 99.9 %, the least for a finding": dataclasses.replace(plain, operating_point=0.999).predict(
            scans[0]
        ),
    }
    for words, prediction in cases.items():
        assert prediction.decision == "refer"
        assert len(prediction.reasons) == 1
        assert words in prediction.reasons[0]


def test_a_clinic_of_the_training_prevalence_changes_nothing(classifier, scans):
    p = classifier.predict(scans[0], prevalence=dict(zip(NAMES, classifier.prevalence, strict=True)))
    assert p.clinic_probabilities == pytest.approx(p.probabilities)


def test_a_clinic_where_a_class_is_rarer_makes_it_less_likely(classifier, scans):
    p = classifier.predict(scans[0], prevalence=[0.6, 0.3, 0.1])
    assert p.clinic_probabilities[2] < p.probabilities[2]
    assert p.clinic_prevalence == (0.6, 0.3, 0.1)


def test_everything_that_is_decided_follows_the_clinic(classifier, scans):
    sure = dataclasses.replace(
        classifier,
        refits=(),
        range_factor=1.5,
        conformal=ConformalSets((-1.0, -1.0, -1.0), (20, 20, 20), 0.9),
        operating_point=0.9,
    )
    for k, name in enumerate(NAMES):
        shares = np.full(3, 0.005)
        shares[k] = 0.99
        here = sure.predict(scans[0], prevalence=shares)
        assert here.probabilities == sure.predict(scans[0]).probabilities
        assert here.prediction_set == (name,)
        assert here.most_likely == name
        assert here.confidence == max(here.clinic_probabilities)
        assert here.shown == here.clinic_probabilities
        assert all(lo < x < hi for lo, x, hi in zip(here.lower, here.shown, here.upper, strict=True))
        assert not any("operating point" in reason for reason in here.reasons)


def test_the_prevalence_of_training_changes_nothing(classifier, scans):
    new = dataclasses.replace(classifier, refits=(), range_factor=1.5)
    for one in (classifier, new):
        before = one.predict(scans[0])
        here = one.predict(scans[0], prevalence=classifier.prevalence)
        assert here.shown == pytest.approx(before.shown)
        assert here.lower == pytest.approx(before.lower)
        assert here.upper == pytest.approx(before.upper)
        assert (here.prediction_set, here.decision) == (before.prediction_set, before.decision)


def test_a_class_the_clinic_rules_out_is_in_no_set(classifier, scans):
    every = dataclasses.replace(classifier, conformal=ConformalSets((math.inf,) * 3, (20, 20, 20), 0.9))
    here = dataclasses.replace(every, range_factor=2.0).predict(scans[0], prevalence=[0.5, 0.5, 0.0])
    assert here.prediction_set == ("CN", "MCI")
    assert (here.lower[2], here.shown[2], here.upper[2]) == (0, 0, 0)
    assert here.decision == "refer"
    assert (
        dataclasses.replace(every, largest_set=2).predict(scans[0], prevalence=[0.5, 0.5, 0.0]).reasons == ()
    )


def test_limits_of_the_decision_are_stored(classifier, tmp_path):
    new = dataclasses.replace(classifier, largest_set=2, range_factor=1.7, ood_quantile=0.98)
    loaded = CalibratedClassifier.load(new.save(tmp_path / "bundle"))
    assert (loaded.largest_set, loaded.range_factor, loaded.ood_quantile) == (2, 1.7, 0.98)


def test_a_prevalence_must_name_the_classes(classifier, scans):
    with pytest.raises(ValueError, match=r"names CN, AD\. Expected a share for each of CN, MCI, AD"):
        classifier.predict(scans[0], prevalence={"CN": 0.5, "AD": 0.5})


def test_a_volume_of_another_grid_is_refused(classifier):
    with pytest.raises(
        ValueError, match=r"shape \(91, 109, 91\)\. Expected that of the grid, \(96, 112, 96\)"
    ):
        classifier.predict(np.ones((91, 109, 91)))


def test_values_that_are_not_finite_are_refused(classifier, scans):
    scan = scans[0].copy()
    scan[0, 0, :3] = np.nan
    with pytest.raises(ValueError, match="volume has 3 voxels that are not finite"):
        classifier.predict(scan)


def test_saliency_is_a_map_on_the_template_grid(classifier, scans):
    shown = classifier.saliency(scans[2], "AD")
    assert shown.shape == (96, 112, 96)
    assert shown.min() >= 0
    assert shown.max() == pytest.approx(1)


@pytest.mark.parametrize("name", [WEIGHTS, ARRAYS])
def test_one_flipped_bit_is_refused_by_name(classifier, tmp_path, name):
    folder = classifier.save(tmp_path / "bundle")
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(BundleFormatError, match=f"{name} does not agree with the checksum"):
        CalibratedClassifier.load(folder)


def test_an_edited_description_is_refused_by_name(classifier, tmp_path):
    folder = classifier.save(tmp_path / "bundle")
    head = json.loads((folder / DESCRIPTION).read_text())
    head["description"]["class_names"] = ["AD", "MCI", "CN"]
    (folder / DESCRIPTION).write_text(json.dumps(head))
    with pytest.raises(BundleFormatError, match=f"{DESCRIPTION} does not agree with the checksum"):
        CalibratedClassifier.load(folder)


@pytest.mark.parametrize("name", [WEIGHTS, ARRAYS, DESCRIPTION])
def test_a_missing_file_is_named(classifier, tmp_path, name):
    folder = classifier.save(tmp_path / "bundle")
    (folder / name).unlink()
    with pytest.raises(BundleFormatError, match=f"{name} cannot be read"):
        CalibratedClassifier.load(folder)


def test_a_newer_format_is_refused_before_anything_else(classifier, tmp_path):
    folder = classifier.save(tmp_path / "bundle")
    (folder / DESCRIPTION).write_text(json.dumps({"format": "taucal-classifier", "format_version": 4}))
    with pytest.raises(BundleFormatError, match="format version 4; this program reads 3 and older"):
        CalibratedClassifier.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "other", "format_version": 1}', "\udcff"])
def test_what_is_no_classifier_is_refused(classifier, tmp_path, text):
    folder = classifier.save(tmp_path / "bundle")
    (folder / DESCRIPTION).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleFormatError, match=DESCRIPTION):
        CalibratedClassifier.load(folder)


def test_saving_again_replaces_and_leaves_nothing_beside(classifier, tmp_path):
    classifier.save(tmp_path / "bundle")
    dataclasses.replace(classifier, operating_point=0.7).save(tmp_path / "bundle")
    assert CalibratedClassifier.load(tmp_path / "bundle").operating_point == 0.7
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_card_that_is_not_json_leaves_the_old_bundle(classifier, tmp_path):
    classifier.save(tmp_path / "bundle")
    unknown = Card(metrics={"nll": MetricInterval(value=math.nan, low=0, high=1)})
    with pytest.raises(ValueError, match="Out of range float values"):
        dataclasses.replace(classifier, card=unknown).save(tmp_path / "bundle")
    assert CalibratedClassifier.load(tmp_path / "bundle").card == classifier.card


def test_a_folder_of_other_files_is_not_replaced(classifier, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="a folder of its own"):
        classifier.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_parts_must_agree_on_the_classes(classifier):
    with pytest.raises(ValueError, match="different numbers of classes: 3 names, 2 prevalences"):
        dataclasses.replace(classifier, prevalence=(0.5, 0.5))
