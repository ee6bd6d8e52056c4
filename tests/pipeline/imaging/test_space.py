"""Resolutions add up, grids agree, fields of view are seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE
from pipeline.imaging.space import (
    FWHM_PER_SIGMA,
    coarse_volume,
    field_of_view,
    gaussian,
    smooth_on_template,
    smoothing_sigma_mm,
    to_template,
)
from pipeline.scan import Volume


def width_mm(image: np.ndarray) -> np.ndarray:
    """FWHM of a lone spot along each axis, from its second moments."""
    places = np.indices(image.shape).reshape(3, -1) * 2.0
    weight = image.ravel() / image.sum()
    mean = places @ weight
    return np.sqrt(((places - mean[:, None]) ** 2) @ weight) * FWHM_PER_SIGMA


@given(st.floats(3, 12), st.floats(3, 12))
def test_resolutions_add_in_squares(native, target):
    reached = np.hypot(native, smoothing_sigma_mm(native, target) * FWHM_PER_SIGMA)
    assert reached == pytest.approx(max(native, target))


@pytest.mark.parametrize("scale", [1.0, 1.1])
@pytest.mark.parametrize("spacing", [1.5, 2.5])
def test_a_spot_of_6_mm_becomes_one_of_8_mm(spacing, scale):
    """Interpolation and smoothing together reach the common resolution, in the scanner's millimetres."""
    shape = (round(160 / spacing),) * 3
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-80.3, -90.7, -60.1]
    spot = np.zeros(shape, np.float32)
    spot[tuple(n // 2 for n in shape)] = 1
    spot = ndimage.gaussian_filter(spot, 6.0 / FWHM_PER_SIGMA / spacing)
    matrix = np.diag([scale, scale, scale, 1.0])
    image = to_template([spot], [1.0], [matrix], affine)
    image = smooth_on_template(image, smoothing_sigma_mm(6, 8), matrix, (spacing,) * 3)
    np.testing.assert_allclose(width_mm(image) * scale, 8.0, atol=0.2)


def test_identity_changes_nothing(rng):
    image = rng.normal(size=SHAPE).astype(np.float32)
    np.testing.assert_allclose(to_template([image], [1.0], [np.eye(4)], AFFINE), image, atol=1e-5)


def test_frames_are_averaged_through_their_own_motion(rng):
    """A frame that is shifted by two template voxels, and told so, adds to the other without blur."""
    image = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2).astype(np.float32)
    moved = np.roll(image, 2, axis=0)
    shift = np.eye(4)
    shift[0, 3] = 4.0
    average = to_template([image, moved], [0.5, 0.5], [np.eye(4), shift], AFFINE)
    np.testing.assert_allclose(average[:-4], image[:-4], atol=1e-4)


def test_coarse_volume_keeps_place_and_knows_its_field():
    """The middle of a bright ball stays where it was, on an oblique grid too; the corners are unknown."""
    angle = np.deg2rad(30)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= 1.5
    affine[:3, 3] = [10, -20, -300]
    grid = np.indices((60, 60, 50)).astype(float)
    ball = ((grid - np.array([30, 25, 20]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 100
    coarse = coarse_volume(Volume(ball.astype(np.float32), affine, "counts"), 4.0)
    assert np.isnan(coarse.array[0, 0, 0])
    found = ndimage.center_of_mass(np.nan_to_num(coarse.array))
    place = coarse.affine[:3, :3] @ found + coarse.affine[:3, 3]
    np.testing.assert_allclose(place, affine[:3, :3] @ [30, 25, 20] + affine[:3, 3], atol=0.3)


def test_smoothing_gives_nothing_across_the_edge_of_view():
    image = np.ones((20, 20, 20), np.float32)
    image[:, :, 10:] = np.nan
    smooth = gaussian(image, 6.0, 2.0)
    np.testing.assert_allclose(smooth[:, :, :10], 1.0, rtol=1e-5)
    assert np.isnan(smooth[:, :, 10:]).all()


def test_field_of_view_is_where_voxels_are():
    shape = (96, 112, 40)
    inside = field_of_view(shape, AFFINE, np.eye(4))
    assert inside[:, :, :40].all()
    assert not inside[:, :, 40:].any()
