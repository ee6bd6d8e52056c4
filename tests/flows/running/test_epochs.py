"""Epochs of other processes are shown once, as they come, and never stop a training."""

from __future__ import annotations

from flows.running import epochs
from flows.running.epochs import EPOCHS, Follower, following, note_epoch


def test_each_epoch_is_shown_once_and_a_line_that_is_not_whole_waits(tmp_path):
    shown = []
    follower = Follower([tmp_path], lambda *given: shown.append(given))
    follower.started(0)
    note_epoch(tmp_path, 1, {"epoch": 0, "loss": 3.0})
    follower.look()
    with (tmp_path / EPOCHS).open("a") as stream:
        stream.write('{"epoch": 2, ')
    follower.look()
    assert shown == [(0, 1, {"loss": 3.0})]
    with (tmp_path / EPOCHS).open("a") as stream:
        stream.write('"loss": 2.0}\n')
    follower.ended(0)
    note_epoch(tmp_path, 3, {"loss": 1.0})
    follower.look()
    assert shown == [(0, 1, {"loss": 3.0}), (0, 2, {"loss": 2.0})]


def test_a_training_begun_again_is_followed_from_its_start(tmp_path):
    shown = []
    follower = Follower([tmp_path], lambda _, epoch, __: shown.append(epoch))
    for _ in range(2):
        follower.started(0)
        for epoch in (4, 5):  # resumed after the third
            note_epoch(tmp_path, epoch, {"loss": 1.0})
        follower.look()
    assert shown == [4, 5, 4, 5]
    note_epoch(tmp_path, 1, {"loss": 1.0})
    assert len((tmp_path / EPOCHS).read_text().splitlines()) == 1


def test_a_thread_shows_them_and_what_fails_there_stops_nothing(tmp_path, monkeypatch, wait_for):
    monkeypatch.setattr(epochs, "_LOOK_EVERY_SECONDS", 0.01)
    folders = [tmp_path / "a", tmp_path / "b"]
    shown = []

    def show(index, epoch, metrics):
        shown.append((index, epoch))
        raise ConnectionError("MLflow does not answer")

    with following(folders, show) as follower:
        for index, folder in enumerate(folders):
            folder.mkdir()
            follower.started(index)
            note_epoch(folder, 1, {"loss": 1.0})
        wait_for(lambda: len(shown) == 2)
        note_epoch(folders[0], 2, {"loss": 0.5})
        follower.ended(0)
    assert sorted(shown) == [(0, 1), (0, 2), (1, 1)]
