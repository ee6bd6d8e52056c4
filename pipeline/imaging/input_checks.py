"""What a scan states and holds, judged as findings: grid, window, units, resolution, values that are none."""

from __future__ import annotations

import numpy as np

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.errors import RefusedScan
from pipeline.imaging.frames import Window
from pipeline.imaging.head import Mask
from pipeline.imaging.missing import doubtful_values, locate
from pipeline.imaging.quality import Finding, judge, note
from pipeline.imaging.space import Matrix, shows_body
from pipeline.scan import FloatArray, Volume

_SMALLEST_MM = 10.0
_LARGEST_ML = 2.0e6
"""A scanner for the whole body sees 0.7 x 0.7 x 2 m; working grids of 4 mm then take 0.13 GB each."""
_SUV_RANGE = 8.0
"""Cerebellar SUV lies near 1 (FDG: near 5); a wrong unit is off by a thousand, a wrong time by hours."""
_MNI_GRIDS = {
    (91, 109, 91): (90, 126, 72),
    (182, 218, 182): (90, 126, 72),
    (181, 217, 181): (90, 126, 72),
    (79, 95, 79): (78, 112, 70),
    (79, 95, 68): (78, 112, 50),
    (157, 189, 156): (78, 112, 70),
    (121, 145, 121): (90, 126, 72),
    (193, 229, 193): (96, 132, 78),
    (197, 233, 189): (98, 134, 72),
}
"""Shape and distance (mm) of the first voxel from the origin of the grids MNI images come on."""
ASSUMED_RESOLUTION_MM = 6.0
"""Of scans that do not state theirs: ADNI's cameras lie between 5 and 8 mm."""


def check_field_of_view(volume: Volume) -> None:
    """Refuse an image of another size than a body's, whose working grids would fill the memory.

    Raises
    ------
    RefusedScan
        By the rule ``implausible-geometry``.
    """
    size = tuple(s * n for s, n in zip(volume.spacing_mm, volume.array.shape, strict=False))
    if min(size) >= _SMALLEST_MM and np.prod(size) <= _LARGEST_ML * 1000.0:
        return
    seen = " x ".join(f"{mm:.4g}" for mm in size)
    raise RefusedScan(
        "implausible-geometry",
        f"The field of view is {seen} mm, which no PET scanner has",
        hint="correct the voxel spacing in the header; its unit is mm",
        measured=f"{seen} mm",
    )


def with_finite_values(volume: Volume) -> tuple[Volume, Mask | None]:
    """Return the volume with zeros for what is no number, and where that was, None for nowhere.

    It is judged once the scan is located: see `invalid_finding`.

    Raises
    ------
    RefusedScan
        If all voxels have the same value.
    """
    bad = ~np.isfinite(volume.array)
    lost = bool(bad.any())
    if lost:
        volume = volume.with_array(np.where(bad, np.float32(0), volume.array))
    if not volume.array.max() > volume.array.min():
        raise RefusedScan(
            "not-a-brain", "All voxels of the scan have the same value", hint="export the series again"
        )
    return volume, bad if lost else None


def invalid_finding(bad: Mask | None, volume: Volume, window: Window, matrices: list[Matrix]) -> Finding:
    """Judge where `volume`, which is the whole of what was read, holds no number."""
    if bad is None:
        return judge("invalid-voxels", 0.0)
    frames = [bad[..., k] for k in window.frames] if bad.ndim == 4 else [bad]
    found = locate(frames, matrices, volume.affine)
    finding = judge("invalid-voxels", found.worst, str(found))
    if found.worst == 0 and volume.facts.get("padded_voxels") == int(bad.sum()):
        message = (
            f"{found.voxels} voxels hold no measurement (Pixel Padding Value), none of them in the brain"
        )
        return note("invalid-voxels", "pass", message)
    if finding.verdict == "pass" and found.voxels:
        message = f"Some voxels are NaN or infinite and count as 0: {found}"
        return note("invalid-voxels", "warn", message, found.worst)
    return finding


def window_findings(window: Window) -> list[Finding]:
    """Report which frames were averaged, and whether their time after injection is that of the setting."""
    if window.overlap is None:
        return [note("window", "warn", "The time after injection is unknown: all frames were averaged")]
    span = f"{window.start_min:.1f}-{window.end_min:.1f} min after injection"
    if window.overlap < 0.5:
        message = f"Only {window.overlap:.0%} of the averaged time ({span}) lies in the window that is set"
        return [note("window", "warn", message, window.overlap)]
    count = len(window.frames)
    averaged = f"Averaged {count} frames" if count > 1 else "1 frame"
    return [note("window", "pass", f"{averaged}, {span}", window.overlap)]


def body_findings(volume: Volume) -> list[Finding]:
    """Report that a scan shows more than the head."""
    message = "The scan shows more than the head: its upper end alone was taken"
    return [note("body", "pass", message)] if shows_body(volume) else []


def side_finding(volume: Volume) -> Finding:
    """Report the source of left and right: the two sides of a brain are too similar in PET to show it."""
    doubt = volume.facts.get("geometry_note")
    if doubt:
        return note("left-right", "warn", f"Left and right are uncertain because of the header ({doubt})")
    return note(
        "left-right", "pass", "Left and right are taken from the header; the image cannot confirm them"
    )


def stored_finding(volume: Volume) -> Finding:
    """Report values that the storage has cut off or wrapped around."""
    doubts = "; ".join(doubtful_values(volume.array, volume.facts.get("values_note")))
    if doubts:
        return note("stored-values", "warn", doubts[0].upper() + doubts[1:])
    return note("stored-values", "pass", "No value looks cut off or overflown")


def native_resolution(volume: Volume) -> tuple[float, Finding]:
    """Return the resolution of the camera in mm, as stated or assumed, and which of the two it is."""
    stated = volume.facts.get("resolution_mm")
    if isinstance(stated, int | float) and stated > 0:
        return float(stated), note("resolution", "pass", f"Native resolution {stated:g} mm", float(stated))
    # Most headers do not state it: an assumption to print, no reason to refer a scan.
    message = f"The resolution is unknown; {ASSUMED_RESOLUTION_MM:g} mm was assumed"
    return ASSUMED_RESOLUTION_MM, note("resolution", "pass", message, ASSUMED_RESOLUTION_MM)


def claims_template(volume: Volume) -> bool:
    """Whether a volume lies on the template's grid or another one of MNI space, or its source states so."""
    stated = str(volume.facts.get("space") or "")
    shape = volume.array.shape[:3]
    if stated.startswith("MNI") or (shape == SHAPE and np.allclose(volume.affine, AFFINE, atol=1e-3)):
        return True
    return any(
        shape == size and np.allclose(np.abs(volume.affine[:3, 3]), corner, atol=1.0)
        for size, corner in _MNI_GRIDS.items()
    )


def unit_findings(volume: Volume, image: FloatArray) -> list[Finding]:
    """Report whether a scan was a ratio already; dividing again by our own reference does no harm."""
    mean = float(image[load_atlas().reference].mean())
    if volume.unit == "SUVR" and not 0.85 <= mean <= 1.15:
        message = f"SUVR image with {mean:.2f} in the reference region: rescaled to inferior cerebellar grey"
        return [note("already-suvr", "warn", message, mean)]
    if volume.unit == "SUVR":
        return [note("already-suvr", "pass", "The image was SUVR already", mean)]
    if volume.unit in ("Bq/mL", "counts") and 0.7 <= mean <= 1.4:
        message = f"The unit is {volume.unit}, but the values look like SUVR"
        return [note("already-suvr", "warn", message, mean)]
    return []


def suv_finding(volume: Volume, image: FloatArray) -> Finding:
    """Check that the unit agrees with weight, dose and times; SUVR does not need it, so it never refuses."""
    factor = 1.0 if volume.unit == "SUV" else volume.facts.get("suv_factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        return note("suv", "pass", "The unit could not be checked by SUV: weight, dose or a time is missing")
    suv = float(image[load_atlas().reference].mean()) * float(factor)
    message = f"SUV of the reference region: {suv:.3g}"
    if 1 / _SUV_RANGE <= suv <= _SUV_RANGE:
        return note("suv", "pass", message, suv)
    doubt = f"{message} (expected {1 / _SUV_RANGE:g}-{_SUV_RANGE:g}): check unit, weight, dose and times"
    return note("suv", "warn", doubt, suv)
