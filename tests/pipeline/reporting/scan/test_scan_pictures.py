import numpy as np
from matplotlib import colormaps

from pipeline.reporting.scan import scan_pictures as pictures
from pipeline.reporting.scan import slices as planes


def test_the_same_scan_gives_the_same_picture(suvr):
    slices = planes.three_planes(suvr.array, (0, 0, 0))
    first, second = pictures.draw_slices(slices), pictures.draw_slices(slices)
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert b"Software" not in first


def test_the_scale_is_fixed_and_marks_the_background_limit():
    assert pictures.SUVR_RANGE == (0.0, 3.5)
    assert pictures.BACKGROUND_LIMIT == 1.65


def test_the_colours_grow_lighter_evenly():
    red, green, blue = colormaps[pictures.COLORMAP](np.linspace(0, 1, 64))[:, :3].T
    assert (np.diff(0.2126 * red + 0.7152 * green + 0.0722 * blue) > 0).all()
