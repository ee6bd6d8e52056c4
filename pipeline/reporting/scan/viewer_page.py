"""All slices of one scan in the reader's browser: a page beside the report, without the model's answer.

The page holds the volume itself, one byte a voxel, and a script of our own that draws it. No value is read
back from a drawn picture, so what stands at the cross-hair is what was measured, whatever colours show it.
"""

from __future__ import annotations

import base64
import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atlas import AFFINE, META_ROI, META_ROI_DEFINITIONS, SPACING_MM, load_atlas
from pipeline.files import write_text
from pipeline.reporting.page.facts import Facts, Text
from pipeline.reporting.page.html import Page, data_uri
from pipeline.reporting.page.words import title_of
from pipeline.reporting.scan.scan_numbers import FindingRow, Quality, ScanReport
from pipeline.reporting.scan.scan_pictures import BACKGROUND_LIMIT, draw_scale, suvr_colours
from pipeline.reporting.scan.slices import check_grid, hottest_point
from pipeline.scan import Volume

VIEWER_NAME = "viewer.html"
STEP = 0.02
"""SUVR from one stored level to the next: colours change between two of them, at 1.65."""
_LAST = 255
_MARGIN = 4
"""Voxels around the brain, as in the report's pictures."""
_CENTRE_MM = (1.0, -20.0, 4.0)
_GREY_SHARE, _TEMPLATE_STEP = 0.55, 4
"""Brightness of grey matter in the template, where white matter is 1; fewer levels make a smaller page."""
_UNLINED = ("outside", "white_matter", "lateral_ventricle")


class ViewerFacts(Facts):
    """What the viewer states in words; nothing of the model's answer, so that it spoils no blind read."""

    report_date: Text
    run_id: Text
    synthetic: bool
    quality: Quality
    findings: tuple[FindingRow, ...]


def write_viewer(report: ScanReport, suvr: Volume, folder: Path) -> Path:
    """Write ``viewer.html``; return its path.

    Parameters
    ----------
    suvr : Volume
        SUVR on the template grid.

    Raises
    ------
    InputError
        If the volume is not SUVR on the template grid.
    """
    return write_text(folder / VIEWER_NAME, viewer_page(report, suvr).html())


def remove_viewer(folder: Path) -> None:
    """Remove the viewer of an earlier report, which would show another measurement than the new one."""
    (folder / VIEWER_NAME).unlink(missing_ok=True)


def viewer_page(report: ScanReport, suvr: Volume) -> Page:
    """Return the viewer of a scan; see `write_viewer`."""
    check_grid(suvr)
    drawn = {
        "held": _held_facts(report, suvr),
        "suvr": packed(levels_of(suvr.array)[_frame()]),
        "template": _template(),
        "labels": _labels(),
        "scale": data_uri(draw_scale("SUVR")),
        "limit": BACKGROUND_LIMIT,
        "step": STEP,
        "meta_roi": META_ROI,
        "planes": _planes(),
    }
    facts = ViewerFacts(
        report_date=report.report_date,
        run_id=report.run_id,
        synthetic=report.synthetic,
        quality=report.quality,
        findings=tuple(f for f in report.findings if f.verdict != "pass"),
    )
    heading = f"sub-{report.subject} ses-{report.session}"
    return Page("viewer.html.j2", facts, heading, drawn, policy="viewer", script="viewer.js")


def levels_of(suvr: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return SUVR in steps of 0.02; the last level, 255, also stands for all above it."""
    finite = np.nan_to_num(suvr, posinf=STEP * _LAST, neginf=0.0)
    levels: NDArray[np.uint8] = np.clip(np.rint(finite / STEP), 0, _LAST).astype(np.uint8)
    return levels


def packed(levels: NDArray[np.uint8]) -> str:
    """Return voxels, z fastest, as zlib-compressed differences in base64: small, since uptake is smooth.

    Examples
    --------
    >>> steps = zlib.decompress(base64.b64decode(packed(np.array([[3, 4], [2, 2]], dtype=np.uint8))))
    >>> list(steps), np.cumsum(np.frombuffer(steps, np.uint8), dtype=np.uint8).tolist()
    ([3, 1, 254, 0], [3, 4, 2, 2])
    """
    steps = np.diff(levels.ravel(), prepend=np.uint8(0))
    return base64.b64encode(zlib.compress(steps.tobytes(), 6)).decode("ascii")


def _held_facts(report: ScanReport, suvr: Volume) -> dict[str, Any]:
    """Return what the script must know beside the voxels; indices count within the frame."""
    at_mm = _CENTRE_MM
    if report.hottest_region:
        at_mm = hottest_point(suvr.array, report.hottest_region, report.hottest_side)
    origin = _origin_mm()
    return {
        "shape": [s.stop - s.start for s in _frame()],
        "origin_mm": origin,
        "spacing_mm": SPACING_MM,
        "start": [round((at_mm[n] - origin[n]) / SPACING_MM) for n in range(3)],
        "step": STEP,
        "colours": suvr_colours(STEP * np.arange(_LAST + 1, dtype=np.float64)).ravel().tolist(),
        **_region_facts(),
    }


@functools.lru_cache(maxsize=1)
def _frame() -> tuple[slice, slice, slice]:
    """Return the voxels with the brain and 8 mm around it, the same for every scan."""
    brain = load_atlas().brain
    first, last = (
        np.clip(end(np.argwhere(brain), axis=0) + step, 0, np.array(brain.shape) - 1)
        for end, step in ((np.min, -_MARGIN), (np.max, _MARGIN))
    )
    x, y, z = (slice(int(low), int(high) + 1) for low, high in zip(first, last, strict=True))
    return x, y, z


def _origin_mm() -> list[float]:
    return [float(AFFINE[n, n] * s.start + AFFINE[n, 3]) for n, s in enumerate(_frame())]


def _planes() -> list[dict[str, Any]]:
    """Return the three pictures as the template names them, with the ends of their sliders in mm."""
    origin, frame = _origin_mm(), _frame()
    return [
        {
            "name": name,
            "letter": "xyz"[axis],
            "low": origin[axis],
            "high": origin[axis] + SPACING_MM * (frame[axis].stop - frame[axis].start - 1),
            "spacing": SPACING_MM,
            "ends": ends,
        }
        for name, axis, ends in (
            ("axial", 2, "feet to head"),
            ("coronal", 1, "back to front"),
            ("sagittal", 0, "left to right"),
        )
    ]


@functools.lru_cache(maxsize=1)
def _region_facts() -> dict[str, Any]:
    """Return, for each label of the atlas, what it is called, and its areas that a line may run around.

    An area is a number, 0 for none: all regions of the meta-ROI are one area.
    """
    regions, each, meta_roi = [], [], []
    for label, name in enumerate(load_atlas().names):
        side, _, region = name.partition("_") if name.startswith(("left_", "right_")) else ("", "", name)
        regions.append("" if label == 0 else f"{side} {title_of(region).lower()}".strip())
        each.append(0 if region in _UNLINED else label)
        meta_roi.append(int(region in META_ROI_DEFINITIONS[META_ROI]))
    return {"regions": regions, "each": each, "meta_roi": meta_roi}


@functools.lru_cache(maxsize=1)
def _template() -> str:
    atlas = load_atlas()
    bright = np.clip(_GREY_SHARE * atlas.grey + atlas.white, 0, 1)
    steps = np.rint(_LAST / _TEMPLATE_STEP * bright).astype(np.uint8)
    return packed(np.minimum(steps, _LAST // _TEMPLATE_STEP)[_frame()] * np.uint8(_TEMPLATE_STEP))


@functools.lru_cache(maxsize=1)
def _labels() -> str:
    return packed(load_atlas().labels.astype(np.uint8)[_frame()])
