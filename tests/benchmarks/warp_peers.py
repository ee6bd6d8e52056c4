"""The warp beside those of antspyx and SimpleITK on people of the phantom: `tests/benchmarks/warp_peers.py`.

Every method gets the same scan, smoothed to 8 mm on a grid of 2 mm, and the same PET-like template of a
tau-negative head. Its result is read as ever: SUVR over the reference region, in the atlas's regions, against
the person's own. taucal's template adapts to each scan; antspyx and SimpleITK have the one, dcccpy its own
networks. antspyx and dcccpy need not be installed beside the project: `--packages` and `--dcccpy` are the
site-packages of another virtual environment.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, load_atlas
from pipeline.config import PhantomSettings
from pipeline.imaging.head import brain_within, template_image
from pipeline.imaging.input_checks import ASSUMED_RESOLUTION_MM
from pipeline.imaging.registration import register, warped
from pipeline.imaging.space import coarse_volume, smoothing_sigma_mm
from pipeline.imaging.suvr import composites, regional_table, to_suvr
from pipeline.phantom import make_scan
from pipeline.phantom.scan_maker import variation_of
from pipeline.phantom.variation import on_template_grid, push_forward
from pipeline.scan import FloatArray, Volume
from tests.benchmarks import warped_phantom
from tests.benchmarks.dccc import normalised_by_dcccpy, processor_seconds
from tests.benchmarks.registration import affine_by_simpleitk, itk_image
from tests.benchmarks.warped_phantom import Case, with_errors

Places = NDArray[np.float64]
Method = Callable[[Volume], Places | FloatArray]
"""From a scan to where the template's voxels lie in it, shape (n, 3), or to it on the template grid."""
GRID_MM: Places = (AFFINE[:3, :3] @ np.indices(SHAPE).reshape(3, -1) + AFFINE[:3, 3:]).T
AROUND_MM = 24.0


def taucal(scan: Volume, *, warp: bool) -> Places:
    """Return where the template's voxels lie in the scan, in millimetres, shape (n, 3)."""
    found = register(scan, ASSUMED_RESOLUTION_MM)
    places = GRID_MM
    if warp:
        found = warped(scan, ASSUMED_RESOLUTION_MM, found)
        assert found.warp is not None
        places = places + found.warp.displacement_mm().reshape(3, -1).T
    return places @ found.matrix[:3, :3].T + found.matrix[:3, 3]


def antspyx(scan: Volume, kind: str) -> Places:
    """Return the same by ANTs."""
    import ants

    moving = at_8_mm(scan)

    def image(array: NDArray, affine: NDArray):
        return ants.from_numpy(
            np.ascontiguousarray(array, dtype=np.float32),
            affine[:3, 3].tolist(),
            np.diag(affine)[:3].tolist(),
            np.eye(3),
        )

    found = ants.registration(
        image(template_image(), AFFINE),
        image(np.nan_to_num(moving.array), moving.affine),
        type_of_transform=kind,
        mask=image(brain_within(AROUND_MM), AFFINE),
        random_seed=7,
    )
    points = pd.DataFrame(GRID_MM, columns=["x", "y", "z"])
    return ants.apply_transforms_to_points(3, points, found["fwdtransforms"])[["x", "y", "z"]].to_numpy()


def simpleitk(scan: Volume) -> Places:
    """Return the same by SimpleITK: rigid, affine, then B-splines of 32 mm on every second voxel, Mattes."""
    moving = at_8_mm(scan)
    seen = itk_image(np.nan_to_num(moving.array), moving.affine)
    fixed, mask = (
        itk_image(template_image(), AFFINE),
        itk_image(brain_within(AROUND_MM).astype(np.uint8), AFFINE),
    )
    affine = affine_by_simpleitk(fixed, mask, seen)
    bent = sitk.BSplineTransformInitializer(fixed, [6, 7, 6], order=3)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.2, 7)
    method.SetMetricFixedMask(mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([2])
    method.SetSmoothingSigmasPerLevel([0])
    method.SetOptimizerAsLBFGSB(1e-5, 15, 5, 30)
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransform(bent, inPlace=True)
    method.Execute(fixed, seen)
    field = sitk.TransformToDisplacementField(
        bent, sitk.sitkVectorFloat64, fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing()
    )
    moved = GRID_MM + sitk.GetArrayFromImage(field).transpose(2, 1, 0, 3).reshape(-1, 3)
    matrix, centre = np.array(affine.GetMatrix()).reshape(3, 3), np.array(affine.GetCenter())
    return (moved - centre) @ matrix.T + centre + np.array(affine.GetTranslation())


def at_8_mm(scan: Volume) -> Volume:
    """The scan on a grid of 2 mm at the template's resolution."""
    return coarse_volume(scan, 2.0, smoothing_sigma_mm(ASSUMED_RESOLUTION_MM, 8.0))


def cases(count: int, methods: dict[str, Method]) -> Iterator[Case]:
    """Yield what each method makes of each scan."""
    seed, settings, atlas = warped_phantom.SEED, PhantomSettings(anatomy="people"), load_atlas()
    for scan in warped_phantom.scans(count):
        rendering, seen = make_scan(scan, seed, settings)
        voxels = np.bincount(rendering.labels.ravel(), minlength=len(atlas.names))
        sizes = [voxels[atlas.names.index(name)] for name in warped_phantom.META]
        truth = float(np.average([rendering.regional[n] for n in warped_phantom.META], weights=sizes))
        volume = Volume(seen.frames[0], seen.affine, "Bq/mL")
        smooth = at_8_mm(volume)
        true = GRID_MM + 2 * on_template_grid(push_forward(variation_of(scan, seed))).reshape(3, -1).T
        true = true @ seen.template_to_native[0][:3, :3].T + seen.template_to_native[0][:3, 3]
        brain = atlas.brain.ravel()
        for name, method in methods.items():
            begin = processor_seconds()
            found = method(volume)
            seconds = processor_seconds() - begin
            placed = found.ndim == 2
            suvr = to_suvr(read_at(smooth, found) if placed else found)
            off = float(np.linalg.norm((found - true)[brain], axis=1).mean()) if placed else np.nan
            case = Case(name, 0.0, scan.latents.stage, 0.0, truth, error_mm=off, seconds=seconds)
            case = with_errors(case, regional_table(suvr), composites(suvr)["meta_roi"], rendering)
            print(
                f"  {name}: {off:.2f} mm, {case.meta_roi:+.1%}, {seconds:.0f} s", file=sys.stderr, flush=True
            )
            yield case


def read_at(image: Volume, places: Places) -> FloatArray:
    """Interpolate an image at the places of the template's voxels."""
    index = (places - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
    values = ndimage.map_coordinates(np.nan_to_num(image.array), index.T, order=1)
    return np.asarray(values.reshape(SHAPE))


def table(found: pd.DataFrame) -> str:
    """Return one row per method, as Markdown."""
    heads = ("method", "n", "place", "meta-ROI mean", "abs.", "worst", "targets abs.", "s")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for method, of in found.groupby("method", sort=False):
        row = [method, str(len(of)), f"{of.error_mm.mean():.1f} mm", f"{of.meta_roi.mean():+.1%}"]
        row += [f"{of.meta_roi.abs().mean():.1%}", f"{of.meta_roi.abs().max():.1%}"]
        row += [f"{of.targets.mean():.1%}", f"{of.seconds.mean():.1f}"]
        lines.append(f"| {' | '.join(row)} |".replace("nan mm", ""))
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--packages", help="site-packages that hold antspyx")
    parser.add_argument("--dcccpy", help="site-packages that hold dcccpy[runtime]")
    asked = parser.parse_args()
    methods: dict[str, Method] = {
        "taucal, affine": lambda scan: taucal(scan, warp=False),
        "taucal, warp": lambda scan: taucal(scan, warp=True),
    }
    if asked.packages:
        sys.path.append(asked.packages)
        methods["antspyx, Affine"] = lambda scan: antspyx(scan, "Affine")
        methods["antspyx, SyN"] = lambda scan: antspyx(scan, "SyN")
    if asked.dcccpy:
        methods["dcccpy 0.2.0"] = lambda scan: normalised_by_dcccpy(scan, asked.dcccpy)
    methods[f"SimpleITK {sitk.Version.VersionString()}, affine, B-splines"] = simpleitk
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    print(table(pd.DataFrame(cases(asked.people, methods))))


if __name__ == "__main__":
    main()
