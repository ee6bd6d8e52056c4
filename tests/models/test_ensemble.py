"""Several networks as one: averages to the bit, doubt split without loss, stored and read back."""

from __future__ import annotations

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.special import logsumexp

from models.bundle import DESCRIPTION, WEIGHTS, BundleFormatError, read_bundle, write_bundle
from models.calibrators import build_calibrator, softmax
from models.card import Card
from models.classifier import CalibratedClassifier
from models.conformal import ConformalSets
from models.ensemble import (
    Ensemble,
    build_members,
    member_logits,
    pooled,
    pooled_logits,
    together,
    uncertainty_of,
)
from models.networks import Network, build_network, run
from models.outliers import OutlierDetector
from models.preprocessing import Preprocessing
from models.saliency import saliency

NAMES = ("CN", "MCI", "AD")
SHAPE = (12, 14, 12)
PREPROCESSING = Preprocessing(8.0, 4.0, grid_shape=(48, 56, 48))
LABELS = np.arange(24) % 3

Doubles = NDArray[np.float64]


def one(seed: int) -> Network:
    torch.manual_seed(seed)
    network = build_network("small_cnn", 3, SHAPE, width=4).eval()
    network.rescale_logits(torch.full((3,), 20.0), torch.zeros(3))  # untrained networks say nothing
    return network


@pytest.fixture(scope="module")
def scans() -> NDArray[np.float32]:
    """24 SUVR volumes, brighter from class to class."""
    rng = np.random.default_rng(3)
    volumes = 1 + 0.1 * rng.standard_normal((24, 48, 56, 48), dtype=np.float32)
    volumes[:, 16:32, 20:36, 16:32] += 0.5 * (np.arange(24) % 3)[:, None, None, None]
    return volumes


@pytest.fixture(scope="module")
def volumes(scans) -> NDArray[np.float32]:
    """The same, preprocessed."""
    return np.stack([PREPROCESSING(scan) for scan in scans])


def classifier_of(networks: list[Network], volumes: NDArray[np.float32]) -> CalibratedClassifier:
    network = together(networks)
    logits, features = run(network, volumes)
    calibrator = build_calibrator("temperature", prior=None).fit(logits, LABELS)
    refits = tuple(
        build_calibrator("temperature", prior=None).fit(logits[draw], LABELS[draw])
        for draw in np.random.default_rng(1).integers(0, len(LABELS), (20, len(LABELS)))
    )
    return CalibratedClassifier(
        preprocessing=PREPROCESSING,
        network=network,
        network_name="small_cnn",
        network_options={"width": 4},
        calibrator=calibrator,
        refits=refits,
        conformal=ConformalSets.fit(calibrator.transform(logits), LABELS, coverage=0.9),
        outliers=OutlierDetector.fit(features, logits, LABELS, networks=len(networks)),
        class_names=NAMES,
        prevalence=(0.5, 0.3, 0.2),
        operating_point=0.0,
        card=Card(tracer="AV1451"),
    )


@pytest.fixture(scope="module")
def three(volumes) -> CalibratedClassifier:
    """A classifier of three networks that disagree."""
    return classifier_of([one(seed) for seed in (0, 1, 2)], volumes)


# Averages

some_logits = arrays(np.float64, (3, 4, 3), elements=st.floats(-60, 60))


@given(some_logits)
def test_the_softmax_of_pooled_logits_is_the_mean_of_the_probabilities(members: Doubles):
    averaged = np.mean([softmax(m) for m in members], axis=0)
    found = pooled(torch.from_numpy(members)).numpy()
    np.testing.assert_allclose(softmax(found), averaged, rtol=1e-12)
    energies = np.mean([-logsumexp(m, axis=1) for m in members], axis=0)
    np.testing.assert_allclose(-logsumexp(found, axis=1), energies, rtol=1e-12, atol=1e-12)


@given(arrays(np.float64, (4, 3), elements=st.floats(-1e300, 1e300)), st.integers(1, 7))
def test_members_that_agree_leave_their_logits_to_the_bit(logits: Doubles, members: int):
    many = torch.from_numpy(np.stack([logits] * members))
    np.testing.assert_array_equal(pooled(many).numpy(), logits)


def test_far_apart_members_neither_overflow_nor_vanish():
    members = torch.tensor([[[0.0, 2000.0]], [[2000.0, 0.0]], [[-2000.0, 0.0]]], dtype=torch.float64)
    assert pooled(members).softmax(1).tolist() == [pytest.approx([1 / 3, 2 / 3])]


def test_an_ensemble_runs_as_its_members_do(volumes):
    networks = [one(seed) for seed in (0, 1, 2)]
    logits, features = run(Ensemble(networks), volumes)
    apart = [run(network, volumes) for network in networks]
    np.testing.assert_allclose(softmax(logits), np.mean([softmax(z) for z, _ in apart], axis=0), rtol=1e-12)
    np.testing.assert_array_equal(features, np.hstack([f for _, f in apart]))
    each = member_logits(Ensemble(networks), logits, features)
    np.testing.assert_allclose(each, [z for z, _ in apart], rtol=1e-5)


def test_an_ensemble_of_equals_says_what_the_one_says(scans, volumes):
    alone = classifier_of([one(0)], volumes).predict_batch(scans[:4])
    equals = classifier_of([copy.deepcopy(one(0)) for _ in range(5)], volumes).predict_batch(scans[:4])
    for single, many in zip(alone, equals, strict=True):
        assert many.probabilities == single.probabilities
        assert many.energy == single.energy
        assert many.mahalanobis == pytest.approx(single.mahalanobis, rel=1e-12)
        assert many.lower == pytest.approx(single.lower, rel=1e-6)
        assert many.upper == pytest.approx(single.upper, rel=1e-6)
        assert (many.decision, many.prediction_set) == (single.decision, single.prediction_set)
        assert many.mutual_information == pytest.approx(0, abs=1e-6)
        assert (single.networks, single.entropy, single.mutual_information) == (1, None, None)
        assert single.mean_entropy is None


def test_rescaling_an_ensemble_rescales_each_member(volumes):
    networks = [one(seed) for seed in (0, 1)]
    before = [run(network, volumes)[0] for network in networks]
    Ensemble(networks).rescale_logits(torch.tensor([2.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 3.0]))
    for network, logits in zip(networks, before, strict=True):
        expected = logits * [2, 1, 1] + [0, 0, 3]
        np.testing.assert_allclose(run(network, volumes)[0], expected, rtol=1e-4, atol=1e-4)


def test_one_network_is_no_ensemble():
    with pytest.raises(ValueError, match="needs at least two networks, but has 1"):
        Ensemble([one(0)])
    alone = one(0)
    assert together([alone]) is alone


# Doubt

some_probabilities = some_logits.map(lambda z: np.stack([softmax(m) for m in z]))


@given(some_probabilities)
def test_entropy_is_mutual_information_plus_mean_entropy(p: Doubles):
    doubt = uncertainty_of(p)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = -np.nansum(p * np.log(p), axis=2).mean(axis=0)
        mean = p.mean(axis=0)
        divergence = np.nansum(p * np.log(p / mean), axis=2).mean(axis=0)
    np.testing.assert_allclose(doubt.entropy, own + doubt.mutual_information, atol=1e-12)
    np.testing.assert_allclose(doubt.mutual_information, divergence, atol=1e-12)
    assert (doubt.mutual_information >= 0).all()
    assert (doubt.mutual_information <= math.log(len(p)) + 1e-12).all()
    assert (doubt.entropy <= math.log(3) + 1e-12).all()


@given(some_probabilities, st.integers(1, 7))
def test_equal_members_have_exactly_no_mutual_information(p: Doubles, members: int):
    doubt = uncertainty_of(np.stack([p[0]] * members))
    np.testing.assert_array_equal(doubt.mutual_information, 0.0)


def test_sure_members_that_contradict_each_other_are_all_disagreement():
    doubt = uncertainty_of(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    assert doubt.entropy[0] == doubt.mutual_information[0] == pytest.approx(math.log(2))


def test_a_prediction_tells_the_uncertainty_of_its_calibrated_members(three, scans):
    p = three.predict(scans[0])
    logits, features = three.logits(scans[:1])
    members = [three.calibrator.transform(z)[0] for z in member_logits(three.network, logits, features)]
    mean = np.mean(members, axis=0)
    assert p.networks == 3
    assert p.entropy == pytest.approx(-(mean * np.log(mean)).sum())
    assert p.mean_entropy == pytest.approx(np.mean([-(m * np.log(m)).sum() for m in members]))
    assert p.mutual_information > 1e-4


# Interval, distances, saliency


def test_the_interval_is_over_refits_and_members(three, scans):
    logits, features = three.logits(scans[:1])
    members = member_logits(three.network, logits, features)
    drawn = np.stack([refit.transform(z)[0] for refit in three.refits for z in members])
    low, high = np.percentile(drawn, [5, 95], axis=0)
    p = three.predict(scans[0])
    np.testing.assert_allclose(p.lower, np.minimum(low, p.probabilities))
    np.testing.assert_allclose(p.upper, np.maximum(high, p.probabilities))


def test_disagreement_widens_the_interval(three, scans, volumes):
    equal = classifier_of([copy.deepcopy(one(0)) for _ in range(3)], volumes)
    widths = [np.subtract(c.predict(scans[0]).upper, c.predict(scans[0]).lower).max() for c in (three, equal)]
    assert widths[0] > 1.5 * widths[1]


def test_without_refits_the_interval_still_spans_the_members(three, scans):
    bare = dataclasses.replace(three, refits=())
    p = bare.predict(scans[0])
    assert max(np.subtract(p.upper, p.lower)) > 0.01


def test_the_distance_is_the_mean_over_networks_each_with_its_own_covariance(volumes):
    networks = [one(seed) for seed in (0, 1, 2)]
    logits, features = run(Ensemble(networks), volumes)
    detector = OutlierDetector.fit(features, logits, LABELS, 0.9, networks=3)
    apart = [
        OutlierDetector.fit(part, logits, LABELS, 0.9).mahalanobis(part) for part in np.split(features, 3, 1)
    ]
    np.testing.assert_allclose(detector.mahalanobis(features), np.mean(apart, axis=0))
    assert detector.precision.shape == (features.shape[1], features.shape[1] // 3)
    again = OutlierDetector.from_arrays(detector.to_arrays())
    np.testing.assert_array_equal(again.mahalanobis(features), detector.mahalanobis(features))


def test_about_as_many_ordinary_scans_lie_beyond_the_limit_as_asked():
    beyond = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 400)
        x = rng.normal(size=(400, 12)) + 2 * labels[:, None]
        z = rng.normal(size=(400, 2))
        detector = OutlierDetector.fit(x[:200], z[:200], labels[:200], 0.9, networks=3)
        beyond.append((detector.mahalanobis(x[200:]) > detector.mahalanobis_limit).mean())
    assert np.mean(beyond) == pytest.approx(0.1, abs=0.02)


def test_features_of_another_number_of_networks_are_refused(volumes):
    logits, features = run(one(0), volumes)
    with pytest.raises(
        ValueError, match=r"There are 16 features\. Expected those of 3 networks side by side"
    ):
        OutlierDetector.fit(features, logits, LABELS, networks=3)


def test_saliency_is_of_the_average_and_surer_members_weigh_more(volumes):
    networks = [one(seed) for seed in (0, 1, 2)]
    x = torch.from_numpy(volumes[2])[None, None].requires_grad_()
    gradients, weights = [], []
    for network in networks:
        said = torch.softmax(network(x)[0], dim=0)[1]
        gradients.append(torch.autograd.grad(torch.log(said), x)[0][0, 0].numpy())
        weights.append(said.item())
    expected = np.abs(np.average(gradients, axis=0, weights=weights) * volumes[2])
    shown = saliency(Ensemble(networks), volumes[2], 1)
    np.testing.assert_allclose(shown, expected, rtol=1e-3, atol=1e-5 * expected.max())


# Storing


def test_a_stored_ensemble_says_the_same(three, scans, tmp_path):
    loaded = CalibratedClassifier.load(three.save(tmp_path / "bundle"))
    assert loaded.predict_batch(scans[:3]) == three.predict_batch(scans[:3])
    assert (
        loaded.save(tmp_path / "again").joinpath(WEIGHTS).read_bytes()
        == (tmp_path / "bundle" / WEIGHTS).read_bytes()
    )
    np.testing.assert_array_equal(loaded.saliency(scans[0]), three.saliency(scans[0]))


def test_an_ensemble_states_its_members_and_what_is_averaged(three, volumes, scans, tmp_path):
    alone = classifier_of([one(0)], volumes)
    heads = [
        json.loads((c.save(tmp_path / name) / DESCRIPTION).read_text())
        for c, name in ((alone, "one"), (three, "three"))
    ]
    assert [head["format_version"] for head in heads] == [3, 3]
    stated = {key: heads[1]["description"]["network"][key] for key in ("members", "average")}
    assert stated == {"members": 3, "average": "probabilities"}
    # One network is described as before there were ensembles.
    assert heads[0]["description"]["network"] == {"name": "small_cnn", "options": {"width": 4}}
    assert set(load_file(tmp_path / "one" / WEIGHTS)) == set(one(0).state_dict())
    assert CalibratedClassifier.load(tmp_path / "one").predict(scans[0]) == alone.predict(scans[0])


def test_one_flipped_bit_of_one_member_is_refused(three, tmp_path):
    folder = three.save(tmp_path / "bundle")
    weights = load_file(folder / WEIGHTS)
    weights["head.1.1.bias"][0] += 1e-6
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(BundleFormatError, match=f"{WEIGHTS} does not agree with the checksum"):
        CalibratedClassifier.load(folder)


def test_a_member_left_out_is_refused_even_with_good_checksums(three, tmp_path):
    description, weights, kept = read_bundle(three.save(tmp_path / "bundle"))
    fewer = {name: w for name, w in weights.items() if not name.startswith(("head.2", "body.2"))}
    write_bundle(tmp_path / "bundle", description, fewer, kept)
    with pytest.raises(BundleFormatError, match="are not those of 3 x small_cnn"):
        CalibratedClassifier.load(tmp_path / "bundle")


def test_an_average_of_logits_answers_as_their_mean(volumes):
    networks = [one(seed) for seed in range(3)]
    averaged = Ensemble(networks, "logits")
    inputs = torch.from_numpy(volumes[:2])[:, None]
    with torch.no_grad():
        each = np.stack([network.eval()(inputs).double().numpy() for network in networks])
        found = averaged.eval()(inputs).numpy()
    np.testing.assert_allclose(found, pooled_logits(each), atol=1e-6)
    np.testing.assert_allclose(logsumexp(found, axis=1), logsumexp(each, axis=2).mean(axis=0), atol=1e-6)
    network = build_members(
        {"name": "small_cnn", "options": {}, "members": 2, "average": "logits"}, 3, (8, 8, 8)
    )
    assert network.average == "logits"
