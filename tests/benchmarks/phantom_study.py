"""Conformal sets and scans from elsewhere, for the cells of a finished comparison on the phantom.

    taucal compare configs/compare_phantom.yaml --set compare.folds=1
    python tests/benchmarks/phantom_study.py configs/compare_phantom.yaml --set compare.folds=1

First table: which share of test scans of each class their 90 % class-conditional set holds after ATS, mean
over seeds, and in how many seeds the count lies within the central 95 % of what so few scans in calibration
and test allow (beta-binomial). Second: AUROC of distance and energy for telling test scans from four kinds of
scans from elsewhere. Errors against the true posterior are in the comparison's own report. It reads cells of
one split; of a loss that is tuned there is none of every seed, and it is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage, stats

from flows.learning.cohorts import region_table, split_cohort
from models.calibrators import build_calibrator
from models.conformal import ConformalSets
from models.networks import run
from models.outliers import OutlierDetector
from pipeline.config import load_study
from pipeline.evaluation.classifier.selection import held_out_probabilities
from pipeline.evaluation.comparison.cell_result import SET_FOLDS
from pipeline.evaluation.metrics import ood_auroc
from pipeline.imaging.process import read_derivative
from pipeline.learning.predictions import Predictions
from pipeline.learning.trained import TrainedNetwork
from pipeline.phantom.anatomy import draw_glucose_uptake, render
from pipeline.scan import Cohort

SHOWN_OUT = ("CE", "GCE w=1")
ELSEWHERE = 60
RESOLUTION_MM = 8.0
SPACING_MM = 2.0


def cells_of(folder: Path, loss: str, seeds: tuple[int, ...]) -> list[Path]:
    """Return the folders of a loss, one a seed."""
    return [folder / "cells" / f"{loss.replace(' ', '_')}-seed{seed}" for seed in seeds]


def coverage_table(folder: Path, losses: list[str], seeds: tuple[int, ...], coverage: float) -> None:
    """Print coverage per class after ATS, and whether it lies within what so few scans allow."""
    names = Predictions.load(cells_of(folder, losses[0], seeds)[0] / "test.npz").class_names
    print(f"\ncoverage of {coverage:.0%} sets after ATS\n\n| loss | " + " | ".join(names) + " | mean size |")
    print("|" + "---|" * (len(names) + 2))
    for loss in losses:
        held = {name: [] for name in names}
        within = dict.fromkeys(names, 0)
        sizes = []
        for cell in cells_of(folder, loss, seeds):
            calibration, test = (Predictions.load(cell / f"{part}.npz") for part in ("calibration", "test"))
            calibrator = build_calibrator("adaptive_temperature").fit(calibration.logits, calibration.labels)
            scores = held_out_probabilities(calibration, "adaptive_temperature", SET_FOLDS, 0)
            conformal = ConformalSets.fit(scores, calibration.labels, coverage)
            sets = conformal.sets(calibrator.transform(test.logits))
            sizes.append(sets.sum(axis=1).mean())
            for k, name in enumerate(names):
                mine = test.labels == k
                held[name].append(sets[mine, k].mean())
                n = int((calibration.labels == k).sum())
                rank = int(np.ceil((n + 1) * coverage))
                allowed = stats.betabinom(int(mine.sum()), rank, n + 1 - rank).interval(0.95)
                within[name] += allowed[0] <= sets[mine, k].sum() <= allowed[1]
        row = [f"{np.mean(held[n]):.1%} ({within[n]} of {len(seeds)} within)" for n in names]
        print(f"| {loss} | " + " | ".join(row) + f" | {np.mean(sizes):.2f} |")


def from_elsewhere(cohort: Cohort, table, test: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return SUVR volumes that are no AV1451 scans as the classifier knows them."""
    scans = cohort.subset(test[:ELSEWHERE]).scans
    sound = [read_derivative(s.path.parent, s.path.name.split("_space-")[0]).suvr.array for s in scans]
    white = table.loc[[s.scan_id for s in scans], "both_white_matter"].to_numpy()
    blur = RESOLUTION_MM / 2.3548 / SPACING_MM
    glucose = [
        ndimage.gaussian_filter(render(draw_glucose_uptake([9, n])).suvr, blur) for n in range(ELSEWHERE)
    ]
    truncated = [np.where(np.arange(v.shape[2]) < v.shape[2] * 0.6, v, 0) for v in sound]
    return {
        "FDG-like": np.stack(glucose),
        "reference: white matter": np.stack([v / w for v, w in zip(sound, white, strict=True)]),
        "upper 40 % missing": np.stack(truncated),
        "upside down": np.stack([v[:, :, ::-1] for v in sound]),
    }


def elsewhere_table(folder: Path, seeds: tuple[int, ...], volumes: dict[str, np.ndarray]) -> None:
    """Print how well distance and energy tell test scans from others; mean and least over seeds."""
    print("\nAUROC, mean over seeds (least)\n\n| loss | score | " + " | ".join(volumes) + " |")
    print("|" + "---|" * (len(volumes) + 2))
    for loss in SHOWN_OUT:
        found = {score: {kind: [] for kind in volumes} for score in ("distance", "energy")}
        for cell in cells_of(folder, loss, seeds):
            trained = TrainedNetwork.load(cell / "training")
            calibration, test = (Predictions.load(cell / f"{part}.npz") for part in ("calibration", "test"))
            detector = OutlierDetector.fit(
                calibration.features, calibration.logits, calibration.labels, subjects=calibration.subjects
            )
            for kind, strange in volumes.items():
                prepared = np.stack([trained.preprocessing(volume) for volume in strange])
                logits, features = run(trained.network, prepared)
                pairs = {
                    "distance": (detector.mahalanobis(test.features), detector.mahalanobis(features)),
                    "energy": (detector.energy(test.logits), detector.energy(logits)),
                }
                for score, (inside, outside) in pairs.items():
                    found[score][kind].append(ood_auroc(inside, outside))
        for score, kinds in found.items():
            cells = " | ".join(f"{np.mean(v):.2f} ({min(v):.2f})" for v in kinds.values())
            print(f"| {loss} | {score} | {cells} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    asked = parser.parse_args()
    study = load_study(asked.config, tuple(asked.overrides))
    scans = split_cohort(study)
    seeds = study.compare.seeds
    losses = [
        loss.title
        for loss in study.compare.losses
        if all((cell / "test.npz").is_file() for cell in cells_of(study.output, loss.title, seeds))
    ]
    coverage_table(study.output, losses, seeds, 0.9)
    elsewhere = from_elsewhere(scans.cohort, region_table(study).table, scans.split.test)
    elsewhere_table(study.output, seeds, elsewhere)


if __name__ == "__main__":
    main()
