"""A long tail in a study: that of CIFAR-10, whole, on a tiny set as published; of volumes and of scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.compare import compare_losses
from flows.learning.cohorts import split_cohort, split_of
from pipeline.config import Study, load_study
from pipeline.errors import CohortError
from pipeline.learning.predictions import Predictions
from pipeline.scan import PARTS, Cohort, Scan

CONFIG = Path(__file__).parents[2] / "configs" / "cifar10_lt.yaml"
QUICK = (
    "network.name=small_cnn",
    "network.options={width: 4}",
    "training.epochs=1",
    "training.warmup_epochs=0",
    "training.batch_size=16",
    "evaluation.draws=50",
    "compare.seeds=[0]",
    "compare.losses=[{name: ce, label: CE}, "
    "{name: gce_logit_adjusted, label: GCE + logit adjustment, options: {weight: 1.0}}]",
)


@pytest.fixture(scope="module")
def tiny_cifar(tmp_path_factory) -> Path:
    """10 images a class in the training batches together, 5 in the test batch; a class is a brightness."""
    folder = tmp_path_factory.mktemp("data") / "cifar-10-batches-bin"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for name, each in [(f"data_batch_{n}.bin", 2) for n in range(1, 6)] + [("test_batch.bin", 5)]:
        labels = (np.arange(10 * each) % 10).astype(np.uint8)
        pixels = rng.integers(0, 30, (10 * each, 3072)) + 22 * labels[:, None]
        (folder / name).write_bytes(np.hstack([labels[:, None], pixels.astype(np.uint8)]).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(f"class {k}" for k in range(10)) + "\n")
    return folder


def study(cohort: Path, output: Path, *more: str) -> Study:
    given = (f"cohort.path={cohort}", f"output={output}", "imbalance.ratio=4", *QUICK, *more)
    last = {change.partition("=")[0]: change for change in given}  # a key given twice is refused
    return load_study(CONFIG, tuple(last.values()))


@pytest.mark.server
def test_the_shipped_study_compares_losses_on_a_long_tail(tiny_cifar, tmp_path):
    made = study(tiny_cifar, tmp_path / "out")
    result = compare_losses(made)
    assert result["failed"] == []
    assert set(pd.read_csv(result["csv"])["loss"]) == {"CE", "GCE + logit adjustment"}
    test = Predictions.load(next(made.output.glob("cells/*/test.npz")))
    assert test.logits.shape == (50, 10)
    assert np.bincount(test.labels).tolist() == [5] * 10


def test_the_tail_is_cut_from_the_training_part_alone(tiny_cifar, tmp_path):
    found = split_cohort(study(tiny_cifar, tmp_path))
    assert found.part("train").class_counts == (8, 6, 5, 5, 4, 3, 3, 2, 2, 2)
    held_out = {part: found.part(part).class_counts for part in PARTS[1:]}
    assert found.sizes().startswith("train 40 (8/6/5/5/4/3/3/2/2/2), validation 10 (1/1/1")
    assert held_out == {"validation": (1,) * 10, "calibration": (1,) * 10, "test": (5,) * 10}


def test_a_tail_too_steep_for_the_cohort_names_the_classes(tiny_cifar, tmp_path):
    with pytest.raises(
        CohortError,
        match=r"imbalance.ratio: A ratio of 100 leaves no .* class 5 \(of 8\).* class 9 \(of 8\)\.",
    ):
        split_cohort(study(tiny_cifar, tmp_path, "imbalance.ratio=100"))


def test_a_published_split_of_volumes_gets_its_tail_too(tmp_path, rng):
    arrays = {}
    for part, n in (("train", 60), ("val", 10), ("test", 10)):
        arrays[f"{part}_images"] = rng.integers(0, 255, (n, 12, 12, 12), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n) % 2).astype(np.uint8)[:, None]
    np.savez(tmp_path / "set.npz", **arrays)
    made = study(tmp_path / "set.npz", tmp_path / "out", "cohort.kind=medmnist", "imbalance.ratio=5")
    found = split_cohort(made)
    assert found.part("train").class_counts == (29, 5)
    assert found.part("test").class_counts == (5, 5)


def test_a_cohort_of_scans_gets_its_tail_too(tmp_path):
    scans = [Scan(f"{n:03}", "M00", Path(), diagnosis=("CN", "AD")[n % 2]) for n in range(100)]
    cohort = Cohort(tuple(scans), ("CN", "AD"))
    made = Study(name="scans", output=tmp_path, cohort={"path": tmp_path, "classes": ["CN", "AD"]})
    made = made.model_copy(update={"calibration": made.calibration.model_copy(update={"scheme": "split"})})
    rarer = made.model_copy(update={"imbalance": made.imbalance.model_copy(update={"ratio": 4.0})})
    whole, tail = split_of(made, cohort), split_of(rarer, cohort)
    assert np.bincount(cohort.subset(whole.train).labels).tolist() == [22, 22]
    assert np.bincount(cohort.subset(tail.train).labels).tolist() == [22, 5]
    assert [tail.part(part) for part in PARTS[1:]] == [whole.part(part) for part in PARTS[1:]]


def test_sizes_of_many_classes_are_told_by_the_fewest_and_the_most(tmp_path, rng):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name, each in (("train.bin", 12), ("test.bin", 3)):
        labels = (np.arange(20 * each) % 20).astype(np.uint8)[:, None]
        pixels = rng.integers(0, 256, (20 * each, 3072), dtype=np.uint8)
        (folder / name).write_bytes(np.hstack([labels // 5, labels, pixels]).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(f"class {k}" for k in range(20)))
    found = split_cohort(study(folder, tmp_path / "out", "cohort.kind=cifar100"))
    assert found.sizes() == (
        "train 100 (2 to 10 a class), validation 20 (1 to 1 a class), calibration 20 (1 to 1 a class), "
        "test 60 (3 to 3 a class) scans of 20 classes"
    )
