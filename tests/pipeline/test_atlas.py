"""The atlas: complete, mirrored, and anatomically where it claims to be."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.atlas import AFFINE, META_ROI_DEFINITIONS, SHAPE, braak_composite, load_atlas, load_regions


@pytest.fixture(scope="module")
def atlas():
    return load_atlas()


def centre_mm(mask):
    return AFFINE[:3, :3] @ np.argwhere(mask).mean(axis=0) + AFFINE[:3, 3]


def test_left_and_right_are_mirror_images(atlas):
    mirrored = np.array(
        [
            atlas.names.index(n.replace("left_", "x_").replace("right_", "left_").replace("x_", "right_"))
            for n in atlas.names
        ]
    )
    assert np.array_equal(atlas.labels[::-1], mirrored[atlas.labels])
    assert np.array_equal(atlas.grey[::-1], atlas.grey)
    assert AFFINE[0, 3] == -(AFFINE[0, 3] + (SHAPE[0] - 1) * AFFINE[0, 0])


def test_left_has_negative_x(atlas):
    for name in ("entorhinal", "precuneus", "putamen"):
        assert centre_mm(atlas.mask(name, "left"))[0] < 0 < centre_mm(atlas.mask(name, "right"))[0]


def test_every_region_of_the_table_exists_on_both_sides(atlas):
    for region in load_regions():
        for side in ("left", "right"):
            volume_ml = atlas.mask(region.name, side if region.kind != "background" else None).sum() * 0.008
            assert volume_ml > 0.4, region.name


def test_every_label_is_used(atlas):
    assert set(np.unique(atlas.labels)) == set(range(len(atlas.names)))


@pytest.mark.parametrize("region", [r for r in load_regions() if r.centre_mm], ids=lambda r: r.name)
def test_a_region_lies_around_its_published_centre(atlas, region):
    found = centre_mm(atlas.mask(region.name, "right"))
    assert np.linalg.norm(found - region.centre_mm) < 16


@pytest.mark.parametrize(
    ("region", "low", "high"),
    [
        ("hippocampus", (10, -42, -30), (38, -4, 4)),
        ("amygdala", (12, -18, -32), (34, 4, -10)),
        ("entorhinal", (8, -24, -52), (38, 8, -20)),
        ("parahippocampal", (8, -50, -36), (40, -16, -2)),
    ],
)
def test_medial_temporal_regions_stay_medial_temporal(atlas, region, low, high):
    where = np.argwhere(atlas.mask(region, "right")) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    assert (where.min(axis=0) >= low).all()
    assert (where.max(axis=0) <= high).all()


def test_the_tentorium_parts_cerebellum_from_cerebrum(atlas):
    points = {
        (20, -60, -20): "cerebellar_grey",
        (40, -60, -27): "cerebellar_grey",
        (30, -65, -50): "inferior_cerebellar_grey",
    }
    for point, name in points.items():
        i, j, k = np.rint(np.linalg.inv(AFFINE) @ [*point, 1]).astype(int)[:3]
        assert atlas.names[atlas.labels[i, j, k]] == name
    # No cerebral label below the seam, no cerebellar one above it, with a voxel to spare.
    z = np.arange(SHAPE[2]) * 2 + AFFINE[2, 3]
    cerebellum = atlas.mask("inferior_cerebellar_grey") | atlas.mask("cerebellar_grey")
    for name in ("lingual", "fusiform", "isthmus_cingulate", "lateral_occipital", "inferior_temporal"):
        both = atlas.mask(name).any(axis=2) & cerebellum.any(axis=2)
        lowest = np.where(atlas.mask(name), z, np.inf).min(axis=2)[both]
        highest = np.where(cerebellum, z, -np.inf).max(axis=2)[both]
        assert (lowest > highest).all(), name


def test_the_reference_is_inferior_cerebellar_grey(atlas):
    z = np.argwhere(atlas.reference)[:, 2] * 2 + AFFINE[2, 3]
    assert z.max() < -35
    assert 40 < atlas.reference.sum() * 0.008 < 110
    assert atlas.grey[atlas.reference].min() > 0.6


def test_meta_roi_regions_exist(atlas):
    for regions in META_ROI_DEFINITIONS.values():
        assert set(regions) <= set(atlas.regions_of("target"))
    assert "hippocampus" not in braak_composite("I/II")


def test_an_unknown_region_is_refused(atlas):
    with pytest.raises(KeyError, match="hypocampus"):
        atlas.mask("hypocampus")


def test_maps_cannot_be_changed_by_a_caller(atlas):
    with pytest.raises(ValueError, match="read-only"):
        atlas.labels[0] = 1
