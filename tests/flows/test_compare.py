"""Comparing losses: equal conditions, nothing done twice, one failed cell stops nobody."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from tiny_volumes import write_archive

from flows.compare import compare_losses
from flows.ingestion.ingest_tables import COHORT_TABLE
from models.calibrators import CALIBRATORS, build_calibrator
from pipeline import tracking
from pipeline.atlas import AFFINE, SHAPE
from pipeline.config import LossSettings, Study
from pipeline.errors import ConfigError
from pipeline.files import read_json
from pipeline.learning.predictions import Predictions
from pipeline.scan import Cohort, Scan

pytestmark = pytest.mark.server
GCE = {"name": "gce", "options": {"weight": 1.0}}
FOCAL = {"name": "focal", "options": {"gamma": 3.0}}
"""With their main option stated, so that they are not tuned."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A MedMNIST archive of 90 small volumes; class 1 is brighter in the middle."""
    return write_archive(
        tmp_path_factory.mktemp("medmnist"), {"train": 48, "val": 18, "test": 24}, contrast=120
    )


def study(archive: Path, output: Path, losses=({"name": "ce"}, GCE), seeds=(0, 1), **training) -> Study:
    return Study(
        name="tiny",
        output=output,
        cohort={"kind": "medmnist", "path": archive, "classes": ["dark", "bright"]},
        augmentation={"probability": 0},
        training={"epochs": 2, "batch_size": 12} | training,
        evaluation={"draws": 100},
        compare={"losses": losses, "seeds": seeds, "baseline": "ce"},
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
    assert set(table["calibration"]) == {
        "uncalibrated",
        "temperature scaling",
        "adaptive temperature scaling",
    }
    assert {"negative_log_likelihood", "recall: bright", "set_coverage", "set_coverage: dark"} <= set(
        table["metric"]
    )
    assert "posterior_error" not in set(table["metric"])
    assert (table["seeds"] == 2).all()
    assert result["failed"] == []
    page = Path(result["html"]).read_text()
    assert page.count("gce is ") == 3
    assert page.count('alt="Reliability of ') == 2


def test_any_calibrator_can_be_asked_for_and_needs_no_other_training(compared, tmp_path):
    made, before = compared
    shutil.copytree(made.output, tmp_path / "out")
    asked = made.compare.model_copy(update={"calibrators": tuple(sorted(set(CALIBRATORS) - {"identity"}))})
    trained = {p: p.stat().st_mtime_ns for p in made.output.glob("cells/*/training/*")}
    result = compare_losses(made.model_copy(update={"output": tmp_path / "out", "compare": asked}))
    assert {p: p.stat().st_mtime_ns for p in made.output.glob("cells/*/training/*")} == trained
    found, first = (
        pd.read_csv(r["csv"]).set_index(["loss", "calibration", "metric"]) for r in (result, before)
    )
    assert set(found.index.get_level_values("calibration")) == {
        "uncalibrated", "temperature scaling", "adaptive temperature scaling", "ensemble temperature scaling",
        "vector scaling", "Dirichlet calibration", "isotonic regression", "histogram binning",
        "bias-corrected temperature scaling",
    }  # fmt: skip
    pd.testing.assert_frame_equal(found.loc[first.index], first)
    assert Path(result["html"]).read_text().count("gce is ") == 9
    store = tracking.store_of(made.tracking, tmp_path / "out")
    runs = store.client().search_runs([store.experiment_id()], "tags.`mlflow.parentRunId` != ''")
    told = [run.data.metrics.get("vector_scaling.negative_log_likelihood") for run in runs]
    assert sum(value is not None for value in told) == 4


def test_an_unknown_calibrator_is_refused_before_anything_is_trained(archive, tmp_path):
    made = study(archive, tmp_path / "out")
    asked = made.compare.model_copy(update={"calibrators": ("platt",)})
    with pytest.raises(ConfigError, match=r"compare\.calibrators: there is no 'platt'"):
        compare_losses(made.model_copy(update={"compare": asked}))
    assert not (tmp_path / "out").exists()


def test_figures_pool_the_seeds_and_count_each_test_scan_once(compared):
    made, result = compared
    rated = pd.read_csv(Path(result["figures"]) / "reliability.csv")
    scans = rated.groupby(["loss", "calibration"])["scans"].sum()
    assert len(scans) == 2 * 3
    np.testing.assert_allclose(scans, 24)
    risks = pd.read_csv(Path(result["figures"]) / "risk_coverage.csv")
    mine = risks[(risks["loss"] == "gce") & (risks["calibration"] == "temperature scaling")]
    table = pd.read_csv(result["csv"]).set_index(["loss", "calibration", "metric"])["value"]
    # With a point for each of the 24 scans, the mean risk is the area.
    assert mine["risk"].mean() == pytest.approx(table["gce", "temperature scaling", "risk_coverage_area"])
    logged = (
        tracking.store_of(made.tracking, made.output).client().list_artifacts(result["run_id"], "figures")
    )
    assert {"figures/reliability.csv", "figures/risk_coverage.svg"} <= {entry.path for entry in logged}


def test_a_cell_is_a_child_run_with_settings_curves_and_metrics_logged_once(compared):
    made, result = compared
    compare_losses(made)
    store = tracking.store_of(made.tracking, made.output)
    runs = store.client().search_runs([store.experiment_id()])
    (parent,) = [run for run in runs if run.info.run_id == result["run_id"]]
    cells = {run.info.run_name: run for run in runs if run is not parent}
    assert set(cells) == {f"{loss}, seed {seed}" for loss in ("ce", "gce") for seed in (0, 1)}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in cells.values()} == {result["run_id"]}
    one = cells["gce, seed 1"]
    assert one.data.params["training.epochs"] == "2"
    history = store.client().get_metric_history(one.info.run_id, "loss")
    assert [point.step for point in history] == [0, 1]
    table = pd.read_csv(result["csv"]).set_index(["loss", "calibration", "metric"])["value"]
    both = [cells[f"gce, seed {seed}"].data.metrics["temperature_scaling.classwise_ece"] for seed in (0, 1)]
    assert np.mean(both) == pytest.approx(table["gce", "temperature scaling", "classwise_ece"])
    kept = parent.data.metrics["temperature_scaling.gce.classwise_ece"]
    assert kept == pytest.approx(table["gce", "temperature scaling", "classwise_ece"])
    assert parent.data.tags["compare.losses"] == "ce, gce"


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


@pytest.mark.slow
def test_one_more_loss_runs_only_what_is_missing(archive, tmp_path):
    one = study(archive, tmp_path / "out", seeds=(0,), losses=({"name": "ce"},))
    compare_losses(one)
    logits = {p: p.stat().st_mtime_ns for p in one.output.glob("cells/*/test.npz")}
    compare_losses(study(archive, one.output, seeds=(0,), losses=({"name": "ce"}, FOCAL)))
    now = {p: p.stat().st_mtime_ns for p in one.output.glob("cells/*/test.npz")}
    assert len(now) == len(logits) + 1 == 2
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
    made = study(archive, tmp_path)
    asked = made.compare.model_copy(update={"losses": (LossSettings(name="gce"),)})
    with pytest.raises(ConfigError, match=r"compare\.baseline: 'ce' is not among compare\.losses \(gce\)"):
        compare_losses(made.model_copy(update={"compare": asked}))


def test_folds_of_a_published_split_are_refused(archive, tmp_path):
    made = study(archive, tmp_path)
    folds = made.model_copy(update={"compare": made.compare.model_copy(update={"folds": 3})})
    with pytest.raises(ConfigError, match=r"compare\.folds: 3 folds cannot replace the published split"):
        compare_losses(folds)


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """An ingested cohort of 32 small-headed scans with known posterior; AD is brighter in the middle."""
    bids = tmp_path_factory.mktemp("scans") / "bids"
    rng = np.random.default_rng(4)
    found = []
    for n in range(32):
        chance = (0.1, 0.8)[n % 2]
        array = np.full(SHAPE, 0.5 + 0.1 * rng.random(), dtype=np.float32)
        array[40:60, 50:70, 40:60] += 2 * chance
        path = bids / f"{n:02}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, AFFINE), path)
        label = ("CN", "AD")[int(rng.random() < chance)]
        found.append(Scan(f"{n:02}", "M00", path.resolve(), diagnosis=label, posterior=(1 - chance, chance)))
    Cohort(tuple(found), ("CN", "AD")).write_tsv(bids / COHORT_TABLE)
    return bids


@pytest.mark.slow
def test_folds_on_workers_test_every_subject_once_against_the_known_posterior(scans, tmp_path):
    made = Study(
        name="folds",
        output=tmp_path / "out",
        cohort={"path": scans, "classes": ["CN", "AD"]},
        preprocessing={"spacing_mm": 8},
        network={"options": {"width": 4}},
        training={"epochs": 1, "batch_size": 8},
        evaluation={"draws": 50},
        compare={
            "losses": ({"name": "ce"}, GCE),
            "seeds": [7],
            "folds": 2,
            "runner": "processes",
            "workers": 2,
        },
    )
    result = compare_losses(made)
    assert result["failed"] == []
    names = sorted(p.name for p in (made.output / "cells").iterdir())
    assert names == ["ce-seed7-fold0", "ce-seed7-fold1", "gce-seed7-fold0", "gce-seed7-fold1"]
    tested = [Predictions.load(made.output / "cells" / n / "test.npz").subjects for n in names[:2]]
    assert sorted(tested[0] + tested[1]) == [f"{n:02}" for n in range(32)]
    table = pd.read_csv(result["csv"]).set_index(["loss", "calibration", "metric"])
    assert (table["folds"] == 2).all()
    error = table.loc[("gce", "temperature scaling", "posterior_error")]
    assert 0 < error["value"] < 1
    assert np.isfinite(error["difference_p"])
    truth = pd.read_csv(scans / COHORT_TABLE, sep="\t", dtype={"subject": str}).set_index("subject")
    labels = (truth["diagnosis"] == "AD").to_numpy().astype(int)
    columns = truth[["posterior_CN", "posterior_AD"]].to_numpy()
    oracle = -np.log(columns[np.arange(32), labels]).mean()
    nll = table.loc[("gce", "uncalibrated", "negative_log_likelihood"), "value"]
    assert table.loc[("gce", "uncalibrated", "excess_nll"), "value"] == pytest.approx(nll - oracle)
    page = Path(result["html"]).read_text()
    assert "1 seed x 2 folds" in page
    assert "calibrated on the scans that the other folds held out" in page
    assert result["run_id"][:12] in page
    # Below 1,000 scans the other folds calibrate: no part is left out of training for it.
    assert not list(made.output.glob("cells/*/calibration.npz"))
    halves = [Predictions.load(made.output / "cells" / n / "test.npz") for n in names[:2]]
    fitted = [build_calibrator("temperature").fit(half.logits, half.labels) for half in halves]
    nll = np.concatenate(
        [
            -np.log(fitted[1 - n].transform(half.logits)[np.arange(len(half)), half.labels])
            for n, half in enumerate(halves)
        ]
    )
    calibrated = table.loc[("ce", "temperature scaling", "negative_log_likelihood"), "value"]
    assert calibrated == pytest.approx(nll.mean())


@pytest.mark.slow
def test_tuned_losses_try_three_values_once_and_every_batch_size_has_its_tables(archive, tmp_path):
    made = study(archive, tmp_path / "out", losses=({"name": "ce"}, {"name": "focal"}), epochs=1)
    asked = made.compare.model_copy(update={"batch_sizes": (8, 16)})
    made = made.model_copy(update={"compare": asked})
    result = compare_losses(made)
    assert result["failed"] == []
    names = [p.name for p in (made.output / "cells").iterdir()]
    focal = [name for name in names if name.startswith("focal")]
    # Three values with the first seed and the chosen one with the second, at two batch sizes.
    assert len(focal) == 2 * (3 + 1)
    assert sorted(set(names) - set(focal)) == [
        f"ce-batch{size}-seed{seed}" for size in (16, 8) for seed in (0, 1)
    ]
    report = read_json(Path(result["json"]))
    assert len(report["tuned"]) == 2
    for one in report["tuned"]:
        assert one["tried"] == ["gamma=1", "gamma=2", "gamma=3"]
        assert one["chosen"] == one["tried"][int(np.argmin(one["nll"]))]
        assert f"focal-{one['chosen']}-batch{one['batch_size']}-seed1" in focal
    assert [stage["name"] for stage in report["stages"]] == [
        f"{stage}, batch {size}"
        for size in (8, 16)
        for stage in ("uncalibrated", "temperature scaling", "adaptive temperature scaling")
    ]
    assert set(pd.read_csv(result["csv"])["loss"]) == {"ce", "focal"}
    written = {p: p.stat().st_mtime_ns for p in made.output.glob("cells/*/test.npz")}
    assert compare_losses(made)["run_id"] == result["run_id"] == report["run_id"]
    assert {p: p.stat().st_mtime_ns for p in made.output.glob("cells/*/test.npz")} == written
