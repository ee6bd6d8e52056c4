"""From template to scanner: where the head lies and how it is shaped."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its own documentation uses
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, SPACING_MM, Atlas, load_atlas
from pipeline.imaging.alignment import LinearModel, align, build_model
from pipeline.imaging.space import FWHM_PER_SIGMA, Matrix, coarse_volume, smoothing_sigma_mm
from pipeline.scan import FloatArray, Volume

SETTINGS: dict[str, Any] = {
    "grid_mm": 4.0,
    "resolution_mm": 8.0,
    "start": "centre of activity, then Mattes mutual information, rigid",
    "histogram_bins": 32,
    "sampling": "regular, every second voxel, seed 7",
    "threads": 1,
    "optimiser": "regular step gradient descent, 4 mm to 0.1 mm, at most 60 steps",
    "refinement": "Gauss-Newton on tissue and region maps, 12 parameters, at most 20 steps",
    "template": "grey, white, fluid, regions and shells around the brain to 20 mm",
}
_SHELLS_MM = (4.0, 8.0, 14.0, 20.0)


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the template lies in the scan.

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        Template millimetres to native millimetres, RAS+.
    rigid : ndarray, shape (4, 4)
        The rigid start of it.
    mutual_information : float
        Mattes mutual information with the target, in nats; larger is better.
    explained : float
        Share of the scan's variance that the tissue model explains, in [0, 1].
    settings : dict
        Everything that decides the result.
    """

    matrix: Matrix
    rigid: Matrix
    mutual_information: float
    explained: float
    settings: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))

    @property
    def scales(self) -> tuple[float, float, float]:
        """Size of the head over size of the template along right, anterior and superior."""
        stretch = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(stretch[0]), float(stretch[1]), float(stretch[2])

    @property
    def shear(self) -> float:
        """Largest cosine between two template axes in the scan; 0 where they stay at right angles."""
        axes = self.matrix[:3, :3] / np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(np.abs(axes.T @ axes - np.eye(3)).max())

    @property
    def rotation_deg(self) -> float:
        """Angle by which the head is turned against the template."""
        u, _, vt = np.linalg.svd(self.matrix[:3, :3])
        return float(np.rad2deg(np.arccos(np.clip((np.trace(u @ vt) - 1) / 2, -1, 1))))


def register(volume: Volume, native_mm: float) -> Registration:
    """Find the affine map from the template into a 3D PET volume of a head.

    Parameters
    ----------
    volume : Volume
        3D, any unit, any orientation of the grid.
    native_mm : float
        Resolution (FWHM) of the volume.

    Returns
    -------
    Registration
        Deterministic: two runs give the same numbers.
    """
    image = prepare(volume, native_mm)
    rigid = _rigid_start(image)
    fit = align(_tissue_model(), image, rigid, "affine", max_steps=20)
    return Registration(fit.matrix, rigid, mutual_information(image, fit.matrix), fit.explained)


def prepare(volume: Volume, native_mm: float) -> Volume:
    """Coarse, smoothed to the resolution of the target, scaled so that bright tissue is about 1."""
    sigma = smoothing_sigma_mm(native_mm, SETTINGS["resolution_mm"])
    coarse = coarse_volume(volume, SETTINGS["grid_mm"], sigma)
    bright = float(np.percentile(coarse.array, 95))
    return coarse.with_array(coarse.array / bright) if bright > 0 else coarse


def mutual_information(image: Volume, matrix: Matrix) -> float:
    """Mattes mutual information between a prepared image and the target under a matrix, in nats."""
    method = _method()
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    method.SetInitialTransform(transform)
    fixed, mask = _target()
    method.SetMetricFixedMask(mask)
    try:
        return -float(method.MetricEvaluate(fixed, _itk(image.array, image.affine)))
    except RuntimeError:  # ITK raises where no sample falls into the image
        return 0.0


def _rigid_start(image: Volume) -> Matrix:
    start = sitk.Euler3DTransform()
    centre = _centre(_coarse_template(), AFFINE_COARSE)
    start.SetCenter(centre.tolist())
    start.SetTranslation((_centre(image.array, image.affine) - centre).tolist())
    method = _method()
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0, minStep=0.1, numberOfIterations=60, gradientMagnitudeTolerance=1e-5
    )
    method.SetInitialTransform(start, inPlace=True)
    fixed, mask = _target()
    method.SetMetricFixedMask(mask)
    with contextlib.suppress(RuntimeError):  # nothing overlaps: quality control will say so
        method.Execute(fixed, _itk(image.array, image.affine))
    turn = np.array(start.GetMatrix()).reshape(3, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = np.array(start.GetTranslation()) + centre - turn @ centre
    return matrix


def _centre(array: FloatArray, affine: Matrix) -> Matrix:
    bright = np.maximum(array - 0.3, 0.0)
    if not bright.any():
        return np.asarray(affine[:3, :3] @ (np.array(array.shape) - 1) / 2 + affine[:3, 3])
    return np.asarray(affine[:3, :3] @ np.array(ndimage.center_of_mass(bright)) + affine[:3, 3])


def _method() -> Any:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(SETTINGS["histogram_bins"])
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.5, 7)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _itk(array: NDArray[Any], affine: Matrix) -> Any:
    # Grids here run along the RAS axes, and both images agree on it: no detour over ITK's LPS is needed.
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(np.diag(affine)[:3].tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


_FACTOR = 2
AFFINE_COARSE: Matrix = AFFINE @ np.array(
    [[_FACTOR, 0, 0, 0.5], [0, _FACTOR, 0, 0.5], [0, 0, _FACTOR, 0.5], [0, 0, 0, 1]], dtype=np.float64
)


def _halve(array: NDArray[Any]) -> FloatArray:
    x, y, z = (n // _FACTOR for n in SHAPE)
    halved: FloatArray = array.reshape(x, _FACTOR, y, _FACTOR, z, _FACTOR).mean(
        axis=(1, 3, 5), dtype=np.float32
    )
    return halved


def _blur(array: FloatArray) -> FloatArray:
    sigma = SETTINGS["resolution_mm"] / FWHM_PER_SIGMA / SETTINGS["grid_mm"]
    return np.asarray(ndimage.gaussian_filter(array, sigma), dtype=np.float32)


def _distance_mm(atlas: Atlas) -> FloatArray:
    return np.asarray(ndimage.distance_transform_edt(~atlas.brain) * SPACING_MM, dtype=np.float32)


@functools.lru_cache(maxsize=1)
def template_image() -> FloatArray:
    """Uptake of a tau-negative head: cortex 1.1, white matter 1.25, fluid .65, a faint scalp."""
    atlas = load_atlas()
    distance = _distance_mm(atlas)
    image = np.where(atlas.brain, 0.65 + 0.45 * atlas.grey + 0.6 * atlas.white, 0.0)
    image = np.where((distance > 0) & (distance <= 14), 0.5, image)
    sigma = SETTINGS["resolution_mm"] / FWHM_PER_SIGMA / SPACING_MM
    return np.asarray(ndimage.gaussian_filter(image, sigma), dtype=np.float32)


@functools.lru_cache(maxsize=1)
def _coarse_template() -> FloatArray:
    return _halve(template_image())


@functools.lru_cache(maxsize=1)
def _target() -> tuple[Any, Any]:
    near = _halve(_distance_mm(load_atlas())) <= 8
    return _itk(_coarse_template(), AFFINE_COARSE), _itk(near.astype(np.uint8), AFFINE_COARSE)


@functools.lru_cache(maxsize=1)
def _tissue_model() -> LinearModel:
    """White matter, fluid, every region's grey matter and the shells around the brain, blurred."""
    atlas = load_atlas()
    distance = _distance_mm(atlas)
    fluid = np.where(atlas.brain, np.clip(1 - atlas.grey - atlas.white, 0, 1), 0)
    tissues = [atlas.white, fluid]
    named = [
        k
        for k, name in enumerate(atlas.names)
        if name not in ("outside", "white_matter", "lateral_ventricle")
    ]
    tissues += [np.where(atlas.labels == k, atlas.grey, 0) for k in named]
    tissues.append(np.where(np.isin(atlas.labels, named), 0, atlas.grey))
    inner = 0.0
    for outer in _SHELLS_MM:
        tissues.append((distance > inner) & (distance <= outer))
        inner = outer
    tissues.append(distance > inner)
    maps = np.array([_blur(_halve(np.asarray(t, dtype=np.float32))) for t in tissues])
    return build_model(maps, AFFINE_COARSE, _halve(distance) <= _SHELLS_MM[-1])
