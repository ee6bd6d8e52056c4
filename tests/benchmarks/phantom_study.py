"""Prediction sets and scans from elsewhere, for the cells of a finished comparison on the phantom.

    python tests/benchmarks/painted_cohort.py data/painted --scans 1000
    taucal compare configs/compare_phantom.yaml --set cohort.path=data/painted
    python tests/benchmarks/phantom_study.py configs/compare_phantom.yaml --set cohort.path=data/painted

First table: which share of test scans of each class their 90 % class-conditional set holds after ATS, and in
how many of the runs (seed x fold) the count lies within the central 95 % of what so few scans in calibration
and test allow (beta-binomial). Second: AUROC of distance and energy for telling test scans from four kinds of
scans from elsewhere, for folds with a calibration part of their own. Errors against the true posterior are in
the comparison's own report.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage, stats

from flows.comparison.cells import Cell, plan, result_of, results_of, tuned_options
from flows.comparison.comparison_data import ComparisonData, load_material
from models.networks import run
from models.outliers import OutlierDetector
from pipeline.atlas import load_atlas
from pipeline.config import Study, load_study
from pipeline.evaluation.comparison.cell_result import CellResult
from pipeline.evaluation.comparison.seed_runs import COVERAGE
from pipeline.evaluation.metrics import ood_auroc
from pipeline.learning.trained import TrainedNetwork
from pipeline.phantom.anatomy import draw_glucose_uptake, render

SHOWN_OUT = ("CE", "GCE w=0.5", "GCE w=1")
ELSEWHERE = 60
BLUR = 8.0 / 2.3548 / 2.0
"""Voxels of 2 mm, for 8 mm FWHM."""


def finished_cells(study: Study, material: ComparisonData) -> list[Cell]:
    """Return the cells that the comparison compared; every one must be finished."""
    cells = plan(study, material, tuned_options(plan(study, material), ()))
    missing = [cell.title for cell in cells if not cell.is_done]
    if missing:
        raise SystemExit(f"{len(missing)} cells are not finished, the first is {missing[0]}: compare first")
    return cells


def within_chance(held: int, tested: int, calibrated: int, coverage: float) -> bool:
    """Return whether so many of the test scans of a class are what so few scans allow."""
    rank = int(np.ceil((calibrated + 1) * coverage))
    if rank > calibrated:  # too few for a threshold: the class is in every set
        return held == tested
    low, high = stats.betabinom(tested, rank, calibrated + 1 - rank).interval(0.95)
    return bool(low <= held <= high)


def calibration_labels(result: CellResult) -> np.ndarray:
    """Return the labels of the scans that calibrate a cell."""
    if result.calibration is not None:
        return result.calibration.labels
    return np.concatenate([other.test.labels for other in result.others])


def coverage_row(results: Sequence[CellResult], coverage: float) -> list[str]:
    """Return the share of each class that the sets of one loss hold, over its cells, and their mean size."""
    classes = len(results[0].class_counts)
    held, tested, within = (np.zeros(classes, dtype=int) for _ in range(3))
    sizes = []
    for result in results:
        test = result.run("adaptive_temperature", correct_prior=True, coverage=coverage)
        sizes.append(test.per_scan["set_size"].mean())
        for k in range(classes):
            mine = test.labels == k
            count = int(test.per_scan[COVERAGE][mine].sum())
            calibrated = int((calibration_labels(result) == k).sum())
            held[k] += count
            tested[k] += mine.sum()
            within[k] += within_chance(count, int(mine.sum()), calibrated, coverage)
    shares = [f"{held[k] / tested[k]:.1%} ({within[k]} of {len(results)})" for k in range(classes)]
    return [*shares, f"{np.mean(sizes):.2f}"]


def coverage_table(results: Sequence[CellResult], class_names: Sequence[str], coverage: float) -> None:
    """Print coverage per class after ATS, and in how many runs it is what so few scans allow."""
    print(f"\ncoverage of {coverage:.0%} sets after ATS (runs within chance)\n")
    print("| loss | " + " | ".join(class_names) + " | mean size |")
    print("|" + "---|" * (len(class_names) + 2))
    for loss in dict.fromkeys(result.loss for result in results):
        mine = [result for result in results if result.loss == loss]
        print(f"| {loss} | " + " | ".join(coverage_row(mine, coverage)) + " |")


def from_elsewhere(material: ComparisonData, fold: int, glucose: np.ndarray) -> dict[str, np.ndarray]:
    """Return SUVR volumes that are no AV1451 scans as the classifier of a fold knows them."""
    scans = material.cohort.subset(material.splits[fold].test[:ELSEWHERE]).scans
    sound = [np.asarray(nib.load(scan.path).dataobj, dtype=np.float32) for scan in scans]
    white = load_atlas().mask("white_matter")
    return {
        "FDG-like": glucose,
        "reference: white matter": np.stack([v / v[white].mean() for v in sound]),
        "upper 40 % missing": np.stack(
            [np.where(np.arange(v.shape[2]) < v.shape[2] * 0.6, v, 0) for v in sound]
        ),
        "upside down": np.stack([v[:, :, ::-1] for v in sound]),
    }


def separation(
    cell: Cell, result: CellResult, strange: dict[str, np.ndarray]
) -> dict[tuple[str, str], float]:
    """Return (score, kind) -> AUROC of telling a cell's test scans from scans from elsewhere."""
    trained, calibration = TrainedNetwork.load(cell.folder / "training"), result.calibration
    assert calibration is not None
    detector = OutlierDetector.fit(
        calibration.features, calibration.logits, calibration.labels, subjects=calibration.subjects
    )
    found = {}
    for kind, volumes in strange.items():
        logits, features = run(trained.network, np.stack([trained.preprocessing(v) for v in volumes]))
        distances = detector.mahalanobis(result.test.features), detector.mahalanobis(features)
        energies = detector.energy(result.test.logits), detector.energy(logits)
        found["distance", kind] = ood_auroc(*distances)
        found["energy", kind] = ood_auroc(*energies)
    return found


def elsewhere_table(material: ComparisonData, cells: Sequence[Cell]) -> None:
    """Print how well distance and energy tell test scans from others; mean and least over runs."""
    rng_of = [[9, n] for n in range(ELSEWHERE)]
    glucose = np.stack([ndimage.gaussian_filter(render(draw_glucose_uptake(s)).suvr, BLUR) for s in rng_of])
    compared = {cell.loss.title for cell in cells}
    found: dict[str, list[dict[tuple[str, str], float]]] = {n: [] for n in SHOWN_OUT if n in compared}
    for fold in range(len(material.splits)):
        strange = from_elsewhere(material, fold, glucose)
        for cell in cells:
            if cell.fold == fold and cell.loss.title in found:
                found[cell.loss.title].append(separation(cell, result_of(material, cell), strange))
    print(f"\nAUROC, mean over runs (least)\n\n| loss | score | {' | '.join(strange)} |")
    print("|" + "---|" * (len(strange) + 2))
    for loss, runs in found.items():
        for score in ("distance", "energy"):
            values = [[one[score, kind] for one in runs] for kind in strange]
            print(
                f"| {loss} | {score} | "
                + " | ".join(f"{np.mean(v):.2f} ({min(v):.2f})" for v in values)
                + " |"
            )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    asked = parser.parse_args()
    study = load_study(asked.config, tuple(asked.overrides))
    material = load_material(study)
    cells = finished_cells(study, material)
    coverage_table(results_of(material, cells), material.volumes.class_names, 0.9)
    if material.cross_fitted:
        print("\nNo fold has a calibration part, so no detector of its network: no second table.")
    else:
        elsewhere_table(material, cells)


if __name__ == "__main__":
    main()
