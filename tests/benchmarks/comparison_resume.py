"""Seconds until a comparison of 500 finished cells goes on, and of its statistics.

    python tests/benchmarks/comparison_resume.py [--cells 500] [--draws 2000]

Goal: under 10 s from the loaded cohort to the statistics, with every cell found done and logged. The cells'
logits are drawn, not trained: 98 calibration and 298 test scans, as AdrenalMNIST3D has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from flows.compare import train_cells
from flows.comparison.cells import RECORD, Cell, plan, results_of
from flows.comparison.comparison_data import ComparisonData, load_material
from flows.comparison.pages import ComparisonLog
from flows.running.environment import set_quiet_defaults
from flows.running.steps import run_once
from pipeline.config import Study
from pipeline.evaluation.comparison.cell_result import PRIOR_CORRECTION
from pipeline.evaluation.comparison.stages import compare_at_stages
from pipeline.files import write_json
from pipeline.learning.predictions import Predictions

SIZES = {"train": 400, "val": 98, "test": 298}
LOSSES = 10


def archive(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    arrays = {}
    for part, n in SIZES.items():
        arrays[f"{part}_images"] = rng.integers(0, 255, (n, 12, 12, 12), dtype=np.uint8)
        arrays[f"{part}_labels"] = (rng.random((n, 1)) < 0.22).astype(np.uint8)
    np.savez(folder / "drawn.npz", **arrays)
    return folder / "drawn.npz"


def finish(cell: Cell, material: ComparisonData, rng: np.random.Generator) -> None:
    """Leave what a trained cell leaves."""

    def work():
        for part in ("calibration", "test"):
            of = material.volumes.subset(material.splits[cell.fold].part(part))
            signal = np.stack([1.5 - of.labels, 3.0 * of.labels - 1.5], axis=1)
            logits = signal + rng.normal(size=(len(of), 2)) * 2
            features = np.zeros((len(of), 32), np.float32)
            stored = Predictions(of.scan_ids, of.subjects, logits, of.labels, features, of.class_names)
            yield stored.save(cell.folder / f"{part}.npz")
        yield write_json(cell.folder / PRIOR_CORRECTION, {"scale": [1.0, 1.0], "offset": [0.0, 0.0]})
        epochs = [{"epoch": n, "loss": 0.5, "validation_nll": 0.5, "seconds": 1.0} for n in range(20)]
        yield write_json(cell.folder / "training" / "training.json", {"history": epochs, "best_epoch": 19})

    run_once(cell.folder / RECORD, cell.key, work)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cells", type=int, default=500)
    arguments.add_argument("--draws", type=int, default=2000)
    asked = arguments.parse_args()
    set_quiet_defaults()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        study = Study(
            name="resume",
            output=folder / "out",
            cohort={"kind": "medmnist", "path": archive(folder), "classes": ["normal", "mass"]},
            evaluation={"draws": asked.draws},
            compare={
                "losses": [{"name": "ce", "label": f"loss {n}"} for n in range(LOSSES)],
                "baseline": "loss 0",
                "seeds": list(range(asked.cells // LOSSES)),
            },
        )
        material = load_material(study)
        rng = np.random.default_rng(2)
        for cell in plan(study, material):
            finish(cell, material, rng)
        for what in ("first conclusion, every cell logged in MLflow", "resume up to the statistics"):
            wall, cpu = time.perf_counter(), time.process_time()
            cells = plan(study, material)
            failed = train_cells(study, material, cells, ComparisonLog(study, material))
            assert not failed
            print_time(f"{what}, {len(cells)} cells", wall, cpu)
        wall, cpu = time.perf_counter(), time.process_time()
        results = results_of(material, cells)
        print_time("reading the logits", wall, cpu)
        wall, cpu = time.perf_counter(), time.process_time()
        compare_at_stages(study, results, lambda *_: None)
        print_time(f"statistics, 3 stages, {asked.draws} draws", wall, cpu)


def print_time(what: str, wall: float, cpu: float) -> None:
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what}: {wall:.1f} s by the clock, {cpu:.1f} s of processor", flush=True)


if __name__ == "__main__":
    main()
