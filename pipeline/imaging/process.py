"""From a PET volume to SUVR in template space, with quality findings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.atlas import AFFINE, META_ROI, REFERENCE, SPACE, load_atlas
from pipeline.config import ImagingSettings
from pipeline.imaging.derivative import Normalised, read_derivative, write_derivative
from pipeline.imaging.frames import Realigned, Window, choose_window, realign
from pipeline.imaging.head import FINE
from pipeline.imaging.input_checks import (
    body_findings,
    check_field_of_view,
    claims_template,
    invalid_finding,
    native_resolution,
    side_finding,
    stored_finding,
    suv_finding,
    unit_findings,
    window_findings,
    with_finite_values,
)
from pipeline.imaging.measures import assess
from pipeline.imaging.missing import locate, one_valued
from pipeline.imaging.partial_volume import unblur
from pipeline.imaging.quality import Finding, judge, note, refuse_if_needed
from pipeline.imaging.registration import Registration, register, stay, warped
from pipeline.imaging.space import (
    Matrix,
    field_of_view,
    smooth_on_template,
    smoothing_sigma_mm,
    to_template,
    upper_end,
    without_erased_planes,
)
from pipeline.imaging.suvr import composites, keep_brain, regional_table, to_suvr
from pipeline.scan import Fact, FloatArray, Volume

__all__ = ["Normalised", "normalise", "read_derivative", "write_derivative"]

REVISION = 8
"""Raised whenever a change of code changes what a scan becomes: what was made before no longer holds."""
_SAME_PLACE_MM = 3.0
_FARTHEST_MM = 16.0
"""Real brains lie within 12 mm of their affine."""
_LEAST_GAIN = 0.015
"""Share of the variance that a warp must explain beyond the affine; noise alone gives it .010."""


@dataclass(frozen=True, eq=False)
class _Placed:
    """The frames of a scan and where the template lies in them.

    Parameters
    ----------
    volume : Volume
        The head: without what is below it, and without erased planes.
    matrices : list of ndarray, shape (4, 4)
        From the template to each frame of the window, mm.
    """

    volume: Volume
    window: Window
    frames: Realigned
    native_mm: float
    registration: Registration
    matrices: list[Matrix]
    findings: tuple[Finding, ...]


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
    scan = _placed(volume, settings)
    suvr, findings = _ratios(scan, settings)
    findings = [*scan.findings, *findings]
    refuse_if_needed(findings)
    brain = keep_brain(suvr)
    blur_mm = max(scan.native_mm, settings.resolution_mm)
    return Normalised(
        Volume(brain, AFFINE, "SUVR", facts=_facts(scan, blur_mm)),
        regional_table(brain),
        composites(brain),
        tuple(findings),
        scan.registration,
        unblur(suvr, blur_mm, scan.registration.scales) if settings.partial_volume else None,
    )


def _placed(volume: Volume, settings: ImagingSettings) -> _Placed:
    """Choose and realign the frames, and find the template in them; refuse what no SUVR can come from."""
    check_field_of_view(volume)
    measured, invalid = with_finite_values(volume)
    volume = without_erased_planes(upper_end(measured))
    window = choose_window(volume, settings)
    findings = [*window_findings(window), *body_findings(measured)]
    frames = realign(volume, window)
    findings.append(judge("frame-motion", frames.motion_mm))
    native_mm, resolution_finding = native_resolution(volume)
    findings += [resolution_finding, stored_finding(volume)]
    registration, how = _locate(frames.average, native_mm, claimed=claims_template(volume))
    matrices = [m @ registration.matrix for m in frames.matrices]
    # Before all that may be wrong because of it.
    findings.insert(0, invalid_finding(invalid, measured, window, matrices))
    findings += [*how, side_finding(volume)]
    refuse_if_needed(findings)
    if settings.registration == "warp" and not np.isnan(registration.turned_gain):
        registration, finding = _warp(frames.average, native_mm, registration)
        findings.append(finding)
    return _Placed(volume, window, frames, native_mm, registration, matrices, tuple(findings))


def _ratios(scan: _Placed, settings: ImagingSettings) -> tuple[FloatArray, list[Finding]]:
    """Return SUVR on the template grid, of the head as a whole, and what quality control finds of it."""
    volume, registration = scan.volume, scan.registration
    shift = None if registration.warp is None else registration.warp.displacement_mm()
    image = to_template(scan.frames.arrays, scan.window.weights, scan.matrices, volume.affine, shift)
    sigma = smoothing_sigma_mm(scan.native_mm, settings.resolution_mm)
    smooth = smooth_on_template(image, sigma, registration.matrix, volume.spacing_mm) if sigma > 0 else image
    suvr = to_suvr(smooth)
    inside = field_of_view(volume.array.shape[:3], volume.affine, registration.matrix, shift)
    # Without the warp, which shrinks a hole that it takes for fluid.
    same = locate([one_valued(array) for array in scan.frames.arrays], scan.matrices, volume.affine)
    return suvr, [
        *unit_findings(volume, smooth),
        suv_finding(volume, smooth),
        *assess(image, suvr, inside, registration),
        judge("constant-voxels", same.worst, str(same) if same.worst else ""),
    ]


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


def _facts(scan: _Placed, resolution_mm: float) -> dict[str, Fact]:
    return dict(scan.volume.facts) | {
        "space": SPACE,
        "reference_region": REFERENCE,
        "meta_roi_definition": META_ROI,
        "resolution_mm": resolution_mm,
        "window_start_min": scan.window.start_min,
        "window_end_min": scan.window.end_min,
        "frames_averaged": len(scan.window.frames),
        "motion_mm": scan.frames.motion_mm,
        "source_unit": scan.volume.unit,
    }
