import numpy as np
import pytest

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.errors import InputError
from pipeline.reporting.scan import slices as planes
from pipeline.scan import Volume


def _voxel(point_mm):
    return tuple(round((p - AFFINE[n, 3]) / AFFINE[n, n]) for n, p in enumerate(point_mm))


@pytest.mark.parametrize(
    ("point", "plane", "column_half", "row_half"),
    [
        ((-45, 0, 0), "axial", "right", None),  # the patient's left is on the right of the picture
        ((45, 0, 0), "axial", "left", None),
        ((-45, 0, 0), "coronal", "right", None),
        ((1, 50, 0), "axial", None, "upper"),  # anterior is up
        ((1, -90, 0), "axial", None, "lower"),
        ((1, 0, 60), "coronal", None, "upper"),  # superior is up
        ((1, 50, 0), "sagittal", "left", None),  # anterior is left
        ((1, 0, 60), "sagittal", None, "upper"),
    ],
)
def test_slices_are_in_radiological_convention(point, plane, column_half, row_half):
    array = np.zeros(SHAPE, dtype=np.float32)
    array[_voxel(point)] = 1
    image = planes.cut(array, plane, point).image
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert image.max() == 1
    if column_half:
        assert (column < image.shape[1] / 2) == (column_half == "left")
    if row_half:
        assert (row < image.shape[0] / 2) == (row_half == "upper")


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_crosshair_is_where_the_point_is(plane):
    point = (-31.0, -50.0, 22.0)
    array = np.zeros(SHAPE, dtype=np.float32)
    array[_voxel(point)] = 1
    view = planes.cut(array, plane, point)
    row, column = np.unravel_index(view.image.argmax(), view.image.shape)
    assert view.cross == (column, row)


@pytest.mark.parametrize(
    ("plane", "marks"), [("axial", ("R", "L")), ("coronal", ("R", "L")), ("sagittal", ("A", "P"))]
)
def test_the_sides_are_marked(plane, marks):
    view = planes.cut(np.zeros(SHAPE), plane, (0, 0, 0))
    assert (view.left_mark, view.right_mark) == marks


def test_a_point_outside_the_grid_gives_its_border():
    assert planes.cut(np.zeros(SHAPE), "axial", (0, 0, 900)).position_mm == AFFINE[2, 3] + 2 * (SHAPE[2] - 1)


def test_the_hottest_point_lies_in_the_hottest_region_on_its_side(suvr):
    x, y, z = planes.hottest_point(suvr.array, "precuneus", "left")
    assert x < 0
    assert load_atlas().mask("precuneus", "left")[_voxel((x, y, z))]


def test_the_standard_levels_are_the_same_for_every_scan(suvr):
    assert [s.position_mm for s in planes.tau_levels(suvr.array)] == list(planes.TAU_LEVELS_MM)


@pytest.mark.parametrize(
    "volume",
    [
        Volume(np.zeros(SHAPE), AFFINE, "SUV"),
        Volume(np.zeros((4, 4, 4)), AFFINE, "SUVR"),
        Volume(np.zeros(SHAPE), np.eye(4), "SUVR"),
    ],
)
def test_other_grids_and_units_are_refused(volume):
    with pytest.raises(InputError, match="draws SUVR on the template grid"):
        planes.check_grid(volume)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_frame_holds_the_brain(plane):
    view = planes.cut(load_atlas().brain.astype(np.float32), plane, (1.0, -20.0, 4.0))
    rows, columns = planes.frame_of(plane)
    assert view.image[rows, columns].sum() == view.image.sum()
    assert view.image[rows, columns].size < view.image.size
