"""From a PET volume to SUVR in template space, with quality findings."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.atlas import AFFINE, META_ROI, REFERENCE, SHAPE, SPACE, load_atlas
from pipeline.config import ImagingSettings
from pipeline.errors import RefusedScan
from pipeline.imaging.derivative import Normalised, read_derivative, write_derivative
from pipeline.imaging.frames import Realigned, Window, choose_window, realign
from pipeline.imaging.head import FINE, Mask
from pipeline.imaging.measures import assess
from pipeline.imaging.missing import doubtful_values, locate, one_valued
from pipeline.imaging.partial_volume import unblur
from pipeline.imaging.quality import Finding, judge, note, refuse_if_needed
from pipeline.imaging.registration import Registration, register, stay, warped
from pipeline.imaging.space import (
    Matrix,
    field_of_view,
    shows_body,
    smooth_on_template,
    smoothing_sigma_mm,
    to_template,
    upper_end,
    without_erased_planes,
)
from pipeline.imaging.suvr import composites, keep_brain, regional_table, to_suvr
from pipeline.scan import Fact, FloatArray, Volume

__all__ = ["Normalised", "claims_template", "normalise", "read_derivative", "write_derivative"]

REVISION = 7
"""Raised whenever a change of code changes what a scan becomes: what was made before no longer holds."""
_SMALLEST_MM = 10.0
_LARGEST_ML = 2.0e6
"""A scanner for the whole body sees 0.7 x 0.7 x 2 m; working grids of 4 mm then take 0.13 GB each."""
_SAME_PLACE_MM = 3.0
_FARTHEST_MM = 16.0
"""Real brains lie within 12 mm of their affine."""
_LEAST_GAIN = 0.015
"""Share of the variance that a warp must explain beyond the affine; noise alone gives it .010."""
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


def normalise(volume: Volume, settings: ImagingSettings) -> Normalised:
    """Bring a PET scan of a head to SUVR in template space, or refuse it with a reason.

    Frames of the window are realigned, the template is registered and warped to their average, every frame
    is interpolated once, and the average is smoothed to the common resolution and divided by the mean of
    inferior cerebellar grey matter. A scan on the template grid already is not registered again, and one
    that is smooth enough is not smoothed again.

    Parameters
    ----------
    volume : Volume
        3D or 4D with frame times; `facts` may hold ``scan_after_injection_s`` and ``resolution_mm``.

    Raises
    ------
    RefusedScan
        With the rule that was broken.
    """
    # Sums that several threads share end in other digits than those of one: a scan has one SUVR.
    with threadpool_limits(limits=1, user_api="blas"):
        return _normalise(volume, settings)


def _normalise(volume: Volume, settings: ImagingSettings) -> Normalised:
    _check_field_of_view(volume)
    measured, invalid = _finite(volume)
    volume = without_erased_planes(upper_end(measured))
    window = choose_window(volume, settings)
    findings = [*_window_findings(window), *_body_findings(measured)]
    frames = realign(volume, window)
    findings.append(judge("frame-motion", frames.motion_mm))
    native_mm, resolution_finding = _resolution(volume)
    findings += [resolution_finding, _stored_finding(volume)]
    registration, how = _locate(frames.average, native_mm, claimed=claims_template(volume))
    matrices = [m @ registration.matrix for m in frames.matrices]
    # Before all that may be wrong because of it.
    findings.insert(0, _invalid_finding(invalid, measured, window, matrices))
    findings += [*how, _side_finding(volume)]
    refuse_if_needed(findings)
    if settings.registration == "warp" and not np.isnan(registration.turned_gain):
        registration, finding = _warp(frames.average, native_mm, registration)
        findings.append(finding)
    shift = None if registration.warp is None else registration.warp.displacement_mm()
    image = to_template(frames.arrays, window.weights, matrices, volume.affine, shift)
    sigma = smoothing_sigma_mm(native_mm, settings.resolution_mm)
    smooth = smooth_on_template(image, sigma, registration.matrix, volume.spacing_mm) if sigma > 0 else image
    findings += [*_unit_findings(volume, smooth), _suv_finding(volume, smooth)]
    suvr = to_suvr(smooth)
    inside = field_of_view(volume.array.shape[:3], volume.affine, registration.matrix, shift)
    findings += assess(image, suvr, inside, registration)
    # Without the warp, which shrinks a hole that it takes for fluid.
    same = locate([one_valued(array) for array in frames.arrays], matrices, volume.affine)
    findings.append(judge("constant-voxels", same.worst, str(same) if same.worst else ""))
    refuse_if_needed(findings)
    brain = keep_brain(suvr)
    blur_mm = max(native_mm, settings.resolution_mm)
    return Normalised(
        Volume(brain, AFFINE, "SUVR", facts=_facts(volume, window, frames, blur_mm)),
        regional_table(brain),
        composites(brain),
        tuple(findings),
        registration,
        unblur(suvr, max(native_mm, settings.resolution_mm), registration.scales)
        if settings.partial_volume
        else None,
    )


def _check_field_of_view(volume: Volume) -> None:
    """Refuse an image of another size than a body's, whose working grids would fill the memory."""
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


def _finite(volume: Volume) -> tuple[Volume, Mask | None]:
    """Return the volume with zeros for what is no number, and where that was; judged once it is located."""
    bad = ~np.isfinite(volume.array)
    lost = bool(bad.any())
    if lost:
        volume = volume.with_array(np.where(bad, np.float32(0), volume.array))
    if not volume.array.max() > volume.array.min():
        raise RefusedScan(
            "not-a-brain", "All voxels of the scan have the same value", hint="export the series again"
        )
    return volume, bad if lost else None


def _invalid_finding(bad: Mask | None, volume: Volume, window: Window, matrices: list[Matrix]) -> Finding:
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


def _window_findings(window: Window) -> list[Finding]:
    if window.overlap is None:
        return [note("window", "warn", "The time after injection is unknown: all frames were averaged")]
    span = f"{window.start_min:.1f}-{window.end_min:.1f} min after injection"
    if window.overlap < 0.5:
        message = f"Only {window.overlap:.0%} of the averaged time ({span}) lies in the window that is set"
        return [note("window", "warn", message, window.overlap)]
    count = len(window.frames)
    averaged = f"Averaged {count} frames" if count > 1 else "1 frame"
    return [note("window", "pass", f"{averaged}, {span}", window.overlap)]


def _body_findings(volume: Volume) -> list[Finding]:
    message = "The scan shows more than the head: its upper end alone was taken"
    return [note("body", "pass", message)] if shows_body(volume) else []


def _side_finding(volume: Volume) -> Finding:
    """Report the source of left and right: the two sides of a brain are too similar in PET to show it."""
    doubt = volume.facts.get("geometry_note")
    if doubt:
        return note("left-right", "warn", f"Left and right are uncertain because of the header ({doubt})")
    return note(
        "left-right", "pass", "Left and right are taken from the header; the image cannot confirm them"
    )


def _stored_finding(volume: Volume) -> Finding:
    doubts = "; ".join(doubtful_values(volume.array, volume.facts.get("values_note")))
    if doubts:
        return note("stored-values", "warn", doubts[0].upper() + doubts[1:])
    return note("stored-values", "pass", "No value looks cut off or overflown")


def _resolution(volume: Volume) -> tuple[float, Finding]:
    stated = volume.facts.get("resolution_mm")
    if isinstance(stated, int | float) and stated > 0:
        return float(stated), note("resolution", "pass", f"Native resolution {stated:g} mm", float(stated))
    # Most headers do not state it: an assumption to print, no reason to refer a scan.
    message = f"The resolution is unknown; {ASSUMED_RESOLUTION_MM:g} mm was assumed"
    return ASSUMED_RESOLUTION_MM, note("resolution", "pass", message, ASSUMED_RESOLUTION_MM)


def _locate(average: Volume, native_mm: float, *, claimed: bool) -> tuple[Registration, list[Finding]]:
    if claimed:
        registration, off_mm = stay(average, native_mm)
        if off_mm <= _SAME_PLACE_MM:
            message = f"In template space already ({off_mm:.1f} mm from the best fit): not registered again"
            return registration, [note("already-in-template", "pass", message, off_mm)]
        message = f"Stated to be in template space, but {off_mm:.1f} mm off: registered"
        findings = [note("already-in-template", "warn", message, off_mm)]
    else:
        findings = []
    registration = register(average, native_mm)
    return registration, [
        *findings,
        judge("upside-down", registration.turned_gain),
        judge("not-a-brain", registration.mutual_information),
        judge("registration-failed", registration.explained),
    ]


def _warp(average: Volume, native_mm: float, affine: Registration) -> tuple[Registration, Finding]:
    """Warp the template onto the scan, or leave the affine where that explains no more of it."""
    found = warped(average, native_mm, affine)
    assert found.warp is not None
    gain = found.warp.explained - affine.explained
    moved = np.linalg.norm(found.warp.displacement_mm(FINE.factor), axis=0)[
        FINE.bring(load_atlas().brain) > 0.5
    ]
    least = float(found.warp.volume_ratios().min())
    extent = f"{moved.mean():.1f} mm on average, {moved.max():.1f} mm at most, volumes x {least:.2f} at least"
    if gain < _LEAST_GAIN:
        message = f"A warp of {extent} explains {gain:+.1%} more of the scan: the affine is used"
        return affine, note("warp", "pass", message, gain)
    if not (least > 0 and moved.max() <= _FARTHEST_MM):
        message = f"A warp of {extent} is implausible: the affine is used; look for a lesion or a hole"
        return affine, note("warp", "warn", message, float(moved.max()))
    return found, note("warp", "pass", f"Warped by {extent}; explains {gain:+.1%} more of the scan", gain)


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


def _unit_findings(volume: Volume, image: FloatArray) -> list[Finding]:
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


def _suv_finding(volume: Volume, image: FloatArray) -> Finding:
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


def _facts(volume: Volume, window: Window, frames: Realigned, resolution_mm: float) -> dict[str, Fact]:
    return dict(volume.facts) | {
        "space": SPACE,
        "reference_region": REFERENCE,
        "meta_roi_definition": META_ROI,
        "resolution_mm": resolution_mm,
        "window_start_min": window.start_min,
        "window_end_min": window.end_min,
        "frames_averaged": len(window.frames),
        "motion_mm": frames.motion_mm,
        "source_unit": volume.unit,
    }
