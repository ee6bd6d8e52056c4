"""What the viewer of a scan shows in a real browser, offline."""

import itertools
import re

import numpy as np
import pytest
from page_viewer import held_by

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.reporting.page.words import title_of
from pipeline.reporting.scan.scan_pictures import suvr_colours
from pipeline.reporting.scan.viewer_page import (
    STEP,
    levels_of,
    viewer_page,
)
from pipeline.scan import Volume


@pytest.fixture(scope="module")
def html(report, suvr) -> str:
    return viewer_page(report, suvr).html()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page under its own policy; what it asked for and complained of is in its `heard`."""
    contexts = []

    def open_html(html: str, *, before: str = "", **options):
        path = tmp_path / "viewer.html"
        path.write_text(html)
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.heard = []
        page.on("console", lambda message: page.heard.append(message.text))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("request", lambda request: page.heard.append(request.url))
        page.add_init_script(before)
        page.goto(path.as_uri())
        page.heard.remove(path.as_uri())
        return page

    yield open_html
    for context in contexts:
        context.close()


def _click(page, canvas: str, across: float, down: float) -> str:
    """Click at a share of a picture; return what is read then."""
    box = page.locator(f"#{canvas}").bounding_box()
    page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])
    return _readout(page)


def _readout(page) -> str:
    page.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    return " ".join(page.locator(".readout").inner_text().split())


def _pixel(page, canvas: str, across: float, down: float) -> list[int]:
    return page.evaluate(
        """([id, across, down]) => { const c = document.getElementById(id);
        return [...c.getContext("2d").getImageData(across * c.width, down * c.height, 1, 1).data] }""",
        [canvas, across, down],
    )


@pytest.mark.slow
def test_the_viewer_opens_offline_and_a_click_moves_the_cross_hair(opened, html):
    page = opened(html)
    page.locator("#scan").wait_for()
    assert _readout(page).startswith("SUVR 2.50 left precuneus x −")
    moved = _click(page, "coronal", 0.01, 0.01)
    assert re.fullmatch(r"SUVR 0\.0\d in no region of the atlas x \+79, y −\d+, z \+90 mm", moved)
    assert all(_pixel(page, plane, 0.99, 0.99)[3] == 255 for plane in ("axial", "coronal", "sagittal"))
    page.locator("#axial-slice").focus()
    page.keyboard.press("ArrowLeft")
    assert _readout(page).endswith("z +88 mm")
    page.locator("#fade").fill("100")
    page.locator("#outlines").select_option("each")
    assert _readout(page).endswith("z +88 mm")
    assert page.locator("#failed").is_hidden()
    assert [line for line in page.heard if not line.startswith("data:")] == []


@pytest.mark.slow
def test_value_and_region_are_those_of_the_voxel_at_the_cross_hair(opened, report):
    array = np.random.default_rng(5).uniform(0, 6, SHAPE).astype(np.float32)
    page = opened(viewer_page(report, Volume(array, AFFINE, "SUVR")).html())
    page.locator("#scan").wait_for()
    atlas, seen = load_atlas(), set()
    shares = itertools.product(("coronal", "axial", "sagittal"), (0.2, 0.36, 0.66), (0.3, 0.55))
    for plane, across, down in shares:
        told = _click(page, plane, across, down).replace("−", "-")
        at_mm = [float(n) for n in re.findall(r"[xyz] ([+-]\d+)", told)]
        voxel = tuple(np.rint((np.array(at_mm) - AFFINE[:3, 3]) / 2).astype(int))
        more = " or more" if levels_of(array[voxel]) == 255 else ""
        assert told.startswith(f"SUVR {STEP * levels_of(array[voxel]):.2f}{more} ")
        side, _, region = atlas.names[atlas.labels[voxel]].partition("_")
        if side in ("left", "right"):
            assert f" {side} {title_of(region).lower()} x " in told
            seen.add((side, region))
    assert len({side for side, _ in seen}) == 2
    assert len(seen) > 3


@pytest.mark.slow
def test_the_marks_name_the_sides(opened, html):
    spy = """const made = CanvasRenderingContext2D.prototype.fillText; window.marks = {};
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
      const edge = x < this.canvas.width / 2 ? "left" : "right";
      if (text.length === 1) window.marks[`${this.canvas.id} ${edge}`] = text;
      made.call(this, text, x, y); }"""
    page = opened(html, before=spy)
    page.locator("#scan").wait_for()
    assert page.evaluate("window.marks") == {
        "axial left": "R", "axial right": "L", "coronal left": "R", "coronal right": "L",
        "sagittal left": "A", "sagittal right": "P",
    }  # fmt: skip


@pytest.mark.slow
def test_the_patients_left_is_on_the_right_of_the_picture(opened, report, one_sided):
    page = opened(viewer_page(report, one_sided).html())
    page.locator("#scan").wait_for()
    page.locator("#outlines").select_option("")
    for plane in ("axial", "coronal"):
        assert _click(page, plane, 0.75, 0.5).startswith("SUVR 3.00")
        assert " x −" in _readout(page)
        assert _click(page, plane, 0.25, 0.5).startswith("SUVR 1.00")
        assert " x +" in _readout(page)
        left, right = _pixel(page, plane, 0.25, 0.3), _pixel(page, plane, 0.75, 0.3)
        assert (np.ptp(left[:3]) == 0, np.ptp(right[:3]) > 100) == (True, True)
    assert "y +" in _click(page, "sagittal", 0.1, 0.5)  # anterior, under the mark A
    assert "y −" in _click(page, "sagittal", 0.9, 0.5)
    assert "z +" in _click(page, "sagittal", 0.5, 0.1)


@pytest.mark.slow
def test_the_drawn_colour_is_that_of_the_value(opened, html):
    page = opened(html)
    page.locator("#scan").wait_for()
    page.locator("#outlines").select_option("")
    _readout(page)
    held = held_by(html)
    column, row = (held["shape"][n] - 0.5 - held["start"][n] for n in (0, 1))  # inside the cross-hair's gap
    place = (column + 0.4) / held["shape"][0], (row + 0.4) / held["shape"][1]
    assert _pixel(page, "axial", *place)[:3] == suvr_colours(np.array([2.5]))[0].tolist()


@pytest.mark.slow
def test_without_scripts_the_page_says_what_to_do(opened, html):
    page = opened(html, java_script_enabled=False)
    assert "The viewer needs JavaScript" in page.locator("main").inner_text()
    assert page.locator("#scan").is_hidden()


@pytest.mark.slow
def test_a_damaged_file_shows_no_picture_but_a_reason(opened, html):
    page = opened(re.sub(r'data-suvr="[^"]{20}', 'data-suvr="', html))
    page.locator("#failed").wait_for()
    assert page.locator("#scan").is_hidden()
