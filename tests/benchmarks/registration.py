"""Registration, regional SUVR and time of sound phantom scans, beside SimpleITK (and antspyx if installed).

    python tests/benchmarks/registration.py --scans 20

One core. Each scan is made in memory with its true pose; the error is the distance between the found and the
true place of every second brain voxel. The peers get what they are usually given: the same volume, the same
PET-like template at 2 mm, rigid then affine by Mattes mutual information, within 24 mm of the brain: with
less around it (8, 14 mm) SimpleITK was worse (4.5, 2.9 mm).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from pipeline.atlas import AFFINE, load_atlas
from pipeline.config import ImagingSettings, PhantomSettings
from pipeline.imaging.frames import choose_window, realign
from pipeline.imaging.head import brain_within, five_tissue_model, region_model, template_image
from pipeline.imaging.input_checks import ASSUMED_RESOLUTION_MM
from pipeline.imaging.process import normalise
from pipeline.imaging.registration import register
from pipeline.imaging.space import coarse_volume, smoothing_sigma_mm
from pipeline.phantom import make_scan, plan_cohort
from pipeline.scan import Frame, Volume

Matrix = NDArray[np.float64]
SEED = 2026
SETTINGS = ImagingSettings()


def scans(count: int):
    """Yield volume, true matrix and true regional SUVR of the first sound scans of the default cohort."""
    planned = (s for s in plan_cohort(PhantomSettings(), SEED) if not s.spoiled)
    for scan, _ in zip(planned, range(count), strict=False):
        rendering, seen = make_scan(scan, SEED)
        starts = np.cumsum([0.0, *scan.frames_s])[:-1]
        frames = tuple(Frame(float(s), float(d)) for s, d in zip(starts, scan.frames_s, strict=True))
        array = np.stack(seen.frames, -1) if len(frames) > 1 else seen.frames[0]
        after = 75 if sum(scan.frames_s) > 1500 else 80
        volume = Volume(array, seen.affine, "Bq/mL", frames, {"scan_after_injection_s": 60.0 * after})
        window = choose_window(volume, SETTINGS)
        true = sum(w * seen.template_to_native[k] for k, w in zip(window.frames, window.weights, strict=True))
        yield volume, window, true, rendering.regional


def ours(average: Volume) -> Matrix:
    """The registration of this project."""
    return register(average, ASSUMED_RESOLUTION_MM).matrix


def affine_by_simpleitk(fixed: sitk.Image, mask: sitk.Image, moving: sitk.Image) -> sitk.AffineTransform:
    """Rigid then affine, Mattes mutual information, from the centres of mass."""
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    rigid = sitk.Euler3DTransform(start)
    _optimise(fixed, mask, moving, rigid)
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    _optimise(fixed, mask, moving, affine)
    return affine


def simpleitk(average: Volume) -> Matrix:
    """Rigid then affine, 2 mm."""
    sigma = smoothing_sigma_mm(ASSUMED_RESOLUTION_MM, 8.0)
    moving = itk_image(
        np.nan_to_num(coarse_volume(average, 2.0, sigma).array), coarse_volume(average, 2.0).affine
    )
    fixed, mask = itk_image(template_image(), AFFINE), itk_image(brain_within(24.0).astype(np.uint8), AFFINE)
    affine = affine_by_simpleitk(fixed, mask, moving)
    matrix, centre = np.eye(4), np.array(affine.GetCenter())
    matrix[:3, :3] = np.array(affine.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(affine.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return matrix


def _optimise(fixed: sitk.Image, mask: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> None:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.2, 7)
    method.SetMetricFixedMask(mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-2, 100)
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2, 0])
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)


def itk_image(array: NDArray, affine: Matrix) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(np.diag(affine)[:3].tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def antspyx(average: Volume) -> Matrix:
    """ANTs' affine at 2 mm."""
    import ants

    coarse = coarse_volume(average, 2.0, smoothing_sigma_mm(ASSUMED_RESOLUTION_MM, 8.0))

    def image(array: NDArray, affine: Matrix):
        return ants.from_numpy(
            array.astype(np.float32), affine[:3, 3].tolist(), np.diag(affine)[:3].tolist(), np.eye(3)
        )

    found = ants.registration(
        image(template_image(), AFFINE),
        image(np.nan_to_num(coarse.array), coarse.affine),
        type_of_transform="Affine",
        mask=image(brain_within(24.0), AFFINE),
        random_seed=7,
    )
    transform = ants.read_transform(found["fwdtransforms"][0])
    origin = np.array(transform.apply_to_point((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    for axis in range(3):
        matrix[:3, axis] = np.array(transform.apply_to_point(tuple(np.eye(3)[axis]))) - origin
    return matrix


def error_mm(found: Matrix, true: Matrix) -> NDArray[np.float64]:
    """Distance of found and true place over the brain."""
    voxels = np.argwhere(load_atlas().brain)[::2]
    points = np.column_stack([voxels, np.ones(len(voxels))]) @ AFFINE.T
    return np.linalg.norm((points @ (found - true).T)[:, :3], axis=1)


def main() -> None:
    """Print one row a method, then regional SUVR and the time of the whole way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=20)
    count = parser.parse_args().scans
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    region_model(), five_tissue_model(), template_image()
    methods: dict[str, Callable[[Volume], Matrix]] = {"taucal": ours, "SimpleITK": simpleitk}
    if importlib.util.find_spec("ants"):
        methods["antspyx"] = antspyx
    errors: dict[str, list[float]] = {name: [] for name in methods}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    regional, whole = [], []
    for volume, window, true, truth in scans(count):
        average = realign(volume, window).average
        for name, method in methods.items():
            start = time.process_time()
            found = method(average)
            seconds[name].append(time.process_time() - start)
            errors[name].append(float(error_mm(found, true).mean()))
        start = time.process_time()
        regions = normalise(volume, SETTINGS).regions
        whole.append((len(window.frames), time.process_time() - start))
        regional.append(_deviation(regions, truth))
    print(f"{count} phantom scans, one core")
    for name in methods:
        e, s = np.array(errors[name]), np.array(seconds[name])
        told = f"error mean {e.mean():.2f} median {np.median(e):.2f} worst {e.max():.2f} mm"
        print(f"{name:10s} {told}, {s.mean():.2f} s")
    mean = {key: float(np.mean([r[key] for r in regional])) for key in regional[0]}
    print("regional SUVR, mean absolute error: " + ", ".join(f"{k} {100 * v:.1f} %" for k, v in mean.items()))
    static = [s for frames, s in whole if frames == 1]
    dynamic = [s for frames, s in whole if frames > 1]
    print(f"normalise: static {np.mean(static):.2f} s, dynamic {np.mean(dynamic or [np.nan]):.2f} s")


def _deviation(regions, truth: dict[str, float]) -> dict[str, float]:
    targets = regions[(regions.kind == "target") & (regions.side != "both")]
    ratio = np.array([r.suvr / truth[f"{r.side}_{r.region}"] for r in targets.itertuples()])
    entorhinal = (targets.region == "entorhinal").to_numpy()
    off = np.abs(ratio - 1)
    return {"targets": float(off.mean()), "entorhinal": float(off[entorhinal].mean())}


if __name__ == "__main__":
    main()
