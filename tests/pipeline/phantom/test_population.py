"""The posterior is exact: it sums to one, equals Bayes' rule by hand and is calibrated against its labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from pipeline.phantom.population import (
    PRESETS,
    class_at,
    later_stage,
    posterior,
    rank_of,
    sample_classes,
)

N = 100_000


@pytest.fixture(scope="module", params=sorted(PRESETS))
def sampled(request):
    preset = PRESETS[request.param]
    labels, stage, typical = sample_classes(preset, N, np.random.default_rng(11))
    return request.param, preset, labels, posterior(preset, stage, typical)


def worst_z(probabilities, labels, bins=15):
    """Largest deviation of a class's frequency from its probability, in standard errors, over bins."""
    worst = 0.0
    for k in range(probabilities.shape[1]):
        p, hit = probabilities[:, k], labels == k
        which = np.clip((p * bins).astype(int), 0, bins - 1)
        for b in range(bins):
            inside = which == b
            expected = p[inside].sum()
            variance = (p[inside] * (1 - p[inside])).sum()
            if variance > 10:
                worst = max(worst, abs(hit[inside].sum() - expected) / math.sqrt(variance))
    return worst


def test_presets_are_distributions():
    for preset in PRESETS.values():
        assert sum(preset.prevalence) == pytest.approx(1)
        for mixture in preset.mixtures:
            assert sum(mixture) == pytest.approx(1)
        lengths = {len(getattr(preset, f)) for f in preset.__dataclass_fields__}
        assert lengths == {len(preset.class_names)}


def test_posterior_sums_to_one(sampled):
    *_, p = sampled
    assert np.allclose(p.sum(axis=1), 1, atol=1e-12)
    assert (p >= 0).all()


def test_posterior_is_calibrated_against_its_own_labels(sampled):
    _, _, labels, p = sampled
    # Some 50 bins: the largest of 50 standard normals passes 4.2 once in 700 times; the seed is fixed.
    assert worst_z(p, labels) < 4.2


def test_the_calibration_check_can_fail(sampled):
    _, _, labels, p = sampled
    sharper = p**1.1 / (p**1.1).sum(axis=1, keepdims=True)
    assert worst_z(sharper, labels) > 4.2


def test_labels_follow_the_prevalence(sampled):
    _, preset, labels, _ = sampled
    share = np.bincount(labels, minlength=len(preset.prevalence)) / N
    assert share == pytest.approx(preset.prevalence, abs=0.006)


def test_posterior_by_hand():
    # Bayes' rule at t = .3 with the densities written out: t^(a-1) (1-t)^(b-1) / B(a, b).
    def beta(t, a, b):
        return t ** (a - 1) * (1 - t) ** (b - 1) * math.gamma(a + b) / math.gamma(a) / math.gamma(b)

    none, early, late = beta(0.3, 1, 40), beta(0.3, 4, 13), beta(0.3, 6, 7)
    joint = [
        0.42 * 0.2 * (0.95 * none + 0.05 * early),
        0.15 * 0.2 * (0.60 * none + 0.36 * early + 0.04 * late),
        0.22 * 0.2 * (0.20 * none + 0.42 * early + 0.38 * late),
        0.14 * 0.05 * (0.02 * none + 0.13 * early + 0.85 * late),
        0.07 * 0.92 * (0.02 * none + 0.13 * early + 0.85 * late),
    ]
    p = posterior(PRESETS["five_class"], np.array([0.3]), np.array([False]))[0]
    assert p == pytest.approx(np.array(joint) / sum(joint))


@pytest.mark.parametrize(
    ("name", "accuracy", "balanced", "auroc", "nll"),
    # As first prototyped, on a smaller sample: hence the width of the tolerances.
    [("three_class", 0.78, 0.57, None, 0.547), ("five_class", 0.63, 0.57, 0.82, 0.938)],
)
def test_the_oracle_is_as_good_as_published(name, accuracy, balanced, auroc, nll):
    preset = PRESETS[name]
    labels, stage, typical = sample_classes(preset, N, np.random.default_rng(5))
    p = posterior(preset, stage, typical)
    assert (p.argmax(axis=1) == labels).mean() == pytest.approx(accuracy, abs=0.01)
    assert balanced_accuracy_score(labels, p.argmax(axis=1)) == pytest.approx(balanced, abs=0.025)
    assert -np.log(p[np.arange(N), labels]).mean() == pytest.approx(nll, abs=0.012)
    if auroc:
        assert roc_auc_score(labels, p, multi_class="ovr") == pytest.approx(auroc, abs=0.01)


def test_later_visits_are_calibrated_too():
    preset, rng = PRESETS["three_class"], np.random.default_rng(2)
    n = 30_000
    labels, stage, typical = sample_classes(preset, n, rng)
    first = posterior(preset, stage, typical)
    later = np.array([later_stage(t, 2.0, rng) for t in stage])
    second = posterior(preset, later, typical)
    moved = np.array([class_at(second[k], rank_of(first[k], labels[k], rng)) for k in range(n)])
    assert worst_z(second, moved) < 4.2
    # As the stage grows a person moves on, hardly ever back.
    assert (moved < labels).mean() < 0.01 < (moved > labels).mean()


@given(
    stage=st.floats(0, 1),
    years=st.floats(0.1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_stage_never_shrinks(stage, years, seed):
    later = later_stage(stage, years, np.random.default_rng(seed))
    assert stage <= later <= 1


@given(
    weights=st.lists(st.floats(1e-3, 1), min_size=2, max_size=6),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_a_rank_leads_back_to_its_class(weights, seed, data):
    p = np.array(weights) / sum(weights)
    label = data.draw(st.integers(0, len(weights) - 1))
    assert class_at(p, rank_of(p, label, np.random.default_rng(seed))) == label
