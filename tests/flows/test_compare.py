"""Comparing losses: equal conditions, nothing done twice, one failed cell stops nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.compare import compare_losses
from pipeline.config import Study
from pipeline.errors import ConfigError
from pipeline.files import read_json

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A MedMNIST archive of 90 small volumes; class 1 is brighter in the middle."""
    rng = np.random.default_rng(3)
    arrays = {}
    for part, n in (("train", 48), ("val", 18), ("test", 24)):
        labels = np.arange(n) % 3 == 0
        images = rng.integers(0, 90, (n, 12, 12, 12))
        images[labels, 4:8, 4:8, 4:8] += 120
        arrays |= {
            f"{part}_images": images.astype(np.uint8),
            f"{part}_labels": labels.astype(np.uint8)[:, None],
        }
    path = tmp_path_factory.mktemp("medmnist") / "tiny.npz"
    np.savez(path, **arrays)
    return path


def study(archive: Path, output: Path, losses=({"name": "ce"}, {"name": "gce"}), **training) -> Study:
    return Study(
        name="tiny",
        output=output,
        cohort={"kind": "medmnist", "path": archive, "classes": ["dark", "bright"]},
        augmentation={"probability": 0},
        training={"epochs": 2, "batch_size": 12} | training,
        evaluation={"draws": 100},
        compare={"losses": losses, "seeds": [0, 1], "baseline": "ce"},
    )


@pytest.fixture(scope="module")
def compared(archive, tmp_path_factory):
    """A finished comparison: its study and what it returned."""
    made = study(archive, tmp_path_factory.mktemp("compared") / "out")
    return made, compare_losses(made)


def test_every_loss_and_seed_leaves_logits_and_the_table_holds_all(compared):
    made, result = compared
    assert sorted(p.name for p in (made.output / "cells").iterdir()) == [
        "ce-seed0", "ce-seed1", "gce-seed0", "gce-seed1",
    ]  # fmt: skip
    table = pd.read_csv(result["csv"])
    assert set(table["loss"]) == {"ce", "gce"}
    assert set(table["calibration"]) == {"before", "after"}
    assert (table["seeds"] == 2).all()
    assert result["failed"] == []


def test_losses_of_one_seed_start_from_the_same_weights_and_see_the_same_scans(compared):
    made, _ = compared
    ids = [
        np.load(made.output / "cells" / f"{loss}-seed0" / "test.npz")["scan_ids"] for loss in ("ce", "gce")
    ]
    assert ids[0].tolist() == ids[1].tolist()
    first, other = (
        read_json(made.output / "cells" / f"ce-seed{seed}" / "training" / "training.json")["history"]
        for seed in (0, 1)
    )
    assert first != other


def test_the_same_command_again_trains_nothing(compared):
    made, before = compared
    logits = {p: p.stat().st_mtime_ns for p in made.output.glob("cells/*/test.npz")}
    again = compare_losses(made)
    assert {p: p.stat().st_mtime_ns for p in made.output.glob("cells/*/test.npz")} == logits
    assert Path(again["csv"]).read_bytes() == Path(before["csv"]).read_bytes()


def test_one_more_loss_runs_only_what_is_missing(compared, archive):
    made, _ = compared
    logits = {p: p.stat().st_mtime_ns for p in made.output.glob("cells/*/test.npz")}
    compare_losses(study(archive, made.output, losses=({"name": "ce"}, {"name": "gce"}, {"name": "focal"})))
    now = {p: p.stat().st_mtime_ns for p in made.output.glob("cells/*/test.npz")}
    assert len(now) == len(logits) + 2
    assert {p: now[p] for p in logits} == logits


def test_a_cell_that_fails_is_told_and_the_others_go_on(archive, tmp_path):
    # The weight is so large that the loss overflows: a mistake in a study, found while training.
    losses = ({"name": "ce"}, {"name": "symmetric_ce", "options": {"alpha": 1e39}, "label": "broken"})
    result = compare_losses(study(archive, tmp_path / "out", losses=losses))
    assert len(result["failed"]) == 2
    assert all("broken" in failure for failure in result["failed"])
    assert set(pd.read_csv(result["csv"])["loss"]) == {"ce"}
    assert "broken" in Path(result["html"]).read_text()


def test_a_baseline_that_is_not_compared_is_refused(archive, tmp_path):
    with pytest.raises(ConfigError, match="one of the distinct losses gce, got ce"):
        compare_losses(study(archive, tmp_path, losses=({"name": "gce"},)))
