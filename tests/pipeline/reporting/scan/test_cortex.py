import numpy as np
import pytest
from scipy import ndimage

from pipeline.atlas import load_atlas
from pipeline.reporting.scan import cortex

SIDES = ("left", "right")


def _smooth(array):
    return ndimage.gaussian_filter(np.asarray(array, dtype=np.float32), 1.0)


@pytest.mark.parametrize("side", SIDES)
def test_the_mesh_is_of_its_side_and_its_labels_are_regions_of_the_atlas(side):
    half = cortex.hemisphere(side)
    assert half.pial.shape == half.white.shape == half.normals.shape == (10242, 3)
    assert (half.pial[:, 0] < 5).all() if side == "left" else (half.pial[:, 0] > -5).all()
    gyri = {name.replace("_", "") for name in load_atlas().regions_of("target")}
    found = set(np.unique(half.labels)) - {""}
    assert found <= gyri
    assert len(found) >= 33


@pytest.mark.parametrize("side", SIDES)
def test_normals_point_out_of_the_brain(side):
    half = cortex.hemisphere(side)
    outwards = half.pial - half.pial.mean(axis=0)
    assert ((half.normals * outwards).sum(axis=1) > 0).mean() > 0.75
    np.testing.assert_allclose(np.linalg.norm(half.normals, axis=1), 1)


@pytest.mark.parametrize("side", SIDES)
def test_what_is_the_same_everywhere_is_so_on_the_cortex(side):
    found = cortex.on_cortex(np.full((96, 112, 96), 1.3), side)
    half = cortex.hemisphere(side)
    assert (np.isnan(found) == (half.labels == "")).all()
    np.testing.assert_allclose(found[~np.isnan(found)], 1.3, rtol=1e-6)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "region", ["precuneus", "inferior_temporal", "lateral_occipital", "superior_frontal"]
)
def test_a_hot_region_of_the_volume_is_hot_on_its_part_of_the_cortex(side, region):
    found = cortex.on_cortex(1.0 + 2.0 * _smooth(load_atlas().mask(region, side)), side)
    labels = cortex.hemisphere(side).labels
    means = {name: found[labels == name].mean() for name in np.unique(labels) if name}
    assert max(means, key=means.get) == region.replace("_", "")
    other = cortex.on_cortex(1.0 + 2.0 * _smooth(load_atlas().mask(region, side)), *(set(SIDES) - {side}))
    assert np.nanmean(other) < 1.03


def test_values_of_regions_are_on_their_vertices_only():
    found = cortex.of_regions({"left_precuneus": 3.0, "right_precuneus": 5.0, "left_banks_sts": 1.0}, "left")
    labels = cortex.hemisphere("left").labels
    assert (found[labels == "precuneus"] == 3.0).all()
    assert (found[labels == "bankssts"] == 1.0).all()
    assert np.isnan(found[(labels != "precuneus") & (labels != "bankssts")]).all()


@pytest.mark.parametrize(
    ("side", "aspect", "anterior_left"),
    [
        ("left", "lateral", True),
        ("left", "medial", False),
        ("right", "lateral", False),
        ("right", "medial", True),
    ],
)
def test_the_front_is_where_it_is_seen_from_there(side, aspect, anterior_left):
    view = cortex.seen_from(side, aspect)
    front = view.picture(cortex.hemisphere(side).pial[:, 1])
    columns = np.flatnonzero(view.seen.any(axis=0))
    first, last = np.nanmean(front[:, columns[20]]), np.nanmean(front[:, columns[-20]])
    assert (first > last) == anterior_left
    up = view.picture(cortex.hemisphere(side).pial[:, 2])
    rows = np.flatnonzero(view.seen.any(axis=1))
    assert np.nanmean(up[rows[20]]) > np.nanmean(up[rows[-20]])


def test_each_side_shows_the_regions_that_face_it():
    labels = cortex.hemisphere("left").labels
    shown = {
        aspect: {
            region: np.nansum(cortex.seen_from("left", aspect).picture((labels == region).astype(float)))
            for region in ("precuneus", "supramarginal", "fusiform")
        }
        for aspect in ("lateral", "medial", "ventral")
    }
    for region, aspect in (("supramarginal", "lateral"), ("precuneus", "medial"), ("fusiform", "ventral")):
        assert max(shown, key=lambda seen: shown[seen][region]) == aspect


def test_weights_of_a_seen_point_sum_to_one_and_its_light_is_a_share():
    view = cortex.seen_from("right", "lateral")
    np.testing.assert_allclose(view.weights.sum(axis=2)[view.seen], 1, rtol=1e-5)
    assert view.light.min() >= 0
    assert view.light.max() <= 1
    assert np.isnan(view.picture(np.ones(10242))[~view.seen]).all()


def test_colours_are_mixed_from_the_corners_of_what_is_seen_and_darkened_at_the_edge(rng):
    view, of_vertex = cortex.seen_from("left", "ventral"), rng.random((10242, 3)).astype(np.float32)
    corners = (of_vertex[view.vertices] * view.weights[..., None]).sum(axis=2)[view.seen]
    lit = 0.5 + 0.5 * np.sqrt(view.light[view.seen])
    np.testing.assert_allclose(view.mixing @ of_vertex, corners * lit[:, None], rtol=1e-5)


def test_the_nearest_triangle_hides_those_behind_it():
    corners = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [1.0, 1.0], [4.0, 1.0], [1.0, 4.0]])
    behind, before = [0, 1, 2], [3, 4, 5]
    vertices, weights = cortex._painted(np.array([behind, before]), *corners.T, (12, 12))
    seen = weights.any(axis=1)
    assert set(vertices[seen].ravel().tolist()) == set(behind + before)
    np.testing.assert_allclose(weights[seen].sum(axis=1), 1, rtol=1e-6)
    shown = vertices.reshape(12, 12, 3)[2, 2].tolist(), vertices.reshape(12, 12, 3)[0, 7].tolist()
    assert shown == (before, behind)
    assert not seen.reshape(12, 12)[10:, 10:].any()
