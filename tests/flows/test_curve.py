"""A learning curve: nested shares on the same test scans, nothing trained twice, one failure stops nobody."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from tiny_volumes import write_archive

from flows.compare import compare_losses
from flows.comparison import cells
from flows.comparison.cells import plan_sizes
from flows.comparison.comparison_data import load_material
from flows.curve import learning_curve
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import ConfigError, TrainingError
from pipeline.files import read_json
from pipeline.reporting.page.facts import with_minus

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A MedMNIST archive of 150 small volumes; class 1 is brighter in the middle."""
    return write_archive(
        tmp_path_factory.mktemp("medmnist"), {"train": 96, "val": 24, "test": 30}, contrast=40
    )


def study(archive: Path, output: Path, **others) -> Study:
    return Study(
        name="tiny",
        output=output,
        cohort={"kind": "medmnist", "path": archive, "classes": ["dark", "bright"]},
        augmentation={"probability": 0},
        training={"epochs": 2, "batch_size": 12, "loss": {"name": "gce", "options": {"weight": 1.0}}},
        evaluation={"draws": 100},
        compare={"seeds": [0, 1, 2]},
        **({"curve": {"shares": [0.25, 0.5, 1]}} | others),
    )


@pytest.fixture(scope="module")
def drawn(archive, tmp_path_factory):
    """A finished learning curve: its study and what it returned."""
    made = study(archive, tmp_path_factory.mktemp("curve") / "out")
    return made, learning_curve(made)


@pytest.fixture
def copied(drawn, tmp_path) -> Study:
    """The study of the finished curve in a folder of its own, which a test may change."""
    made, _ = drawn
    shutil.copytree(made.output, tmp_path / "out")
    return made.model_copy(update={"output": tmp_path / "out"})


@pytest.mark.slow
def test_every_size_and_seed_is_trained_and_the_table_has_all_sizes(drawn):
    made, result = drawn
    folders = {f"gce{part}-seed{s}" for part in ("-25percent", "-50percent", "") for s in range(3)}
    assert {p.name for p in (made.output / "cells").iterdir()} == folders
    table = pd.read_csv(result["csv"]).set_index(["subjects", "metric"])
    assert {size for size, _ in table.index} == {"25 %", "50 %", "100 %"}
    scans = [table.loc[(size, "macro_auroc"), "training_scans"] for size in ("25 %", "50 %", "100 %")]
    assert scans[2] == pytest.approx(2 * scans[1], abs=2)
    assert scans[2] == pytest.approx(4 * scans[0], abs=4)
    assert len(result["twice"]) == 3
    page = Path(result["html"]).read_text()
    assert all(with_minus(sentence) in page for sentence in result["twice"])
    assert result["failed"] == []


@pytest.mark.slow
def test_the_runs_are_in_mlflow_below_one_that_has_the_page(drawn):
    made, result = drawn
    store = tracking.store_of(made.tracking, made.output)
    runs = store.client().search_runs([store.experiment_id()])
    (parent,) = [run for run in runs if run.info.run_id == result["run_id"]]
    assert parent.info.run_name == "tiny: learning curve"
    assert parent.data.metrics["25_percent.negative_log_likelihood"] > 0
    assert "curve.html" in {f.path for f in store.client().list_artifacts(result["run_id"])}
    others = {run.info.run_name: run.data.params for run in runs if run is not parent}
    assert others["gce, 25 % of subjects, seed 1"]["subjects"] == "25 %"
    assert len(others) == 9


def test_shares_are_nested_and_only_the_training_part_changes(archive, tmp_path):
    made = study(archive, tmp_path / "out")
    material = load_material(made)
    whole = material.splits[0]
    by_seed: dict[int, list[set[str]]] = {}
    for cell in plan_sizes(made, material):
        split = cell.split(material)
        assert (split.validation, split.calibration, split.test) == (
            whole.validation, whole.calibration, whole.test,
        )  # fmt: skip
        by_seed.setdefault(cell.seed, []).append(set(split.train))
    for small, half, everything in by_seed.values():
        assert small < half < everything == set(whole.train)
    assert by_seed[0][0] != by_seed[1][0]


@pytest.mark.slow
def test_a_finished_curve_trains_nothing_and_a_new_share_only_its_own(drawn, copied, monkeypatch):
    made, before = drawn
    trained: list[str] = []
    real = cells.train
    monkeypatch.setattr(cells, "train", lambda *given: trained.append(given[3].parent.name) or real(*given))
    assert learning_curve(made) == before
    assert trained == []
    others = made.curve.model_copy(update={"shares": (0.25, 0.75, 1.0)})
    learning_curve(copied.model_copy(update={"curve": others}))
    assert trained == [f"gce-75percent-seed{seed}" for seed in range(3)]


@pytest.mark.slow
def test_the_cells_with_all_subjects_are_those_of_a_comparison(copied, monkeypatch):
    losses = ({"name": "ce"}, {"name": "gce", "options": {"weight": 1.0}})
    compared = Study.model_validate(copied.model_dump() | {"compare": {"seeds": [0], "losses": losses}})
    trained: list[str] = []
    real = cells.train
    monkeypatch.setattr(cells, "train", lambda *given: trained.append(given[3].parent.name) or real(*given))
    compare_losses(compared)
    assert trained == ["ce-seed0"]


@pytest.mark.slow
def test_a_failed_cell_is_reported_and_its_seed_left_out_at_every_size(archive, tmp_path, monkeypatch):
    made = study(archive, tmp_path / "out")
    made = made.model_copy(update={"compare": made.compare.model_copy(update={"retries": 0})})
    real = cells.train

    def fails(*given):
        if given[3].parent.name == "gce-50percent-seed1":
            raise TrainingError("The loss is nan")
        return real(*given)

    monkeypatch.setattr(cells, "train", fails)
    result = learning_curve(made)
    assert result["failed"] == ["gce, 50 % of subjects, seed 1: The loss is nan"]
    facts = read_json(Path(result["json"]))
    assert facts["seeds"] == [0, 2]
    assert "Some trainings failed" in " ".join(facts["cautions"])


def test_shares_that_do_not_ascend_to_one_are_refused_before_anything_is_trained(archive, tmp_path):
    for shares in ([0.5, 0.25, 1], [0.25, 0.5], [0.5, 0.5, 1]):
        with pytest.raises((ConfigError, ValueError), match=r"curve\.shares: .* do not ascend to 1"):
            learning_curve(study(archive, tmp_path / "out", curve={"shares": shares}))
    assert not (tmp_path / "out").exists()
