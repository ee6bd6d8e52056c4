"""What the viewer of a scan holds."""

import base64
import hashlib
import re
import zlib
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from page_viewer import held_by
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.errors import InputError, RefusedScan
from pipeline.imaging.quality import Finding
from pipeline.reporting.page.facts import RESEARCH_USE_ONLY, SYNTHETIC
from pipeline.reporting.page.html import template_bytes
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
def html(report, suvr) -> str:
    return viewer_page(report, suvr).html()


def _voxels(html: str, name: str) -> np.ndarray:
    stored = zlib.decompress(base64.b64decode(re.search(rf'data-{name}="([^"]*)"', html)[1]))
    steps = np.frombuffer(stored, dtype=np.uint8)
    return np.cumsum(steps, dtype=np.uint8).reshape(held_by(html)["shape"])


def _a_voxel_of(html: str, region: str, side: str) -> tuple[int, ...]:
    held, voxel = held_by(html), np.argwhere(load_atlas().mask(region, side))[40]
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
    assert held_by(html)["regions"][_voxels(html, "labels")[point]] == "left precuneus"
    brain = load_atlas().brain
    assert (_voxels(html, "suvr") >= round(1 / STEP)).sum() == brain.sum()  # all of it is within the frame


def test_the_patients_left_has_negative_coordinates(report, one_sided):
    html = viewer_page(report, one_sided).html()
    voxels, held = _voxels(html, "suvr"), held_by(html)
    x_mm = held["origin_mm"][0] + held["spacing_mm"] * np.arange(held["shape"][0])
    assert np.all(voxels[x_mm < 0] == round(3 / STEP))
    assert np.all(voxels[x_mm > 0] == round(1 / STEP))


def test_colours_are_those_of_the_report_and_change_at_the_background_limit(html):
    colours = np.array(held_by(html)["colours"]).reshape(-1, 3)
    assert np.array_equal(colours, suvr_colours(STEP * np.arange(256.0)))
    grey = np.ptp(colours, axis=1) == 0
    above = STEP * np.arange(256) > BACKGROUND_LIMIT
    assert np.array_equal(grey, ~above)


def test_the_meta_roi_is_one_area_and_regions_are_many(html):
    held = held_by(html)
    inside = {name for name, area in zip(held["regions"], held["meta_roi"], strict=True) if area}
    assert {"left entorhinal", "right fusiform"} <= inside
    assert "left precuneus" not in inside
    assert set(held["meta_roi"]) == {0, 1}
    lined = [area for area in held["each"] if area]
    assert len(set(lined)) == len(lined) > 60


def test_the_cross_hair_starts_in_the_hottest_region(html):
    held = held_by(html)
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
