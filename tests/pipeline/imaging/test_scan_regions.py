import numpy as np
import pytest
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, SPACING_MM, load_atlas
from pipeline.imaging.registration import Registration
from pipeline.imaging.scan_regions import ScanRegions
from pipeline.imaging.warp import Warp

POSE = np.array([[0.9, -0.2, 0.1, 5.0], [0.2, 1.0, 0.1, -12.0], [-0.1, -0.1, 1.1, 20.0], [0, 0, 0, 1]])


def _registration(warp=None) -> Registration:
    return Registration(POSE, POSE, 1.0, 0.5, 0.1, warp=warp)


def _centres() -> np.ndarray:
    return np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING_MM + AFFINE[:3, 3]


def _in_scan(template_mm) -> np.ndarray:
    return template_mm @ POSE[:3, :3].T + POSE[:3, 3]


@pytest.fixture(scope="module")
def warp() -> Warp:
    """A warp of up to about 8 mm, as large as a real one."""
    coefficients = np.random.default_rng(4).normal(0, 1, (3, 12, 14, 12))
    coefficients[:, 4:] = coefficients[:, :, 4:] = coefficients[:, :, :, 4:] = (
        0  # smooth, as a prior of 30 mm
    )
    size = np.abs(Warp(coefficients, 0.5).displacement_mm()).max()
    return Warp((8.0 / size * coefficients).astype(np.float32), 0.5)


def test_with_an_affine_alone_every_voxel_finds_its_region():
    found = ScanRegions(_registration()).labels_at(_in_scan(_centres()))
    np.testing.assert_array_equal(found, load_atlas().labels)
    assert found.dtype == np.int16


def test_a_warp_is_turned_round(warp):
    moved = np.moveaxis(np.asarray(warp.displacement_mm()), 0, -1)
    found = ScanRegions(_registration(warp)).labels_at(_in_scan(_centres() + moved))
    labels = load_atlas().labels
    same = ndimage.maximum_filter(labels, 3) == ndimage.minimum_filter(labels, 3)
    within = same & (labels > 0)  # at its border a voxel of another region is less than .1 mm away
    assert (found == labels)[within].mean() > 0.999
    assert (found == labels)[labels > 0].mean() > 0.97
    without = ScanRegions(_registration()).labels_at(_in_scan(_centres() + moved))
    assert (without == labels)[labels > 0].mean() < 0.9, "the warp matters"


def test_points_beyond_the_template_are_outside():
    far = np.array([[[1e4, 0, 0], [0, -1e4, 0]], [[0, 0, 1e4], [-1e4, 1e4, 0]]])
    assert (ScanRegions(_registration()).labels_at(far) == 0).all()
