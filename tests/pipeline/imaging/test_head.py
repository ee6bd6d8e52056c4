import numpy as np
import pytest
from scipy import ndimage

from pipeline.atlas import SHAPE, SPACING_MM, load_atlas
from pipeline.imaging.head import (
    COARSE,
    FINE,
    distance_to_brain_mm,
    named_labels,
    nearest_region,
    region_model,
)


@pytest.mark.parametrize("grid", [FINE, COARSE], ids=["fine", "coarse"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, bool])
def test_blocks_are_averaged(grid, dtype, rng):
    array = (rng.random(SHAPE) if dtype is not bool else rng.random(SHAPE) > 0.5).astype(dtype)
    f = grid.factor
    blocks = array.reshape([part for n in SHAPE for part in (n // f, f)])
    found = grid.bring(array)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, blocks.mean(axis=(1, 3, 5), dtype=np.float64), rtol=1e-6)


def test_the_distance_to_the_brain_is_that_of_the_whole_grid():
    whole = ndimage.distance_transform_edt(~load_atlas().brain) * SPACING_MM
    assert np.array_equal(distance_to_brain_mm(), whole.astype(np.float32))


def test_the_nearest_region_is_that_of_the_whole_grid():
    atlas = load_atlas()
    named = np.isin(atlas.labels, named_labels())
    _, nearest = ndimage.distance_transform_edt(~named, return_indices=True)
    assert np.array_equal(nearest_region(), np.where(atlas.brain, atlas.labels[tuple(nearest)], 0))


def test_regions_that_are_smoothed_in_a_box_have_the_bits_of_the_whole_grid():
    model, kept = region_model(), FINE.bring(distance_to_brain_mm()) <= 12.0
    for number, label in enumerate(named_labels(), start=5):  # after the parts of white matter and fluid
        whole = FINE.smoothed(np.where(nearest_region() == label, load_atlas().grey, 0))
        assert np.array_equal(model.maps[:, number], whole[kept]), load_atlas().names[label]
        slopes = [slope[kept] for slope in np.gradient(whole, FINE.spacing_mm)]
        assert np.array_equal(model.gradients[:, :, number], np.array(slopes, dtype=np.float32))
