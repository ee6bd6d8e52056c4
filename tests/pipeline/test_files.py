"""Files appear whole or not at all; locks die with their holder; errors survive processes."""

from __future__ import annotations

import multiprocessing
import pickle
import time

import pytest

from pipeline.errors import InputError, LeakageError, RefusedScan
from pipeline.files import exclusive, fingerprint, write_json, write_text, written_whole


def test_a_failed_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")

    def write_half() -> None:
        with written_whole(path) as beside:
            beside.write_text("ne")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power"):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_is_a_file_is_refused_with_its_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be writable"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_json_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_fingerprints_tell_parts_apart():
    assert fingerprint(1, 2) != fingerprint(12)


def hold(lock, held):
    with exclusive(lock, "dataset"):
        held.set()
        time.sleep(60)


def test_a_lock_refuses_names_its_holder_and_dies_with_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "lock", held), daemon=True)
    holder.start()
    assert held.wait(30)
    with (
        pytest.raises(InputError, match=rf"process {holder.pid} does \(\S+ on \S+ since 20\d\d-\S+Z\)"),
        exclusive(tmp_path / "lock", "dataset", wait=False),
    ):
        pass
    holder.kill()
    holder.join()
    with exclusive(tmp_path / "lock", "dataset", wait=False):
        assert (tmp_path / "lock").exists()


@pytest.mark.parametrize(
    "error",
    [
        InputError("thing", where="who", hint="so"),
        RefusedScan("rule", "thing", where="who", hint="so", measured="3"),
        LeakageError(["a"], "train", "test"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_errors_come_whole_out_of_another_process(error):
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.__dict__) == (type(error), str(error), error.__dict__)
