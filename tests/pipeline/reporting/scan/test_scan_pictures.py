import io

import numpy as np
import pytest
from PIL import Image

from pipeline.reporting.scan import cortex
from pipeline.reporting.scan import scan_pictures as pictures
from pipeline.reporting.scan import slices as planes

DICHROMATS = {  # Vienot, Brettel and Mollon 1999, in linear RGB
    "protan": ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1)),
    "deutan": ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1)),
}


def _linear(colours):
    share = np.asarray(colours) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _lightness(linear):
    y = linear @ (0.2126, 0.7152, 0.0722)
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def _at(scale, value):
    low, high = pictures.SUVR_RANGE if scale == "SUVR" else pictures.Z_RANGE
    return pictures.colours_of(scale)[int((value - low) / (high - low) * 240)]


def _pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_the_same_scan_gives_the_same_picture(suvr):
    view = planes.three_planes(suvr.array, (0, 0, 0))[0]
    first, second = pictures.draw_slice(view), pictures.draw_slice(view)
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert b"Software" not in first


def test_the_scale_of_suvr_is_fixed_and_changes_at_the_background_limit():
    assert pictures.SUVR_RANGE == (0.0, 3.5)
    assert pictures.BACKGROUND_LIMIT == 1.65
    below, above = (_at("SUVR", v).astype(int) for v in (1.63, 1.67))
    assert np.ptp(below) == 0, "grey"
    assert np.ptp(above) > 150, "coloured"


def test_z_has_three_parts_and_below_normal_a_colour_of_its_own():
    low, normal, raised = (_at("z", v).astype(int) for v in (-2.1, 0, 2.1))
    assert low[2] > low[0] + 100, "blue"
    assert np.ptp(normal) < 15, "grey"
    assert raised[0] > raised[2] + 100, "orange"
    assert (_at("z", -1.9) == _at("z", 1.9)).all()


@pytest.mark.parametrize("scale", ["SUVR", "z", "saliency"])
def test_the_colours_never_grow_darker(scale):
    assert (np.diff(_lightness(_linear(pictures.colours_of(scale)))) > -0.3).all()  # eight bits


@pytest.mark.parametrize(("scale", "limit"), [("SUVR", 1.65), ("z", 2.0), ("z", -2.0)])
def test_a_limit_is_a_step_in_grey_print_and_for_the_colour_blind(scale, limit):
    below, above = (_linear(_at(scale, limit + step)) for step in (-0.03, 0.03))
    assert _lightness(above) - _lightness(below) > 8
    for matrix in DICHROMATS.values():
        seen = [np.clip(np.array(matrix) @ colour, 0, 1) for colour in (below, above)]
        assert _lightness(seen[1]) - _lightness(seen[0]) > 8


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_slice_is_large_enough_and_shows_the_hot_region_in_colour(suvr, plane):
    point = planes.hottest_point(suvr.array, "precuneus", "left")
    seen = _pixels(pictures.draw_slice(planes.cut(suvr.array, plane, point)))
    assert min(seen.shape[:2]) >= 320
    coloured = np.argwhere(np.ptp(seen, axis=2) > 100)
    assert len(coloured) > 200
    if plane != "sagittal":  # the patient's left is on the right of the picture
        assert coloured[:, 1].mean() > seen.shape[1] / 2


def test_a_slice_without_raised_uptake_has_no_colour(suvr):
    view = planes.cut(np.minimum(suvr.array, 1.6), "axial", (0, 0, 20))
    assert np.ptp(_pixels(pictures.draw_slice(view)), axis=2).max() < 12  # the ink is a little blue


@pytest.mark.parametrize("zoom", [3, 4])
@pytest.mark.parametrize("scale", ["SUVR", "saliency"])
def test_the_place_of_a_slice_is_readable_over_bright_uptake(suvr, scale, zoom):
    view = planes.cut(np.full_like(suvr.array, 9.0), "axial", (0, 0, 20))
    seen = _pixels(pictures.draw_slice(view, scale, zoom=zoom))
    middle = seen.shape[1] // 2
    place = seen[-6 * zoom :, middle - 14 * zoom : middle + 14 * zoom]
    letters = np.abs(place - np.array(pictures._INK)).max(axis=2) < 30
    assert letters.sum() > 4 * zoom**2
    assert (_lightness(_linear(place)) < 20).sum() > 4 * letters.sum(), (
        "a dark edge stands around each letter"
    )


def test_the_outline_lies_on_the_brain(suvr):
    for picture in pictures.draw_registration(suvr.array):
        seen = _pixels(picture)
        assert (np.ptp(seen, axis=2) > 100).sum() > 300


@pytest.mark.parametrize("aspect", ["lateral", "medial", "ventral"])
def test_the_cortex_shows_what_is_raised_and_what_is_below_normal(aspect):
    def coloured(values):
        drawn = pictures.draw_cortex({"left": np.full(10242, values)}, aspect, "z")
        return _pixels(drawn)[::4, ::4].reshape(-1, 3)

    for values, channels in ((-3.0, (2, 0)), (3.0, (0, 2))):
        more, less = channels
        assert (coloured(values)[:, more] > coloured(values)[:, less] + 40).sum() > 300
    assert np.ptp(coloured(0.0), axis=1).max() < 12
    assert np.ptp(coloured(np.nan), axis=1).max() < 16, "no cortex is as good as white"


def test_both_halves_are_seen_from_below_each_on_its_side():
    values = {"left": np.full(10242, 4.0), "right": np.full(10242, 0.0)}
    seen = _pixels(pictures.draw_cortex(values, "ventral", "z"))
    coloured = np.argwhere(np.ptp(seen, axis=2) > 100)
    assert (coloured[:, 1] > seen.shape[1] / 2 - 5).mean() > 0.99, "the patient's left is on the right"


def test_a_picture_of_no_half_is_an_error():
    with pytest.raises(ValueError, match="needs values of the left half, the right half or both"):
        pictures.draw_cortex({}, "lateral", "z")


@pytest.mark.parametrize("scale", ["SUVR", "z"])
def test_a_scale_is_drawn_with_its_values(scale):
    seen = _pixels(pictures.draw_scale(scale))
    assert (seen[14, 200:600] == pictures.colours_of(scale)[(np.arange(200, 600) - 76) * 240 // 640]).all()
    assert (seen[40:, :] < 100).any()


def test_every_view_is_of_one_scale_and_holds_the_whole_half():
    for side in ("left", "right"):
        for aspect in ("lateral", "medial", "ventral"):
            seen = cortex.seen_from(side, aspect).seen
            assert not np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]]).any()
            assert seen.sum() * cortex.PIXEL_MM**2 > 5000  # mm2: nothing is cut off or missing
