"""The warp: follows a head's shape, folds nothing, leaves tau where it is, and is stored with the scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, SPACING_MM, load_atlas
from pipeline.config import ImagingSettings
from pipeline.imaging import warp as warp_module
from pipeline.imaging.process import normalise, read_derivative, write_derivative
from pipeline.imaging.registration import prepare, register, warped
from pipeline.imaging.space import to_template
from pipeline.imaging.warp import Warp, _gathered, _points, _sampled, fit_warp

AFFINE_ONLY = ImagingSettings(registration="affine")


def bent(truth):
    """A head bent as no affine map can follow, and how far in mm each of the template's voxels was moved."""
    places = np.indices(SHAPE, dtype=np.float64)
    _, y, z = (2 * np.pi * place / n for place, n in zip(places, SHAPE, strict=True))
    pull = np.array([0 * y, 5.0 * np.cos(z), 4.0 * np.cos(y)])
    shown = ndimage.map_coordinates(truth, places - pull / SPACING_MM, order=1).astype(np.float32)
    # Where a point of the template went: the place y with y - pull(y) = x, by iteration.
    moved = pull
    for _ in range(8):
        moved = np.array([ndimage.map_coordinates(p, places + moved / SPACING_MM, order=1) for p in pull])
    return shown, moved


@pytest.fixture(scope="module")
def curved(make_head, true_suvr):
    truth, pull = bent(true_suvr(0.0))
    return make_head(5, truth=truth), pull


def test_sampling_and_gathering_are_each_others_transpose():
    rng = np.random.default_rng(0)
    coefficients = rng.standard_normal((3, 12, 14, 12)).astype(np.float32)
    values = rng.standard_normal((3, len(_points()))).astype(np.float32)
    there = float(np.vdot(_sampled(coefficients).astype(np.float64), values))
    back = float(np.vdot(coefficients.astype(np.float64), _gathered(values)))
    assert there == pytest.approx(back, rel=1e-4)


def test_a_known_stretch_has_its_volume_ratio():
    coefficients = np.zeros((3, 12, 14, 12), dtype=np.float32)
    assert Warp(coefficients, 0.0).volume_ratios().min() == 1.0
    coefficients[0, 1, 0, 0] = 10.0
    slope = -10.0 * np.sqrt(2) * np.pi / 192 * np.sin(np.pi * 0.5)
    middle = Warp(coefficients, 0.0).volume_ratios()[24, 28, 24]
    assert middle == pytest.approx(1 + slope, rel=0.01)


@pytest.mark.parametrize(("noise_correlation", "left"), [(25.0, 0.6), (None, 0.7)])
def test_the_warp_follows_a_head_that_an_affine_map_cannot(curved, monkeypatch, noise_correlation, left):
    # As shipped the warp is stiffer than it could be: its stiffness is chosen by the SUVR of other heads.
    if noise_correlation is not None:
        monkeypatch.setitem(warp_module.WARP_SETTINGS, "noise_correlation", noise_correlation)
    head, pull = curved
    affine = register(head.volume, 6.0)
    found = warped(head.volume, 6.0, affine)
    # The affine was fitted to the bent head and makes good a part: compare places in the scanner.
    points = np.argwhere(load_atlas().brain)[::5]
    homogeneous = np.c_[points, np.ones(len(points))] @ AFFINE.T
    true = homogeneous.copy()
    true[:, :3] += pull[:, *points.T].T
    moved = homogeneous.copy()
    moved[:, :3] += found.warp.displacement_mm()[:, *points.T].T
    before = np.linalg.norm((homogeneous @ affine.matrix.T - true @ head.matrix.T)[:, :3], axis=1).mean()
    after = np.linalg.norm((moved @ affine.matrix.T - true @ head.matrix.T)[:, :3], axis=1).mean()
    assert before > 2.0
    assert after < left * before
    assert found.warp.explained > affine.explained + 0.01


def test_nothing_folds_even_on_a_head_that_is_not_one(curved):
    head, _ = curved
    rng = np.random.default_rng(3)
    noise = ndimage.gaussian_filter(rng.standard_normal(head.volume.array.shape), 4).astype(np.float32)
    absurd = replace(head.volume, array=np.abs(noise) / noise.std())
    found = fit_warp(prepare(absurd, 6.0), head.matrix)
    assert found.volume_ratios(1).min() > 0
    assert np.isfinite(found.displacement_mm()).all()


def test_two_fits_give_the_same_bytes(head):
    image = prepare(head.volume, 6.0)
    first, second = fit_warp(image, head.matrix), fit_warp(image, head.matrix)
    assert first.coefficients.tobytes() == second.coefficients.tobytes()


@pytest.mark.parametrize(
    "regions", [("left_inferior_temporal", "left_middle_temporal"), ("right_lateral_occipital",)]
)
def test_focal_tau_is_not_warped_away(make_head, true_suvr, regions):
    """The contrast read through the scan's own warp is that read through its twin's, which has no tau."""
    atlas, without = load_atlas(), true_suvr(0.0)
    where = np.any([atlas.mask(r) for r in regions], axis=0)
    one, twin = make_head(7, truth=without + np.float32(1.2) * where), make_head(7, truth=without)
    read = {}
    for name, head in (("own", one), ("twin", twin)):
        found = warped(head.volume, 6.0, register(head.volume, 6.0))
        image = to_template(
            [one.volume.array], [1.0], [found.matrix], one.volume.affine, found.warp.displacement_mm()
        )
        read[name] = float(image[where].mean() / image[atlas.reference].mean())
    assert read["own"] == pytest.approx(read["twin"], rel=0.03)


def test_a_head_of_the_templates_shape_is_read_as_well_as_by_the_affine(head):
    with_warp, without = (normalise(head.volume, s) for s in (ImagingSettings(), AFFINE_ONLY))
    assert without.registration.warp is None
    assert with_warp.composites["meta_roi"] == pytest.approx(without.composites["meta_roi"], rel=0.02)
    rule = {f.rule: f for f in with_warp.findings}["warp"]
    assert rule.verdict == "pass"
    assert "warp" not in {f.rule for f in without.findings}


def test_a_warp_that_explains_nothing_more_is_left_out(head, monkeypatch):
    monkeypatch.setattr("pipeline.imaging.process._LEAST_GAIN", 1.0)
    found = normalise(head.volume, ImagingSettings())
    assert found.registration.warp is None
    finding = {f.rule: f for f in found.findings}["warp"]
    assert "the affine is used" in finding.message
    expected = normalise(head.volume, AFFINE_ONLY)
    np.testing.assert_array_equal(found.suvr.array, expected.suvr.array)


def test_the_warp_is_stored_with_the_scan(curved, tmp_path):
    found = normalise(curved[0].volume, ImagingSettings())
    write_derivative(found, tmp_path, "sub-01")
    back = read_derivative(tmp_path, "sub-01")
    np.testing.assert_allclose(
        back.registration.warp.displacement_mm(2), found.registration.warp.displacement_mm(2), atol=0.05
    )
