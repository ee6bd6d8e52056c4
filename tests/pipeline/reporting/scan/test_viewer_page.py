"""What the viewer of a scan holds and, in a real browser, what it shows."""

import base64
import hashlib
import itertools
import json
import re
import zlib
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.errors import InputError, RefusedScan
from pipeline.imaging.quality import Finding
from pipeline.reporting.page.facts import RESEARCH_USE_ONLY, SYNTHETIC
from pipeline.reporting.page.html import template_bytes
from pipeline.reporting.page.words import title_of
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_page import write_scan_report
from pipeline.reporting.scan.scan_pictures import BACKGROUND_LIMIT, suvr_colours
from pipeline.reporting.scan.viewer_page import (
    STEP,
    levels_of,
    packed,
    remove_viewer,
    viewer_page,
    write_viewer,
)
from pipeline.scan import Volume

HOSTILE = "'><script>alert(1)</script>\"&"
HOT = ("left", "precuneus")


@pytest.fixture(scope="module")
def report(scan, context, prediction):
    return build_scan_report(scan, context, prediction)


@pytest.fixture(scope="module")
def one_sided() -> Volume:
    """SUVR 3 in the patient's left half, 1 in the right."""
    array = np.ones(SHAPE, dtype=np.float32)
    array[: SHAPE[0] // 2] = 3
    return Volume(array, AFFINE, "SUVR")


@pytest.fixture(scope="module")
def html(report, suvr) -> str:
    return viewer_page(report, suvr).html()


def _held(html: str) -> dict:
    return json.loads(unescape(re.search(r"data-held='([^']*)'", html)[1]))


def _voxels(html: str, name: str) -> np.ndarray:
    stored = zlib.decompress(base64.b64decode(re.search(rf'data-{name}="([^"]*)"', html)[1]))
    steps = np.frombuffer(stored, dtype=np.uint8)
    return np.cumsum(steps, dtype=np.uint8).reshape(_held(html)["shape"])


def _a_voxel_of(html: str, region: str, side: str) -> tuple[int, ...]:
    held, voxel = _held(html), np.argwhere(load_atlas().mask(region, side))[40]
    at_mm = AFFINE[:3, :3] @ voxel + AFFINE[:3, 3]
    return tuple(((at_mm - held["origin_mm"]) / held["spacing_mm"]).astype(int))


def test_the_volume_is_that_of_the_scan_in_steps_of_two_hundredths():
    rng = np.random.default_rng(5)
    suvr = rng.uniform(-0.5, 5, (3, 4, 5)).astype(np.float32)
    levels = levels_of(suvr)
    assert np.abs(levels * STEP - np.clip(suvr, 0, None)).max() <= STEP / 2 + 1e-6
    assert levels_of(np.array([7.0, np.inf, np.nan])).tolist() == [255, 255, 0]


def test_a_page_of_a_noisy_scan_has_less_than_a_megabyte(report, suvr):
    rng = np.random.default_rng(5)
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)  # 7 mm, as a scanner blurs
    noisy = Volume((suvr.array + 0.15 * noise / noise.std()).astype(np.float32), AFFINE, "SUVR")
    assert len(viewer_page(report, noisy).html()) < 1e6


def test_what_is_packed_can_be_unpacked():
    levels = np.random.default_rng(5).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    steps = np.frombuffer(zlib.decompress(base64.b64decode(packed(levels))), dtype=np.uint8)
    assert np.array_equal(np.cumsum(steps, dtype=np.uint8).reshape(levels.shape), levels)


def test_values_and_regions_lie_where_they_were_measured(html, suvr):
    point = _a_voxel_of(html, *reversed(HOT))
    assert _voxels(html, "suvr")[point] == round(2.5 / STEP)
    assert _held(html)["regions"][_voxels(html, "labels")[point]] == "left precuneus"
    brain = load_atlas().brain
    assert (_voxels(html, "suvr") >= round(1 / STEP)).sum() == brain.sum()  # all of it is within the frame


def test_the_patients_left_has_negative_coordinates(report, one_sided):
    html = viewer_page(report, one_sided).html()
    voxels, held = _voxels(html, "suvr"), _held(html)
    x_mm = held["origin_mm"][0] + held["spacing_mm"] * np.arange(held["shape"][0])
    assert np.all(voxels[x_mm < 0] == round(3 / STEP))
    assert np.all(voxels[x_mm > 0] == round(1 / STEP))


def test_colours_are_those_of_the_report_and_change_at_the_background_limit(html):
    colours = np.array(_held(html)["colours"]).reshape(-1, 3)
    assert np.array_equal(colours, suvr_colours(STEP * np.arange(256.0)))
    grey = np.ptp(colours, axis=1) == 0
    above = STEP * np.arange(256) > BACKGROUND_LIMIT
    assert np.array_equal(grey, ~above)


def test_the_meta_roi_is_one_area_and_regions_are_many(html):
    held = _held(html)
    inside = {name for name, area in zip(held["regions"], held["meta_roi"], strict=True) if area}
    assert {"left entorhinal", "right fusiform"} <= inside
    assert "left precuneus" not in inside
    assert set(held["meta_roi"]) == {0, 1}
    lined = [area for area in held["each"] if area]
    assert len(set(lined)) == len(lined) > 60


def test_the_cross_hair_starts_in_the_hottest_region(html):
    held = _held(html)
    assert held["regions"][_voxels(html, "labels")[tuple(held["start"])]] == "left precuneus"


@pytest.mark.parametrize(
    "words",
    [
        "sub-A7KD2M ses-20310412",
        RESEARCH_USE_ONLY,
        "quality control: passed",
        "Grey up to 1.65, the upper end of background; orange to yellow above.",
        "the patient's right is on the left of axial and coronal pictures",
        "An independent visual read is required.",
        "needs JavaScript, which is off in this browser",
    ],
)
def test_the_page_says(html, words):
    assert words in " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


def test_the_page_has_nothing_of_the_models_answer(html, report):
    for words in (report.headline, "86 %", "rediction set", "Tau status", "robabilit"):
        assert words not in html


def test_a_limit_stands_once_with_its_finding(scan, context, prediction, suvr):
    limit = "warn above 1.18, refuse above 1.26"
    said = Finding("a", "warn", 1.19, limit, f"The ratio is 1.19 (1.08 usually; {limit})")
    bare = Finding("b", "warn", 0.7, "at least 0.85", "The scan covers little of the brain")
    report = build_scan_report(replace(scan, findings=(said, bare)), context, prediction)
    page = viewer_page(report, suvr).html()
    assert [page.count(words) for words in (limit, "Limit: at least 0.85")] == [1, 1]


def test_synthetic_data_and_findings_are_marked(scan, context, prediction, suvr, html):
    finding = Finding("brain-overlap", "warn", 0.7, "at least 0.85", "the scan covers little of the brain")
    marked = replace(scan, facts={"synthetic": True}, findings=(finding,))
    page = viewer_page(build_scan_report(marked, context, prediction), suvr).html()
    for words in (SYNTHETIC, "The scan covers little of the brain.", "at least 0.85", "warning"):
        assert words in page
        assert words not in html


def test_the_policy_admits_only_the_pages_own_script_and_style(html):
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1])
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    for kind, text in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert not re.search(r"\sstyle=|\son[a-z]+=", html)


def test_the_page_names_no_address(html):
    assert not re.search(r"(src|href)=[\"'](?!data:)", html)
    assert "//" not in re.sub(r"[A-Za-z0-9+/=]{60,}", "", html).replace("// ", "")


def test_hostile_words_stay_words(scan, context, prediction, suvr):
    finding = Finding("x", "warn", 0.1, HOSTILE, HOSTILE)
    hostile = replace(scan, subject=HOSTILE, session=HOSTILE, findings=(finding,))
    page = viewer_page(build_scan_report(hostile, context, prediction), suvr).html()
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 4
    assert len(re.findall("<script", page)) == 1


def test_the_script_cannot_close_its_element():
    assert b"</" not in template_bytes("viewer.js")


def test_another_grid_is_refused(report):
    with pytest.raises(InputError, match="a report draws SUVR on the template"):
        viewer_page(report, Volume(np.ones((2, 2, 2), np.float32), AFFINE, "SUVR"))


def test_the_report_links_to_the_viewer_in_its_folder(report, suvr, tmp_path):
    bare = write_scan_report(report, suvr, tmp_path, pdf=False)["html"].read_text()
    assert write_viewer(report, suvr, tmp_path) == tmp_path / "viewer.html"
    linked = write_scan_report(report, suvr, tmp_path, pdf=False)["html"].read_text()
    assert ('href="viewer.html"' in bare, 'href="viewer.html"' in linked) == (False, True)
    assert "<script" not in linked
    remove_viewer(tmp_path)
    remove_viewer(tmp_path)  # where there is none, nothing is to be done
    assert not (tmp_path / "viewer.html").exists()


def test_a_refused_scan_that_was_measured_is_shown_as_refused(scan, context, suvr):
    refused = build_scan_report(scan, context, None, RefusedScan("empty", "No image", hint="send one"))
    assert "quality control: refused" in viewer_page(refused, suvr).html()


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
    held = _held(html)
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
