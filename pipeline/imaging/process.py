"""One scan's way from a PET volume to SUVR in template space, judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from pipeline.atlas import AFFINE, META_ROI, REFERENCE, SHAPE, SPACE, load_atlas
from pipeline.config import ImagingSettings
from pipeline.errors import InputError, RefusedScan
from pipeline.files import read_json, write_json, written_whole
from pipeline.imaging import measures
from pipeline.imaging.frames import Realigned, Window, choose_window, realign
from pipeline.imaging.head import Mask
from pipeline.imaging.quality import Finding, judge, note, refuse_if_needed
from pipeline.imaging.registration import Registration, register, stay
from pipeline.imaging.space import field_of_view, smooth_on_template, smoothing_sigma_mm, to_template
from pipeline.imaging.suvr import COLUMNS, composites, keep_brain, regional_table, to_suvr
from pipeline.scan import Fact, FloatArray, Volume

_NOTHING = 0.1
"""SUVR below which a brain voxel holds no data: fluid has about .65."""
_SAME_PLACE_MM = 4.0
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
"""Of scans that do not tell theirs: ADNI's cameras lie between 5 and 8 mm."""


@dataclass(frozen=True, eq=False)
class Normalised:
    """A scan in template space.

    Parameters
    ----------
    suvr : Volume
        Unit ``"SUVR"`` on the template grid, zero beyond 6 mm from the brain.
    regions : DataFrame
        See `pipeline.imaging.suvr.regional_table`.
    composites : dict of str to float
        See `pipeline.imaging.suvr.composites`.
    findings : tuple of Finding
        Every rule that was checked, and every assumption that was made.
    registration : Registration
    """

    suvr: Volume
    regions: pd.DataFrame
    composites: dict[str, float]
    findings: tuple[Finding, ...]
    registration: Registration

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages of the findings that warn."""
        return tuple(f.message for f in self.findings if f.verdict == "warn")


def normalise(volume: Volume, settings: ImagingSettings) -> Normalised:
    """Bring a PET scan of a head to SUVR in template space, or refuse it with a reason.

    Frames of the window are realigned, the template is registered to their average, every frame is
    interpolated once, and the average is smoothed to the common resolution and divided by the mean of
    inferior cerebellar grey matter. A scan on the template grid already is not registered again, and one
    that is smooth enough is not smoothed again.

    Parameters
    ----------
    volume : Volume
        3D or 4D with frame times; `facts` may hold ``scan_after_injection_s`` and ``resolution_mm``.
    settings : ImagingSettings

    Raises
    ------
    RefusedScan
        With the rule that was broken.
    """
    volume, invalid = _finite(volume)
    findings = [judge("invalid-voxels", invalid)]
    window = choose_window(volume, settings)
    findings += _window_findings(window)
    frames = realign(volume, window)
    findings.append(judge("frame-motion", frames.motion_mm))
    native_mm, resolution_finding = _resolution(volume)
    findings.append(resolution_finding)
    registration, how = _locate(frames.average, native_mm, claimed=claims_template(volume))
    findings += how
    image = to_template(
        frames.arrays, window.weights, [m @ registration.matrix for m in frames.matrices], volume.affine
    )
    sigma = smoothing_sigma_mm(native_mm, settings.resolution_mm)
    smooth = smooth_on_template(image, sigma, registration.matrix, volume.spacing_mm) if sigma > 0 else image
    findings += _unit_findings(volume, smooth)
    suvr = to_suvr(smooth)
    inside = field_of_view(volume.array.shape[:3], volume.affine, registration.matrix)
    findings += _assess(image, suvr, inside, registration)
    refuse_if_needed(findings)
    brain = keep_brain(suvr)
    facts = _facts(volume, window, frames, max(native_mm, settings.resolution_mm))
    return Normalised(
        Volume(brain, AFFINE, "SUVR", facts=facts),
        regional_table(brain),
        composites(brain),
        tuple(findings),
        registration,
    )


def _finite(volume: Volume) -> tuple[Volume, float]:
    bad = ~np.isfinite(volume.array)
    share = float(bad.mean())
    if share:
        volume = volume.with_array(np.where(bad, np.float32(0), volume.array))
    if not volume.array.max() > volume.array.min():
        raise RefusedScan("not-a-brain", "A scan must show something, got one value everywhere")
    return volume, share


def _window_findings(window: Window) -> list[Finding]:
    if window.overlap is None:
        return [note("window", "warn", "The time after injection is unknown: all frames were averaged")]
    told = f"{window.start_min:.1f}-{window.end_min:.1f} min after injection"
    if window.overlap < 0.5:
        message = f"Only {window.overlap:.0%} of the averaged time ({told}) lies in the window asked for"
        return [note("window", "warn", message, window.overlap)]
    return [note("window", "pass", f"Averaged {len(window.frames)} frames, {told}", window.overlap)]


def _resolution(volume: Volume) -> tuple[float, Finding]:
    told = volume.facts.get("resolution_mm")
    if isinstance(told, int | float) and told > 0:
        return float(told), note("resolution", "pass", f"Native resolution {told:g} mm", float(told))
    # Most headers do not tell it: an assumption to print, no reason to refer a scan.
    message = f"The resolution is unknown: {ASSUMED_RESOLUTION_MM:g} mm was assumed"
    return ASSUMED_RESOLUTION_MM, note("resolution", "pass", message, ASSUMED_RESOLUTION_MM)


def _locate(average: Volume, native_mm: float, *, claimed: bool) -> tuple[Registration, list[Finding]]:
    if claimed:
        registration, off_mm = stay(average, native_mm)
        if off_mm <= _SAME_PLACE_MM:
            message = f"In template space already ({off_mm:.1f} mm from the best fit): not registered again"
            return registration, [note("already-in-template", "pass", message, off_mm)]
        message = f"Said to be in template space, but {off_mm:.1f} mm off: registered"
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


def claims_template(volume: Volume) -> bool:
    """Whether a volume lies on the template's grid or another one of MNI space, or its source says so."""
    said = str(volume.facts.get("space") or "")
    shape = volume.array.shape[:3]
    if said.startswith("MNI") or (shape == SHAPE and np.allclose(volume.affine, AFFINE, atol=1e-3)):
        return True
    return any(
        shape == size and np.allclose(np.abs(volume.affine[:3, 3]), corner, atol=1.0)
        for size, corner in _MNI_GRIDS.items()
    )


def _unit_findings(volume: Volume, image: FloatArray) -> list[Finding]:
    """Tell whether a scan was a ratio already; dividing again by our own reference harms none."""
    mean = float(image[load_atlas().reference].mean())
    if volume.unit == "SUVR" and not 0.85 <= mean <= 1.15:
        message = f"An SUVR image whose reference region has {mean:.2f}: rescaled to inferior cerebellar grey"
        return [note("already-suvr", "warn", message, mean)]
    if volume.unit == "SUVR":
        return [note("already-suvr", "pass", "An SUVR image already", mean)]
    if volume.unit in ("Bq/mL", "counts") and 0.7 <= mean <= 1.4:
        message = f"Given as {volume.unit}, but its values look like SUVR"
        return [note("already-suvr", "warn", message, mean)]
    return []


def _assess(image: FloatArray, suvr: FloatArray, inside: Mask, registration: Registration) -> list[Finding]:
    atlas = load_atlas()
    inside = inside & (suvr > _NOTHING)
    cortex = float(np.median(suvr[measures.cortex()]))
    negative = float((image[atlas.brain & inside] < 0).mean()) if (atlas.brain & inside).any() else 1.0
    values = {
        "brain-coverage": measures.coverage(inside, atlas.brain),
        "reference-coverage": measures.coverage(inside, atlas.reference),
        "implausible-size": measures.size_ratio(registration),
        "implausible-shear": registration.shear,
        "head-turned": registration.rotation_deg,
        "brain-overlap": measures.brain_overlap(suvr),
        "reference-uniformity": measures.coefficient_of_variation(suvr, atlas.reference),
        "negative-voxels": negative,
        "noise": measures.noise(image),
        "implausible-suvr": max(cortex, 1 / cortex) if cortex > 0 else float("nan"),
    }
    return [judge(rule, value) for rule, value in values.items()]


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


def _paths(folder: Path, stem: str) -> tuple[Path, Path, Path]:
    name = f"{stem}_space-{SPACE}_desc-suvr_pet"
    return folder / f"{name}.nii.gz", folder / f"{name}.json", folder / f"{stem}_desc-regions_pet.tsv"


def write_derivative(normalised: Normalised, folder: Path, stem: str) -> Path:
    """Write SUVR, its sidecar and the regional table beside each other; return the path of the image.

    The image is written last: where it stands, all stand, and each file is whole.

    Parameters
    ----------
    normalised : Normalised
    folder : Path
    stem : str
        BIDS entities before the space, as in ``"sub-01_ses-01_trc-18FAV1451"``.
    """
    image_path, sidecar_path, table_path = _paths(folder, stem)
    image_path.unlink(missing_ok=True)
    with written_whole(table_path) as beside:
        normalised.regions.to_csv(beside, sep="\t", index=False, na_rep="n/a", float_format="%.6f")
    write_json(sidecar_path, _sidecar(normalised))
    header = nib.Nifti1Image(normalised.suvr.array, normalised.suvr.affine)
    header.set_sform(normalised.suvr.affine, code="mni")
    header.set_qform(normalised.suvr.affine, code="mni")
    header.header.set_xyzt_units("mm")
    with written_whole(image_path) as beside:
        nib.save(header, beside)
    return image_path


def _sidecar(normalised: Normalised) -> dict[str, Any]:
    found = normalised.registration
    return {
        "Units": "arbitrary",
        "Space": SPACE,
        "ReferenceRegion": REFERENCE,
        "MetaROI": META_ROI,
        "Facts": dict(sorted(normalised.suvr.facts.items())),
        "Composites": {k: round(v, 6) for k, v in normalised.composites.items()},
        "Findings": [
            {
                "Rule": f.rule,
                "Verdict": f.verdict,
                "Measured": _number(f.measured),
                "Limit": f.limit,
                "Message": f.message,
            }
            for f in normalised.findings
        ],
        "Registration": {
            "TemplateToNativeMm": found.matrix.tolist(),
            "RigidMm": found.rigid.tolist(),
            "MutualInformation": _number(found.mutual_information),
            "Explained": _number(found.explained),
            "TurnedGain": _number(found.turned_gain),
            "Settings": found.settings,
        },
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def read_derivative(folder: Path, stem: str) -> Normalised:
    """Read what `write_derivative` wrote.

    Raises
    ------
    InputError
        If one of the three files is missing.
    """
    paths = _paths(folder, stem)
    missing = [p.name for p in paths if not p.is_file()]
    if missing:
        raise InputError(
            f"A derivative must hold three files, got none named {', '.join(missing)}",
            culprit=stem,
            mend="run `taucal ingest` again",
        )
    image_path, sidecar_path, table_path = paths
    sidecar = read_json(sidecar_path)
    image = nib.load(image_path)
    found = sidecar["Registration"]
    nan = float("nan")
    return Normalised(
        Volume(np.asanyarray(image.dataobj, dtype=np.float32), image.affine, "SUVR", facts=sidecar["Facts"]),
        pd.read_csv(table_path, sep="\t", na_values=["n/a"], keep_default_na=False)[list(COLUMNS)],
        sidecar["Composites"],
        tuple(
            Finding(
                f["Rule"],
                f["Verdict"],
                nan if f["Measured"] is None else f["Measured"],
                f["Limit"],
                f["Message"],
            )
            for f in sidecar["Findings"]
        ),
        Registration(
            np.array(found["TemplateToNativeMm"]),
            np.array(found["RigidMm"]),
            nan if found["MutualInformation"] is None else found["MutualInformation"],
            nan if found["Explained"] is None else found["Explained"],
            nan if found["TurnedGain"] is None else found["TurnedGain"],
            found["Settings"],
        ),
    )
