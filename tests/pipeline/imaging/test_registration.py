"""Registration against known poses, and a real PET volume that must come back."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from pipeline.atlas import AFFINE
from pipeline.imaging import registration
from pipeline.imaging.registration import prepare, register, stay
from pipeline.imaging.space import to_template
from pipeline.scan import Volume


def real_pet(shared_data) -> Volume:
    image = nib.load(shared_data("fdg_template/CN_PET_TEMPLATE.nii"))
    return Volume(np.asanyarray(image.dataobj, dtype=np.float32), image.affine, "counts")


@pytest.mark.parametrize(
    ("seed", "tau", "tilt_deg", "extent"),
    [(1, 0.0, 0, 220), (2, 0.0, 30, 220), (3, 1.0, 0, 220), (4, 1.0, -25, 220), (5, 0.3, 20, 300)],
    ids=["negative", "chin-up", "positive", "chin-down", "long-neck"],
)
def test_known_pose_is_found(make_head, seed, tau, tilt_deg, extent):
    head = make_head(seed, tau=tau, tilt_deg=tilt_deg, extent_mm=(260, 260, extent))
    error = head.error_mm(register(head.volume, 6.0).matrix)
    assert error.mean() <= 1.0
    assert error.max() <= 2.5


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_order_and_direction_of_the_grid_do_not_matter(head, axes):
    """The same voxels stored along other axes, with the affine that says so, are the same image."""
    flipped = head.volume.array[::-1, :, ::-1].transpose(axes)
    to_old = np.eye(4)[:, [*axes, 3]]
    size = head.volume.array.shape
    flip = np.diag([-1.0, 1, -1, 1])
    flip[[0, 2], 3] = size[0] - 1, size[2] - 1
    stored = Volume(flipped, head.volume.affine @ flip @ to_old, "Bq/mL")
    found, expected = register(stored, 6.0), register(head.volume, 6.0)
    places = np.array([[0, 0, 0, 1], [60, -60, 40, 1], [-60, 40, -40, 1.0]])
    off = np.linalg.norm((places @ (found.matrix - expected.matrix).T)[:, :3], axis=1)
    assert off.max() < 0.3


def test_registration_is_deterministic(head):
    first, second = register(head.volume, 6.0), register(head.volume, 6.0)
    assert first.matrix.tobytes() == second.matrix.tobytes()


def test_real_pet_comes_back_after_a_known_displacement(shared_data):
    """Move a real mean FDG volume: what is found must move with it."""
    volume = real_pet(shared_data)
    angle = np.deg2rad(12)
    moved = np.diag([1.05, 0.96, 1.03, 1.0])
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moved = turn @ moved
    moved[:3, 3] = [6, -9, 12]
    shape, affine = (110, 120, 100), np.diag([2.2, 2.2, 2.2, 1.0])
    affine[:3, 3] = [-120, -150, -100]
    voxels = np.linalg.inv(volume.affine) @ np.linalg.inv(moved) @ affine
    array = ndimage.affine_transform(volume.array, voxels[:3, :3], voxels[:3, 3], shape, order=1)
    here = register(volume, 7.0)
    there = register(Volume(array, affine, "counts"), 7.0)
    corners = np.array([[x, y, z, 1.0] for x in (-60, 60) for y in (-90, 60) for z in (-40, 70)])
    off = np.linalg.norm((corners @ (there.matrix - moved @ here.matrix).T)[:, :3], axis=1)
    assert off.mean() < 1.0
    assert off.max() < 2.0


def test_turned_over_head_is_noticed(head):
    """A volume whose slices run the wrong way looks better to a template that is turned over."""
    assert register(head.volume, 6.0).turned_gain < 0
    wrong = head.volume.with_array(head.volume.array[:, :, ::-1])
    assert register(wrong, 6.0).turned_gain > 0.05


@pytest.mark.parametrize("first_look", [-0.09, 0.0, 0.2])
def test_doubt_about_the_right_way_up_is_settled_by_the_finer_model(head, monkeypatch, first_look):
    """Whatever a coarse grid made of it, a sound head is none that is turned over, and the reverse."""
    seen = registration._best_start

    def doubtful(image):
        start, over, _ = seen(image)
        return start, over, first_look

    monkeypatch.setattr(registration, "_best_start", doubtful)
    assert register(head.volume, 6.0).turned_gain < -0.05
    for axis in (1, 2):
        assert register(head.volume.with_array(np.flip(head.volume.array, axis)), 6.0).turned_gain > 0.08


def test_a_first_look_that_errs_is_made_good_by_the_finer_model(make_head, monkeypatch):
    """Of strong tau the coarse model may make a head that is tilted by 40 degrees more."""
    head = make_head(3, tau=1.0)
    start, over, gain = registration._best_start(prepare(head.volume, 6.0))
    turn = np.eye(4)
    cosine, sine = np.cos(np.deg2rad(50)), np.sin(np.deg2rad(50))
    turn[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    monkeypatch.setattr(registration, "_best_start", lambda image: (start @ turn, over, gain))
    found = register(head.volume, 6.0)
    assert found.explained > 0.8
    assert head.error_mm(found.matrix).mean() <= 1.0
    assert not np.allclose(found.rigid, start @ turn)


def test_an_image_in_template_space_lies_where_it_is(make_head):
    head = make_head(3)
    image = to_template([head.volume.array], [1.0], [head.matrix], head.volume.affine)
    _, off_mm = stay(Volume(image, AFFINE, "Bq/mL"), 6.0)
    assert off_mm < 1.0


def test_prepared_image_is_scaled_to_bright_tissue(head):
    image = prepare(head.volume, 6.0)
    assert np.nanpercentile(image.array, 95) == pytest.approx(1.0, abs=1e-5)
