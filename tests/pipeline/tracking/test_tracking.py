"""Runs, versions and aliases in a real SQLite store."""

from __future__ import annotations

import multiprocessing

import pytest

from pipeline import tracking
from pipeline.config import TrackingSettings
from pipeline.errors import InputError
from pipeline.tracking import RunRecord, log_run, promote, store_of


@pytest.fixture
def store(tmp_path):
    return store_of(TrackingSettings(), tmp_path)


def record(key: str = "k", **more) -> RunRecord:
    given = {"params": {"loss": "gce"}, "tags": {"data.digest": "abc"}, "metrics": {"nll": 0.5}} | more
    return RunRecord("a run", key, **given)


def test_a_run_keeps_params_curves_files_and_no_name_of_a_person(store, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("x")
    curves = [{"loss": 1.0}, {"loss": 0.5}]
    run_id = log_run(store, record(curves=curves), tmp_path / "files")
    run = store.client().get_run(run_id)
    assert run.data.params == {"loss": "gce"}
    assert run.data.metrics == {"nll": 0.5, "loss": 0.5}
    assert [m.value for m in store.client().get_metric_history(run_id, "loss")] == [1.0, 0.5]
    assert [f.path for f in store.client().list_artifacts(run_id)] == ["a.txt"]
    assert run.data.tags["mlflow.user"] == ""
    assert run.info.status == "FINISHED"


def test_the_same_key_is_logged_once_and_an_unfinished_run_is_replaced(store):
    first = log_run(store, record())
    assert log_run(store, record()) == first
    client = store.client()
    client.set_terminated(first, "KILLED")
    second = log_run(store, record())
    assert second != first
    assert log_run(store, record("other")) not in (first, second)


def make_version(store, n: int) -> int:
    client = store.client()
    if n == 1:
        client.create_registered_model(store.model_name)
    return int(client.create_model_version(store.model_name, f"file:///nowhere/{n}").version)


def test_promotion_keeps_the_one_before_and_rollback_swaps(store):
    one, two = make_version(store, 1), make_version(store, 2)
    promote(store, one)
    with pytest.raises(InputError, match="no previous champion to roll back to"):
        tracking.champion_and_previous(store)
    promote(store, two)
    assert (tracking.champion_version(store), tracking.champion_version(store, tracking.PREVIOUS)) == (
        two,
        one,
    )
    now, before = tracking.champion_and_previous(store)
    tracking.point(store, before, now)
    assert tracking.champion_version(store) == one
    assert tracking.champion_version(store, tracking.PREVIOUS) == two
    promote(store, one)
    assert tracking.champion_version(store, tracking.PREVIOUS) == two, (
        "promoting the champion changes nothing"
    )


def open_store(store) -> str | None:
    return tracking.try_store(store)


def test_a_pinned_name_stays_the_version_its_alias_pointed_to(store):
    with pytest.raises(InputError, match="the store does not exist yet"):
        tracking.pinned(store, "@champion")
    one, two = make_version(store, 1), make_version(store, 2)
    with pytest.raises(InputError, match="no version has this alias"):
        tracking.pinned(store, "@champion")
    promote(store, one)
    names = [tracking.pinned(store, f"{place}@champion") for place in ("", f"models:/{store.model_name}")]
    promote(store, two)
    assert names == [f"models:/{store.model_name}/{one}"] * 2
    assert tracking.origin(store, names[0])[0] == str(one)
    assert tracking.pinned(store, names[0]) == names[0]


def test_two_processes_may_open_a_new_store_at_once(store):
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        assert pool.map(open_store, [store] * 2) == [None] * 2


def test_a_store_that_cannot_be_reached_is_told_with_its_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is where the output folder should be"):
        store_of(TrackingSettings(), tmp_path / "file").client()
    (tmp_path / "torn.db").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match=r"cannot be opened.*tracking\.uri"):
        store_of(TrackingSettings(uri=f"sqlite:///{tmp_path / 'torn.db'}"), tmp_path).client()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("3", r"name models:/taucal/3\.$"),
        ("champion", r"name @champion\.$"),
        ("study/clasifier", r"^--model: study/clasifier is neither a folder .* name @champion\.$"),
    ],
)
def test_a_name_that_no_model_can_have_is_refused_with_those_that_it_may_be(store, name, advice):
    with pytest.raises(InputError, match=advice):
        tracking.load_classifier(store, name)


def test_the_folder_of_a_study_is_no_classifier_but_holds_one(store, tmp_path):
    (tmp_path / "study" / "classifier").mkdir(parents=True)
    with pytest.raises(InputError, match=r"a study's folder\. Name .*study/classifier"):
        tracking.load_classifier(store, str(tmp_path / "study"))


def test_a_model_that_is_not_registered_says_what_to_run(store):
    with pytest.raises(InputError, match="taucal train"):
        tracking.load_classifier(store)
