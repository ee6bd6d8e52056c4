"""A step is done once, and done again when anything it depends on changed."""

from __future__ import annotations

import shutil

import pytest

from flows.running.steps import is_done, run_once
from pipeline.files import write_json


@pytest.fixture
def step(tmp_path):
    """A step that counts how often it was done and writes one file."""
    done = []

    def work():
        done.append(1)
        (tmp_path / "out.txt").write_text("result")
        return [tmp_path / "out.txt"]

    return tmp_path / "records" / "step.json", work, done


def test_the_second_time_nothing_is_done(step):
    record, work, done = step
    assert run_once(record, "key", work)
    assert not run_once(record, "key", work)
    assert len(done) == 1


def test_another_key_does_it_again(step):
    record, work, done = step
    run_once(record, "one", work)
    assert run_once(record, "two", work)
    assert len(done) == 2


@pytest.mark.parametrize("damage", ["missing file", "shorter file", "torn record"])
def test_damage_is_noticed(step, tmp_path, damage):
    record, work, done = step
    run_once(record, "key", work)
    if damage == "missing file":
        (tmp_path / "out.txt").unlink()
    elif damage == "shorter file":
        (tmp_path / "out.txt").write_text("res")
    else:
        record.write_text('{"key": "k')
    assert run_once(record, "key", work)
    assert len(done) == 2


def test_a_folder_that_was_moved_or_copied_keeps_what_is_done(step, tmp_path):
    record, work, done = step
    run_once(record, "key", work)
    copy, moved = tmp_path / "copy", tmp_path / "Study #1, 50 %"
    shutil.copytree(tmp_path / "records", copy / "records")
    shutil.copy(tmp_path / "out.txt", copy)
    (tmp_path / "out.txt").unlink()
    copy.rename(moved)
    assert not run_once(moved / "records" / "step.json", "key", work)
    assert not is_done(record, "key"), "its file is gone"
    assert len(done) == 1


def test_a_record_of_an_older_program_with_absolute_names_is_read(step, tmp_path):
    record, work, _ = step
    work()
    write_json(record, {"key": "key", "files": {str(tmp_path / "out.txt"): 6}})
    assert not run_once(record, "key", work)
    (tmp_path / "out.txt").unlink()
    assert run_once(record, "key", work)


def test_a_failed_step_is_not_remembered(step):
    record, work, done = step

    def fail():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run_once(record, "key", fail)
    assert not record.exists()
    assert run_once(record, "key", work)
    assert done
