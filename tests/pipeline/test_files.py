"""Files appear whole or not at all; locks die with their holder; errors survive processes."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline import files
from pipeline.errors import InputError, LeakageError, RefusedScan
from pipeline.files import exclusive, fingerprint, whoami, write_json, write_text, written_whole


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


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_a_file_has_the_permissions_that_its_user_gives_to_new_files(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        path = write_text(tmp_path / "a.txt", "x")
        with written_whole(tmp_path / "b.txt") as beside:
            beside.write_text("x")
            beside.chmod(0o400)  # as a writer does that copies a file of the scanner
    finally:
        os.umask(before)
    assert [p.stat().st_mode & 0o777 for p in (path, tmp_path / "b.txt")] == [mode, mode]


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is where the output folder should be"):
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
        time.sleep(600)


def test_a_lock_refuses_names_its_holder_and_dies_with_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "lock", held), daemon=True)
    holder.start()
    assert held.wait(180)
    with (
        pytest.raises(
            InputError, match=rf"locked the dataset: process {holder.pid} \(\S+ on \S+ since 20\d\d-\S+Z\)"
        ),
        exclusive(tmp_path / "lock", "dataset", wait=False),
    ):
        pass
    holder.kill()
    holder.join()
    with exclusive(tmp_path / "lock", "dataset", wait=False):
        assert (tmp_path / "lock").exists()


def test_a_lock_lets_one_thread_at_a_time_in(tmp_path):
    inside = []

    def enter(number: int) -> None:
        with exclusive(tmp_path / "lock", "dataset"):
            inside.append(number)
            assert inside == [number]
            time.sleep(0.01)
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(12)))


def test_a_lock_in_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="is where the output folder"),
        exclusive(tmp_path / "file" / "lock", "it"),
    ):
        pass


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_where_the_file_system_has_no_locks_a_marker_refuses_and_goes_with_its_holder(tmp_path, monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    with (
        exclusive(tmp_path / "lock", "dataset"),
        pytest.raises(InputError, match="locked the dataset"),
        exclusive(tmp_path / "lock", "dataset", wait=False),
    ):
        pass
    with exclusive(tmp_path / "lock", "dataset", wait=False):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()


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


def test_who_is_what_the_environment_says_or_the_login(monkeypatch):
    monkeypatch.setenv("TAUCAL_WHO", "Dr Ann")
    assert whoami() == "Dr Ann"
    monkeypatch.setenv("TAUCAL_WHO", "")
    monkeypatch.setenv("LOGNAME", "bob")
    assert whoami() == "bob"


def test_the_fingerprint_beside_a_file_is_used_until_the_file_changes(tmp_path):
    path = tmp_path / "volume.nii.gz"
    path.write_bytes(b"old")
    assert files.known_sha256(path) == files.sha256_of_file(path), "none is there yet"
    beside = files.write_sha256(path)
    beside.write_text(f"{'0' * 64}  volume.nii.gz\n")
    assert files.known_sha256(path) == "0" * 64
    later = beside.stat().st_mtime_ns + 1
    os.utime(path, ns=(later, later))
    assert files.known_sha256(path) == files.sha256_of_file(path)
    restored = path.with_name("restored")
    restored.write_bytes(b"another volume")
    os.utime(restored, ns=(0, 0))
    restored.replace(path)
    assert files.known_sha256(path) == files.sha256_of_file(path), (
        "an older file in its place is another file"
    )
    for other in ("not a fingerprint", f"{'0' * 64}  another.nii.gz\n"):
        beside.write_text(other)
        assert files.known_sha256(path) == files.sha256_of_file(path)
