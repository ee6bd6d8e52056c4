"""A scanner: head shape and pose, point spread, noise and drift, on each vendor's own grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from models.arrays import Floats
from pipeline.phantom.anatomy import Rendering
from pipeline.phantom.conditions import Conditions, noise_gain, wander
from pipeline.phantom.head_layers import places_mm, spacing_of

REFERENCE_BQML = 5000.0
_HEAD_CENTRE_MM = np.array([0.0, -15.0, 6.0])
_FWHM_TO_SIGMA = 1 / (2 * np.sqrt(2 * np.log(2)))
# Noise at two points 3 mm apart correlates by a half: an autocorrelation 6 mm wide, so a narrower kernel.
_NOISE_FWHM_MM = 6.0 / np.sqrt(2)


@dataclass(frozen=True)
class ScannerModel:
    """One vendor's brain protocol.

    Parameters
    ----------
    vendor, model, reconstruction, filter_name : str
        As the vendor writes them.
    shape : (int, int, int)
        Columns, rows and slices.
    signed : bool
        Whether pixels are stored as signed 16-bit integers.
    per_slice_slope : bool
        Whether each slice has a rescale slope of its own, or one serves the whole frame.
    resolution_mm : (float, float)
        Least and largest FWHM of the point spread.
    brighter : float
        How much too bright it shows what lies above the cerebellum.
    noise_width, noise_level : float
        How much wider and stronger than average the noise of its reconstruction is (assumed): a point-spread
        model makes it smoother, an unfiltered one finer. Only real-looking scans show it.
    """

    vendor: str
    model: str
    software: str
    reconstruction: str
    filter_name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    signed: bool
    per_slice_slope: bool
    resolution_mm: tuple[float, float] = (5.0, 8.0)
    brighter: float = 0.0
    noise_width: float = 1.0
    noise_level: float = 1.0


SCANNERS: dict[str, ScannerModel] = {
    "SIEMENS": ScannerModel(
        "SIEMENS", "Biograph64_mCT", "VG51C", "PSF+TOF 4i21s", "XYZGAUSSIAN2.00",
        (112, 112, 66), (2.03642, 2.03642, 3.0), signed=False, per_slice_slope=True,
        noise_width=1.2, noise_level=0.9,
    ),
    "GE MEDICAL SYSTEMS": ScannerModel(
        "GE MEDICAL SYSTEMS", "Discovery 690", "pet_coreload.44", "VPFX", "STANDARD",
        (104, 104, 60), (2.34375, 2.34375, 3.27), signed=True, per_slice_slope=True,
    ),
    "Philips": ScannerModel(
        "Philips", "Ingenuity TF", "4.0.2", "BLOB-OS-TF", "SHARP",
        (112, 112, 78), (2.25, 2.25, 2.5), signed=True, per_slice_slope=False,
        noise_width=0.85, noise_level=1.1,
    ),
}  # fmt: skip

NEW_SCANNER = ScannerModel(
    "taucal", "Phantom PET 2", "2.0", "OSEM 4i16s", "GAUSSIAN8",
    (112, 112, 66), (2.25, 2.25, 3.0), signed=True, per_slice_slope=False,
    resolution_mm=(9.0, 11.0), brighter=0.15,
)  # fmt: skip
"""Comes with a later batch: its images pass every check and differ from those of the others all the same."""


@dataclass(frozen=True, eq=False)
class Acquisition:
    """What the scanner recorded.

    Parameters
    ----------
    frames : list of ndarray of float32, shape (x, y, z)
        Bq/mL, decay corrected to the start of the first frame.
    affine : ndarray, shape (4, 4)
        Voxel index to RAS+ mm; x and y run to the left and the back, as DICOM stores them.
    template_to_native : list of ndarray, shape (4, 4)
        Where a point of template space (or of a person's own space) lies in the scanner, in mm, a frame.
    resolution_mm : float
        FWHM of the point spread.
    """

    scanner: ScannerModel
    frames: list[NDArray[np.float32]]
    affine: Floats
    template_to_native: list[Floats]
    resolution_mm: float


def acquire(
    rendering: Rendering,
    vendor: str,
    frames_s: tuple[float, ...],
    subject_seed: list[int],
    scan_seed: list[int],
    conditions: Conditions = Conditions(),  # noqa: B008 - frozen
) -> Acquisition:
    """Scan a subject.

    Parameters
    ----------
    rendering : Rendering
        What is in the head.
    vendor : str
        A key of `SCANNERS`, or the vendor of `NEW_SCANNER`.
    frames_s : tuple of float
        Length of each frame in seconds.
    subject_seed, scan_seed : list of int
        The head's shape comes from the first, everything else from the second.
    conditions : Conditions
        How the scan is taken.
    """
    scanner = scanner_of(vendor)
    rng = np.random.default_rng(scan_seed)
    shape_change = np.eye(4) if rendering.own_shape else _draw_shape(np.random.default_rng(subject_seed))
    table_mm = np.array([0.0, 0.0, -float(rng.uniform(100, 900))])
    centre_mm = table_mm + _HEAD_CENTRE_MM
    pose = _rigid(rng.normal(0, 4.0, 3), rng.normal(0, 5.0, 3) + table_mm, _HEAD_CENTRE_MM)
    resolution_mm = float(rng.uniform(*scanner.resolution_mm))
    affine = _native_affine(scanner, centre_mm + np.array([0.0, 0.0, conditions.table_shift_mm]))
    shown = (
        rendering.suvr * (1 + scanner.brighter * above_cerebellum(rendering))
        if scanner.brighter
        else rendering.suvr
    )
    blurred = _blur(shown, resolution_mm, np.diag(shape_change)[:3], spacing_of(rendering.affine))
    activity = REFERENCE_BQML * float(rng.normal(1.0, 0.03))
    noise_sd = float(rng.uniform(0.15, 0.20)) * np.sqrt(1200.0 / np.array(frames_s))
    placed = [drift @ pose @ shape_change for drift in _draw_drift(len(frames_s), centre_mm, rng)]
    frames = []
    for k, template_to_native in enumerate(placed):
        poses = [template_to_native]
        if conditions.realistic:
            walk = zip(*wander(frames_s[k], rng), strict=True)
            poses = [_rigid(turn, shift, centre_mm) @ template_to_native for turn, shift in walk]
        image = _mean_over(poses, blurred, rendering.affine, affine, scanner.shape)
        if not conditions.attenuation_corrected:
            image *= _attenuation(scanner.shape, scanner.spacing_mm)
        image += _noise(image, scanner, noise_sd[k], rng, realistic=conditions.realistic)
        # Slow washout between frames remains after decay correction.
        frames.append(np.maximum(image, 0) * np.float32(activity * 0.99**k))
    return Acquisition(scanner, frames, affine, placed, resolution_mm)


def _mean_over(
    poses: list[Floats],
    blurred: NDArray[np.float32],
    template: Floats,
    affine: Floats,
    shape: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Return what the scanner sees of a head that lies in each of the poses for an equal time."""
    image = _sample(blurred, template, poses[0], affine, shape)
    for pose in poses[1:]:
        image += _sample(blurred, template, pose, affine, shape)
    image /= np.float32(len(poses))
    return image


def scanner_of(vendor: str) -> ScannerModel:
    """Return the scanner of a vendor, the new one among them."""
    return NEW_SCANNER if vendor == NEW_SCANNER.vendor else SCANNERS[vendor]


def above_cerebellum(rendering: Rendering) -> NDArray[np.float32]:
    """Return a smooth field over a head: 0 in the inferior cerebellum, 1 from the temporal lobes up."""
    return _ramp(rendering, (0.0, 0.55, 0.84), through_mm=(0.0, -48.0, -20.0), width_mm=9.0)


def with_wrong_map(rendering: Rendering) -> Rendering:
    """Show a head as under an attenuation map that lies too far back: its front loses a third of its counts.

    No check of quality notices it: the image looks like a brain.
    """
    lost = np.float32(0.35) * _ramp(rendering, (0.0, 1.0, 0.0), through_mm=(0.0, 15.0, 0.0), width_mm=9.0)
    return replace(rendering, suvr=rendering.suvr * (1 - lost))


def _ramp(
    rendering: Rendering,
    along: tuple[float, float, float],
    through_mm: tuple[float, float, float],
    width_mm: float,
) -> NDArray[np.float32]:
    """Rise from 0 to 1 along a direction of the head's space, a half at a point."""
    places = places_mm(rendering.suvr.shape, rendering.affine)
    far_mm = sum(d * (x - x0) for d, x, x0 in zip(along, places, through_mm, strict=True))
    rise: NDArray[np.float32] = (1 / (1 + np.exp(-far_mm / width_mm))).astype(np.float32)
    return rise


def _sample(
    image: NDArray[np.float32],
    head: Floats,
    template_to_native: Floats,
    affine: Floats,
    shape: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Resample an image on the head's own grid onto a scanner's grid."""
    to_template = np.linalg.inv(head) @ np.linalg.inv(template_to_native) @ affine
    sampled: NDArray[np.float32] = ndimage.affine_transform(
        image, to_template[:3, :3], to_template[:3, 3], shape, order=1, prefilter=False
    )
    return sampled


def _draw_shape(rng: np.random.Generator) -> Floats:
    """Draw a head's size and shape: 4 % along each axis and a little shear."""
    matrix = np.eye(4)
    matrix[:3, :3] += np.diag(np.clip(rng.normal(0, 0.04, 3), -0.09, 0.09)) + np.triu(
        rng.normal(0, 0.015, (3, 3)), 1
    )
    matrix[:3, 3] = _HEAD_CENTRE_MM - matrix[:3, :3] @ _HEAD_CENTRE_MM
    return matrix


def _rigid(rotation_deg: Floats, shift_mm: Floats, about_mm: Floats) -> Floats:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    matrix[:3, 3] = about_mm - matrix[:3, :3] @ about_mm + shift_mm
    return matrix


def _draw_drift(frames: int, about_mm: Floats, rng: np.random.Generator) -> list[Floats]:
    """Walk of the head over the frames: 0.5 degrees and 0.7 mm a step in all, starting at rest."""
    still = np.zeros((1, 3))
    steps_deg, steps_mm = rng.normal(0, 0.5, (frames - 1, 3)), rng.normal(0, 0.7, (frames - 1, 3))
    turns_deg = np.cumsum(np.vstack([still, steps_deg]), axis=0) / np.sqrt(3)
    shifts_mm = np.cumsum(np.vstack([still, steps_mm]), axis=0) / np.sqrt(3)
    return [_rigid(turn, shift, about_mm) for turn, shift in zip(turns_deg, shifts_mm, strict=True)]


def _native_affine(scanner: ScannerModel, centre_mm: Floats) -> Floats:
    affine = np.diag([*(np.array(scanner.spacing_mm) * [-1, -1, 1]), 1.0])
    middle = (np.array(scanner.shape) - 1) / 2
    affine[:3, 3] = centre_mm - affine[:3, :3] @ middle
    # Positions in a header have few digits.
    affine[:3, 3] = np.round(affine[:3, 3], 3)
    return affine


def _blur(
    suvr: NDArray[np.float32], resolution_mm: float, scale: Floats, spacing_mm: Floats
) -> NDArray[np.float32]:
    """Blur in the head's own space by the point spread as it will be in the scanner."""
    # Linear interpolation averages neighbours: on average it adds a sixth of the squared spacing as variance.
    variance = (resolution_mm * _FWHM_TO_SIGMA / scale) ** 2 - spacing_mm**2 / 6
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(
        suvr, np.sqrt(variance) / spacing_mm, mode="nearest", truncate=3.0
    )
    return blurred


def _noise(
    image: NDArray[np.float32],
    scanner: ScannerModel,
    sd: float,
    rng: np.random.Generator,
    *,
    realistic: bool = False,
) -> NDArray[np.float32]:
    """Correlated noise whose variance grows with the activity, as counting does."""
    white = rng.standard_normal(scanner.shape, dtype=np.float32)
    fwhm_mm = _NOISE_FWHM_MM * (scanner.noise_width if realistic else 1.0)
    sigma = fwhm_mm * _FWHM_TO_SIGMA / np.array(scanner.spacing_mm)
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(white, sigma, mode="wrap", truncate=3.0)
    smooth *= np.float32(sd) / smooth.std()
    smooth *= np.sqrt((image + np.float32(0.05)) / np.float32(1.05))
    if realistic:
        smooth *= np.float32(scanner.noise_level) * noise_gain(scanner.shape, scanner.spacing_mm)
    return smooth


def _attenuation(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Fraction of coincidences that leave a head-sized cylinder, by distance from its axis."""
    x, y = ((np.arange(n) - (n - 1) / 2) * d for n, d in zip(shape[:2], spacing_mm[:2], strict=True))
    depth_mm = np.clip(95.0 - np.hypot(x[:, None], y[None, :]), 0, None)
    fraction: NDArray[np.float32] = np.exp(-0.0096 * 1.6 * depth_mm)[:, :, None].astype(np.float32)
    return fraction
