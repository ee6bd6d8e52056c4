"""SUVR of the phantom's people against their truth: `python tests/benchmarks/warped_phantom.py --people 40`.

Ages are spread over 57 to 92 years and stages over 0 to .85, independently, so that the errors can be
laid to either; all else is as `phantom.anatomy: people` draws it. An error is measured SUVR over the
mean of the person's own regions at 8 mm, minus 1. These regions are the atlas's, warped and thinned, so
no definition of a region adds to it. `true warp` replaces the registration by the map that made the
head: what remains is noise, motion, interpolation, smoothing in template space, and cortex that the
labels have lost.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import AFFINE, META_ROI_DEFINITIONS, SHAPE, load_atlas
from pipeline.config import ImagingSettings, PhantomSettings
from pipeline.errors import RefusedScan
from pipeline.imaging.input_checks import ASSUMED_RESOLUTION_MM
from pipeline.imaging.process import Normalised, normalise
from pipeline.imaging.space import smooth_on_template, smoothing_sigma_mm
from pipeline.imaging.suvr import composites, regional_table, to_suvr
from pipeline.phantom import make_scan, plan_cohort
from pipeline.phantom.anatomy import Rendering
from pipeline.phantom.cohort import PlannedScan
from pipeline.phantom.scan_maker import variation_of
from pipeline.phantom.scanner import Acquisition
from pipeline.phantom.variation import on_template_grid, push_forward
from pipeline.scan import Frame, Volume

SEED = 1515
METHODS = {"affine": ImagingSettings(registration="affine"), "warp": ImagingSettings(registration="warp")}
META = [f"{side}_{r}" for r in META_ROI_DEFINITIONS["Mayo"] for side in ("left", "right")]


@dataclass(frozen=True)
class Case:
    """One scan by one method; errors are fractions."""

    method: str
    age: float
    stage: float
    ventricles_ml: float
    truth: float
    refused: str = ""
    warned: str = ""
    meta_roi: float = np.nan
    targets: float = np.nan
    targets_signed: float = np.nan
    worst_target: float = np.nan
    error_mm: float = np.nan
    seconds: float = np.nan


def scans(count: int) -> Iterator[PlannedScan]:
    """Yield people of every age and stage, static scans."""
    settings = PhantomSettings(subjects=count, scans=count, spoiled=0.0, anatomy="people")
    rng = np.random.default_rng(SEED)
    ages, stages = np.linspace(57, 92, count), rng.permutation(np.linspace(0, 0.85, count))
    for scan, age, stage in zip(plan_cohort(settings, SEED), ages, stages, strict=True):
        born = scan.start.date() - dt.timedelta(days=round(age * 365.25))
        latents = replace(scan.latents, stage=float(stage))
        subject = replace(scan.subject, birth=born)
        yield replace(scan, subject=subject, latents=latents, frames_s=(1200.0,), after_injection_s=4800.0)


def measure(scan: PlannedScan, rendering: Rendering, seen: Acquisition) -> Iterator[Case]:
    """Yield what the pipeline and the true warp make of a scan."""
    atlas = load_atlas()
    voxels = np.bincount(rendering.labels.ravel(), minlength=len(atlas.names))
    sizes = [voxels[atlas.names.index(name)] for name in META]
    meta = float(np.average([rendering.regional[name] for name in META], weights=sizes))
    age = (scan.start.date() - scan.subject.birth).days / 365.25
    ventricles = voxels[atlas.names.index("lateral_ventricle")] * 0.008
    about = (age, scan.latents.stage, ventricles, meta)
    facts = {"scan_after_injection_s": scan.after_injection_s}
    volume = Volume(seen.frames[0], seen.affine, "Bq/mL", (Frame(0.0, scan.frames_s[0]),), facts)
    warp = on_template_grid(push_forward(variation_of(scan, SEED))) * 2
    for method, settings in METHODS.items():
        begin = time.process_time()
        try:
            found = normalise(volume, settings)
        except RefusedScan as refusal:
            yield Case(method, *about, refused=refusal.rule)
            continue
        seconds = time.process_time() - begin
        warned = ",".join(f.rule for f in found.findings if f.verdict == "warn")
        case = Case(method, *about, warned=warned, error_mm=error_mm(found, seen, warp), seconds=seconds)
        yield with_errors(case, found.regions, found.composites["meta_roi"], rendering)
    suvr = with_true_warp(seen, warp)
    yield with_errors(
        Case("true warp", *about, error_mm=0.0), regional_table(suvr), composites(suvr)["meta_roi"], rendering
    )


def with_errors(case: Case, regions: pd.DataFrame, meta_roi: float, rendering: Rendering) -> Case:
    """Compare regional SUVR with the truth."""
    target = regions[(regions.kind == "target") & (regions.side != "both")]
    true = np.array([rendering.regional[f"{r.side}_{r.region}"] for r in target.itertuples()])
    off = target.suvr.to_numpy() / true - 1
    return replace(
        case,
        meta_roi=meta_roi / case.truth - 1,
        targets=float(np.abs(off).mean()),
        targets_signed=float(off.mean()),
        worst_target=float(np.abs(off).max()),
    )


def with_true_warp(seen: Acquisition, warp: NDArray[np.float32]) -> NDArray[np.float32]:
    """SUVR on the template grid where every point of the template is read where it lies."""
    matrix = seen.template_to_native[0]
    voxels = np.linalg.inv(seen.affine) @ matrix @ AFFINE
    there = np.indices(SHAPE, dtype=np.float32) + warp / 2
    native = np.tensordot(voxels[:3, :3], there, axes=1) + voxels[:3, 3, None, None, None]
    image = ndimage.map_coordinates(seen.frames[0], native.astype(np.float32), order=1)
    sigma = smoothing_sigma_mm(ASSUMED_RESOLUTION_MM, METHODS["affine"].resolution_mm)
    spacing = np.linalg.norm(seen.affine[:3, :3], axis=0)
    return to_suvr(smooth_on_template(image, sigma, matrix, spacing.tolist()))


def error_mm(found: Normalised, seen: Acquisition, warp: NDArray[np.float32]) -> float:
    """Mean distance of found and true place over every second brain voxel."""
    voxels = np.argwhere(load_atlas().brain)[::2]
    moved = found.registration.warp
    ours = np.zeros_like(warp) if moved is None else moved.displacement_mm()
    places = []
    for matrix, displacement in (
        (found.registration.matrix, ours),
        (seen.template_to_native[0], warp),
    ):
        points = voxels @ AFFINE[:3, :3].T + AFFINE[:3, 3] + displacement[(slice(None), *voxels.T)].T
        places.append(points @ matrix[:3, :3].T + matrix[:3, 3])
    return float(np.linalg.norm(places[0] - places[1], axis=1).mean())


def table(cases: pd.DataFrame) -> str:
    """Return one row per method and tau, as Markdown."""
    heads = ("method", "scans", "n", "refused", "warned", "place", "meta-ROI mean", "abs.", "worst")
    heads += ("targets mean", "abs.", "worst", "s")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for method, own in cases.groupby("method", sort=False):
        for name, of in (
            ("stage < .3", own[own.stage < 0.3]),
            ("stage >= .3", own[own.stage >= 0.3]),
            ("all", own),
        ):
            used, meta = of[of.refused == ""], of[of.refused == ""].meta_roi
            warned = (used.warned != "").sum()
            row = [
                method,
                name,
                str(len(of)),
                str(len(of) - len(used)),
                str(warned),
                f"{used.error_mm.mean():.1f} mm",
            ]
            row += [f"{meta.mean():+.1%}", f"{meta.abs().mean():.1%}", f"{meta.abs().max():.1%}"]
            row += [
                f"{used.targets_signed.mean():+.1%}",
                f"{used.targets.mean():.1%}",
                f"{used.worst_target.max():.0%}",
            ]
            lines.append(f"| {' | '.join([*row, f'{used.seconds.mean():.2f}'])} |".replace("nan", ""))
    return "\n".join(lines)


def biases(cases: pd.DataFrame) -> str:
    """Return what meta-ROI errors change by with stage, age and ventricles, fitted together, as Markdown."""
    lines = [
        "| method | from stage 0 to 1 | 20 years older | ventricles twice as large |",
        "|---|---|---|---|",
    ]
    for method, of in cases[cases.refused == ""].groupby("method", sort=False):
        design = np.column_stack([of.stage, of.age / 20, np.log2(of.ventricles_ml), np.ones(len(of))])
        if len(of) <= design.shape[1]:
            lines.append(f"| {method} | {len(of)} scans are too few for three slopes | | |")
            continue
        fit, rest, *_ = np.linalg.lstsq(design, of.meta_roi, rcond=None)
        spread = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * rest[0] / (len(of) - 4))
        row = [f"{b:+.1%} +- {s:.1%}" for b, s in zip(fit[:3], spread, strict=False)]
        lines.append(f"| {' | '.join([method, *row])} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--details", type=Path, help="TSV with a row a scan and method")
    asked = parser.parse_args()
    cases, making = [], 0.0
    settings = PhantomSettings(anatomy="people")
    for scan in scans(asked.people):
        begin = time.process_time()
        made = make_scan(scan, SEED, settings)
        making += time.process_time() - begin
        cases += measure(scan, *made)
    found = pd.DataFrame(cases)
    if asked.details:
        found.to_csv(asked.details, sep="\t", index=False, float_format="%.4f", na_rep="n/a")
    print(f"{asked.people} people, {making / asked.people:.2f} s to make a scan\n")
    print(f"{table(found)}\n\n{biases(found)}\n")
    for what in ("refused", "warned"):
        print(f"{what}: {found.loc[found[what] != '', what].value_counts().to_dict()}")


if __name__ == "__main__":
    main()
