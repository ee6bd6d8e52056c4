"""A run is there while its training goes on: epochs, parts, cohort, and what an end leaves."""

from __future__ import annotations

import json

import pytest

from pipeline import tracking
from pipeline.config import TrackingSettings
from pipeline.tracking import RunRecord

HISTORY = [{"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0}]


@pytest.fixture
def store(tmp_path):
    return tracking.store_of(TrackingSettings(), tmp_path / "jane.q.doe")


def record(**more) -> RunRecord:
    cohort = {"digest": "d1", "scans": 56, "classes": {"CN": 30, "MCI": 16, "AD": 10}}
    return RunRecord("demo", "key", {"loss": "gce"}, {}, {}, cohort=cohort, **more)


def runs(store) -> dict:
    found = store.client().search_runs([store.experiment_id()])
    return {run.info.run_name: run for run in found}


def losses(store, name: str = "demo") -> list[tuple[int, float]]:
    history = store.client().get_metric_history(runs(store)[name].info.run_id, "loss")
    return sorted((metric.step, metric.value) for metric in history)


def test_epochs_are_seen_as_they_come_and_each_is_logged_once(store):
    with tracking.open_run(store, record()):
        tracking.log_epoch(1, HISTORY[0])
        run = runs(store)["demo"]
        assert (run.info.status, run.data.params["loss"]) == ("RUNNING", "gce")
        tracking.log_epoch(2, HISTORY[1])
        assert losses(store) == [(0, 3.0), (1, 2.0)]
        # The third came while MLflow did not answer.
        assert tracking.log_run(store, record(curves=HISTORY)) == run.info.run_id
    assert losses(store) == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert runs(store)["demo"].info.status == "FINISHED"
    with tracking.open_run(store, record()):
        tracking.log_epoch(9, {"loss": 0.0})
    assert len(losses(store)) == 3, "a finished run is not begun again"


def test_the_cohort_is_the_dataset_of_the_run_and_names_no_folder(store):
    with tracking.open_run(store, record()):
        pass
    (shown,) = runs(store)["demo"].inputs.dataset_inputs
    assert (shown.dataset.name, shown.dataset.digest) == ("demo", "d1")
    assert json.loads(shown.dataset.profile)["classes"] == {"CN": 30, "MCI": 16, "AD": 10}
    assert "jane" not in f"{shown.dataset.source} {shown.dataset.profile}"


def test_folds_are_nested_runs(store):
    with tracking.open_run(store, record()):
        for n in (1, 2):
            tracking.log_part(f"fold {n} of 2", HISTORY[:n], {"fold": n})
    parent = runs(store)["demo"].info.run_id
    for n in (1, 2):
        part = runs(store)[f"fold {n} of 2"]
        assert part.data.tags["mlflow.parentRunId"] == parent
        assert (part.info.status, part.data.tags["mlflow.user"]) == ("FINISHED", "")
        assert len(losses(store, f"fold {n} of 2")) == n


def test_a_fold_that_is_trained_elsewhere_shows_its_epochs_as_they_come(store):
    with tracking.open_run(store, record()):
        for _ in range(2):  # begun again, an epoch comes twice
            tracking.log_part_epoch("fold 1 of 2", {"fold": 1}, 1, HISTORY[0])
        part = runs(store)["fold 1 of 2"]
        assert (part.info.status, losses(store, "fold 1 of 2")) == ("RUNNING", [(0, 3.0)])
        tracking.log_part("fold 1 of 2", HISTORY, {"fold": 1})
        tracking.log_part_epoch("fold 2 of 2", {"fold": 2}, 1, HISTORY[0])
        tracking.log_part("fold 2 of 2", HISTORY[:1], {"fold": 2})
        tracking.log_run(store, record())
    found = runs(store)
    assert {name: run.info.status for name, run in found.items()} == dict.fromkeys(found, "FINISHED")
    assert len(found) == 3
    assert losses(store, "fold 1 of 2") == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_a_run_elsewhere_that_failed_is_named_so_and_made_anew(store):
    cell = RunRecord("cell", "cell key", {}, {}, {})
    tracking.log_live(store, cell, 1, HISTORY[0])
    tracking.end_live(cell.key)
    tracking.end_live("nobody")
    assert runs(store)["cell"].info.status == "FAILED"
    tracking.log_run(store, cell)
    tracking.log_live(store, cell, 1, HISTORY[0])
    assert (runs(store)["cell"].info.status, losses(store, "cell")) == ("FINISHED", [])


def test_a_failure_ends_the_folds_that_are_under_way(store):
    def fail() -> None:
        with tracking.open_run(store, record()):
            tracking.log_part_epoch("fold 1 of 2", {}, 1, HISTORY[0])
            raise ValueError("the end")

    with pytest.raises(ValueError, match="the end"):
        fail()
    assert {run.info.status for run in runs(store).values()} == {"FAILED"}


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_that_failed_is_named_so_and_made_anew_with_its_parts(store, error, status):
    def fail() -> None:
        with tracking.open_run(store, record()):
            tracking.log_part("fold 1 of 2", HISTORY, {})
            raise error("the end")

    with pytest.raises(error, match="the end"):
        fail()
    assert runs(store)["demo"].info.status == status
    before = {run.info.run_id for run in runs(store).values()}
    with tracking.open_run(store, record()):
        tracking.log_part("fold 1 of 2", HISTORY, {})
        tracking.log_run(store, record())
    assert len(runs(store)) == 2
    assert before.isdisjoint(run.info.run_id for run in runs(store).values())


def test_without_an_open_run_nothing_is_logged(store, tmp_path):
    tracking.log_epoch(1, HISTORY[0])
    tracking.log_part("fold", HISTORY, {})
    assert not (tmp_path / "jane.q.doe").exists()
