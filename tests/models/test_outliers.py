"""Ordinary scans stay within the limits as often as promised; strange ones do not."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save
from sklearn.covariance import ledoit_wolf as sklearns
from sklearn.metrics import roc_auc_score

from models.outliers import HeldOut, OutlierDetector, ledoit_wolf


def ordinary(rng, n, features=32, apart=1.0):
    """Correlated features about three class means, and logits linear in them."""
    mixing = np.random.default_rng(99).normal(size=(features, features)) / np.sqrt(features)
    means = apart * np.random.default_rng(98).normal(size=(3, features))
    labels = rng.integers(0, 3, n)
    x = rng.normal(size=(n, features)) @ mixing + means[labels]
    return x, x @ means.T - (means**2).sum(axis=1) / 2, labels


@pytest.mark.parametrize("shape", [(20, 3), (50, 50), (30, 200)])
def test_shrunk_covariance_is_scikit_learns(rng, shape):
    residuals = rng.normal(size=shape) * np.linspace(0.2, 3, shape[1])
    expected, shrinkage = sklearns(residuals, assume_centered=True)
    found, share = ledoit_wolf(residuals)
    assert share == pytest.approx(shrinkage, rel=1e-9)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("scans", "features"), [(400, 8), (150, 64), (120, 256)])
def test_new_ordinary_scans_stay_within_the_limits(scans, features):
    """At 95 %, also with more features than scans, where the fitted scans' own distances would mislead."""
    rng = np.random.default_rng(0)
    beyond_distance, beyond_energy, beyond_naive = [], [], []
    for _ in range(8):
        x, z, y = ordinary(rng, scans, features)
        detector = OutlierDetector.fit(x, z, y, quantile=0.95)
        new_x, new_z, _ = ordinary(rng, 1000, features)
        distances = detector.mahalanobis(new_x)
        beyond_distance.append((distances > detector.mahalanobis_limit).mean())
        beyond_energy.append((detector.energy(new_z) > detector.energy_limit).mean())
        beyond_naive.append((distances > np.quantile(detector.mahalanobis(x), 0.95)).mean())
    assert 0.02 < np.mean(beyond_distance) < 0.08
    assert 0.02 < np.mean(beyond_energy) < 0.08
    if features >= scans / 2:
        assert np.mean(beyond_naive) > 3 * np.mean(beyond_distance)


def test_strange_scans_lie_beyond(rng):
    x, z, y = ordinary(rng, 300)
    detector = OutlierDetector.fit(x, z, y)
    strange = ordinary(rng, 100)[0] + 2 * rng.normal(size=(100, 32))
    usual = ordinary(rng, 100)[0]
    assert (detector.mahalanobis(strange) > detector.mahalanobis_limit).mean() > 0.95
    scores = np.concatenate([detector.mahalanobis(usual), detector.mahalanobis(strange)])
    assert roc_auc_score(np.repeat([0, 1], 100), scores) > 0.98
    # Logits near zero for every class: no class's evidence, so high energy.
    flat = detector.energy(np.zeros((1, 3)))
    assert flat[0] > np.median(detector.energy(z))


def test_distance_is_the_textbook_one(rng):
    x, z, y = ordinary(rng, 200, features=4)
    detector = OutlierDetector.fit(x, z, y)
    means = np.stack([x[y == k].mean(axis=0) for k in range(3)])
    covariance = sklearns(x - means[y], assume_centered=True)[0]
    point = rng.normal(size=4)
    expected = min(np.sqrt((point - m) @ np.linalg.solve(covariance, point - m)) for m in means)
    assert detector.mahalanobis(point[None])[0] == pytest.approx(expected, rel=1e-6)
    assert detector.mahalanobis(means) == pytest.approx(0, abs=1e-9)


def test_energy_is_stable_and_moves_with_the_logits(rng):
    x, z, y = ordinary(rng, 30)
    detector = OutlierDetector.fit(x, z, y)
    assert detector.energy([[1000.0, -1000.0], [-1000.0, -1000.0]]) == pytest.approx(
        [-1000, 1000 - np.log(2)]
    )
    assert detector.energy(z + 5) == pytest.approx(detector.energy(z) - 5)


def test_turned_and_moved_features_give_the_same_distances(rng):
    x, z, y = ordinary(rng, 100)
    turn = np.linalg.qr(rng.normal(size=(32, 32)))[0]
    first, second = OutlierDetector.fit(x, z, y), OutlierDetector.fit(3 * x @ turn + 7, z, y)
    assert second.mahalanobis(3 * x @ turn + 7) == pytest.approx(first.mahalanobis(x), rel=1e-4)
    assert second.mahalanobis_limit == pytest.approx(first.mahalanobis_limit, rel=1e-4)


def test_few_scans_take_the_largest_value_as_limit(rng):
    x, z, y = ordinary(rng, 20, features=4)
    detector = OutlierDetector.fit(x, z, y, quantile=0.99)
    assert detector.energy_limit == detector.energy(z).max()


def test_scans_of_a_subject_stand_in_one_fold(rng):
    """Twins of each scan: dealt apart they vouch for each other, and the limit comes out too small."""
    x, z, y = ordinary(rng, 60, features=64)
    twice = [np.repeat(a, 2, axis=0) for a in (x, z, y)]
    by_subject = OutlierDetector.fit(*twice, quantile=0.9, subjects=np.repeat(np.arange(60), 2).tolist())
    by_scan = OutlierDetector.fit(*twice, quantile=0.9)
    assert by_subject.mahalanobis_limit > 1.3 * by_scan.mahalanobis_limit


@pytest.mark.parametrize("case", ["one scan a class", "constant features", "an absent class"])
def test_poor_calibration_sets_have_defined_limits(rng, case):
    x, z, y = ordinary(rng, 40, features=5)
    if case == "one scan a class":
        x, z, y = x[:3], z[:3], np.arange(3)
    elif case == "constant features":
        x = np.ones_like(x)
    else:
        y = np.minimum(y, 1)
    detector = OutlierDetector.fit(x, z, y)
    assert np.isfinite([detector.mahalanobis_limit, detector.energy_limit]).all()
    assert np.isfinite(detector.mahalanobis(x)).all()
    assert (detector.mahalanobis(x + 1e3) > detector.mahalanobis_limit).all()


def test_stored_and_read_again(rng):
    x, z, y = ordinary(rng, 50)
    detector = OutlierDetector.fit(x, z, y)
    again = OutlierDetector.from_arrays(load(save(detector.to_arrays())))
    assert again.mahalanobis(x).tobytes() == detector.mahalanobis(x).tobytes()
    assert (again.mahalanobis_limit, again.energy_limit, again.shrinkage) == (
        detector.mahalanobis_limit,
        detector.energy_limit,
        detector.shrinkage,
    )


def test_refusals(rng):
    x, z, y = ordinary(rng, 10)
    with pytest.raises(ValueError, match=r"quantile is 99\. Expected a number between 0 and 1"):
        OutlierDetector.fit(x, z, y, 99)
    with pytest.raises(ValueError, match="Expected those of the same scans, at least two"):
        OutlierDetector.fit(x, z[:9], y)
    with pytest.raises(ValueError, match="at least two"):
        OutlierDetector.fit(x[:1], z[:1], y[:1])
    with pytest.raises(ValueError, match="All scans are of one subject"):
        OutlierDetector.fit(x, z, y, subjects=["s1"] * 10)
    with pytest.raises(ValueError, match="contain NaN or infinity"):
        OutlierDetector.fit(np.where(x > 0, x, np.nan), z, y)
    with pytest.raises(ValueError, match=r"shape \(10, 31\)\. Expected \(scans, 32\) as in `fit`"):
        OutlierDetector.fit(x, z, y).mahalanobis(x[:, 1:])


def test_networks_of_a_cross_fitting_are_compared_with_scans_they_never_saw(rng):
    labels = np.arange(60) % 2
    ids = tuple(str(n) for n in range(30))
    networks, everywhere = [], []
    for scale in (1.0, 50.0):  # features of different networks are on different scales
        learned = scale * (rng.normal(size=(60, 4)) + 3 * labels[:, None])
        fresh = scale * (rng.normal(size=(30, 4)) + 3 * (np.arange(30) % 2)[:, None])
        half = slice(0, 15) if scale == 1 else slice(15, 30)
        networks.append(HeldOut(learned, labels, fresh[half], ids[half]))
        everywhere.append(fresh)
    found = OutlierDetector.of_networks(networks, rng.normal(size=(30, 2)), ids, 0.9)
    again = OutlierDetector.from_arrays(found.to_arrays())
    usual = again.mahalanobis(np.hstack(everywhere))
    assert 0.7 < np.median(usual) < 1.4
    assert (usual <= found.mahalanobis_limit).mean() > 0.85
    far = again.mahalanobis(np.hstack(everywhere) + np.repeat([20.0, 1000.0], 4))
    assert (far > found.mahalanobis_limit).all()
