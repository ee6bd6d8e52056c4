"""Anatomy varies with age and stage as drawn, never folds, lasts in a subject and never sees the class."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from scipy import ndimage

from pipeline.atlas import SHAPE, load_atlas
from pipeline.config import PhantomSettings
from pipeline.phantom import plan_cohort
from pipeline.phantom.variation import draw_variation, exponential, on_template_grid, pull_back

TYPICAL = "left_middle_temporal"


def jacobian(fine):
    """Determinant of the map from voxel to voxel."""
    there = np.indices(SHAPE) + fine
    gradients = np.stack([np.stack(np.gradient(part)) for part in there])
    return np.linalg.det(np.moveaxis(gradients, (0, 1), (-2, -1)))


@pytest.mark.parametrize(("age", "stage"), [(60, 0.0), (90, 0.9)])
def test_nothing_folds(age, stage):
    inside = load_atlas().brain
    for seed in range(3):
        fine = on_template_grid(pull_back(draw_variation([7, seed], age, stage)))
        assert jacobian(fine)[inside].min() > 0


def test_a_warp_and_its_inverse_cancel():
    rng = np.random.default_rng(1)
    white = rng.standard_normal((3, 48, 56, 48))
    velocity = 60 * np.stack([ndimage.gaussian_filter(w, 4) for w in white]).astype(np.float32)
    there, back = exponential(velocity), exponential(-velocity)
    grid = np.indices(velocity.shape[1:], dtype=np.float64)
    both = back + np.stack([ndimage.map_coordinates(p, grid + back / 4, order=1) for p in there])
    middle = (slice(None), *(slice(8, -8),) * 3)
    assert 1.5 < np.abs(there[middle]).max() < 12
    assert np.abs(both[middle]).max() < 0.1 * np.abs(there[middle]).max()


def test_the_fine_grid_says_the_same_as_the_coarse_one():
    coarse = np.stack([np.fromfunction(lambda i, j, k: 0.2 * i - 0.1 * k, (48, 56, 48))] * 3).astype("f4")
    fine = on_template_grid(coarse)
    assert fine.shape == (3, *SHAPE)
    # Voxel i of the coarse grid covers voxels 2 i and 2 i + 1; millimetres become voxels.
    assert fine[:, 20:22].mean(axis=1)[:, 30, 40] == pytest.approx(coarse[:, 10, 15, 20] / 2, abs=0.05)


@pytest.mark.parametrize("growth", [-0.4, 0.5, 1.0, 1.7])
def test_ventricles_grow_as_much_as_drawn(growth, monkeypatch):
    monkeypatch.setattr("pipeline.phantom.variation._WARP_MM", ((30.0, 1e-6),))
    variation = draw_variation([1, 987654], 70, 0.0)
    object.__setattr__(variation, "ventricles", {"left": growth, "right": growth})
    ventricle = load_atlas().mask("lateral_ventricle").astype(np.float32)
    there = np.indices(SHAPE, dtype=np.float32) + on_template_grid(pull_back(variation))
    grown = ndimage.map_coordinates(ventricle, there, order=1).sum() / ventricle.sum()
    assert np.log(grown) == pytest.approx(growth, abs=0.16)


@pytest.fixture(scope="module")
def drawn():
    """300 people of 55 to 90 years, at stages drawn apart from their ages."""
    rng = np.random.default_rng(5)
    ages, stages = rng.uniform(55, 90, 300), rng.uniform(0, 1, 300)
    return (
        ages,
        stages,
        [draw_variation([3, k], a, t) for k, (a, t) in enumerate(zip(ages, stages, strict=True))],
    )


def slopes(values, ages, stages):
    """Change a year and from stage 0 to 1."""
    design = np.column_stack([np.ones(len(ages)), ages, stages])
    return np.linalg.lstsq(design, values, rcond=None)[0][1:]


def test_cortex_thins_with_age_and_tau(drawn):
    ages, stages, people = drawn
    a_year, with_tau = slopes([p.thinning[TYPICAL] for p in people], ages, stages)
    assert a_year == pytest.approx(0.0035, abs=0.0008)
    assert 0.08 < with_tau < 0.20
    assert slopes([p.thinning["left_entorhinal"] for p in people], ages, stages)[1] > with_tau * 1.4


def test_ventricles_widen_with_age_and_tau(drawn):
    ages, stages, people = drawn
    a_year, with_tau = slopes([p.ventricles["left"] for p in people], ages, stages)
    assert a_year == pytest.approx(0.03, abs=0.008)
    assert np.exp(with_tau) == pytest.approx(1.44, abs=0.25)
    # A typical person of 73 without tau: 25 ml, from 14 ml of the template.
    typical = np.median([v.ventricles["left"] for v in (draw_variation([4, k], 73, 0.0) for k in range(200))])
    assert 20 < 14.4 * np.exp(typical) < 30


def test_sides_and_people_differ(drawn):
    people = drawn[2]
    left, right = (np.array([p.ventricles[s] for p in people]) for s in ("left", "right"))
    assert 0.03 < np.std(left - right) < 0.25
    assert 0.5 < np.std([p.layers.fluid for p in people]) < 1.2
    assert 5.8 < np.mean([p.layers.skull for p in people]) < 6.8
    thinner = [p.thinning[TYPICAL] - p.thinning[TYPICAL.replace("left", "right")] for p in people]
    assert 0.01 < np.std(thinner) < 0.04


def test_the_side_that_tau_is_ahead_on_thins_first():
    left_ahead = draw_variation([2, 1], 73, 0.35, asymmetry=0.3)
    symmetric = draw_variation([2, 1], 73, 0.35)
    right = TYPICAL.replace("left", "right")
    assert left_ahead.thinning[TYPICAL] > symmetric.thinning[TYPICAL] + 0.02
    assert left_ahead.thinning[right] < symmetric.thinning[right] - 0.02


def test_a_persons_warp_lasts_and_the_rest_moves_on():
    first, later = draw_variation([1, 5], 70, 0.2), draw_variation([1, 5], 72, 0.3)
    assert later.ventricles["left"] > first.ventricles["left"]
    assert later.layers.skull == first.layers.skull
    moved = np.abs(pull_back(first) - pull_back(later)).max()
    assert moved < np.abs(pull_back(first) - pull_back(draw_variation([1, 6], 70, 0.2))).max() / 3


def test_the_class_has_no_part_in_the_anatomy():
    # What is not handed over cannot be used.
    assert list(inspect.signature(draw_variation).parameters) == ["subject_seed", "age", "stage", "asymmetry"]
    # Nor do the ages of a cohort tell the class beyond the stage: correlation within a narrow band of stages.
    plan = plan_cohort(PhantomSettings(subjects=4000, scans=4000, anatomy="people"), seed=2)
    band = [s for s in plan if 0.1 < s.latents.stage < 0.4]
    ages = [(s.start.date() - s.subject.birth).days for s in band]
    residual = np.array([float(s.label) - np.arange(3) @ s.posterior for s in band])
    assert abs(np.corrcoef(ages, residual)[0, 1]) < 3 / np.sqrt(len(band))
