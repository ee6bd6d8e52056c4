"""A move of the champion cut off at any place is finished once, and only one is made at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest
from promotions import aliases, approve, decided, told

from flows.retraining import promotion
from flows.retraining.promotion import (
    checked_audit,
    hold,
    move,
    promote_by_hand,
    retraining_lock,
    roll_back,
    settle,
    undecided,
    wait,
)
from pipeline import tracking
from pipeline.config import TrackingSettings
from pipeline.errors import InputError


class Killed(BaseException):
    """What no code of ours catches."""


def die(*_):
    raise Killed("cut off")


def wait_and_be_killed(output) -> None:
    promotion.tracking.challenge = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    wait(tracking.store_of(TrackingSettings(), output), output, told(2, "b"))


def test_a_wait_killed_after_its_entry_waits_all_the_same(store, output):
    promote_by_hand(store, output, 1, "ann")
    process = multiprocessing.get_context("spawn").Process(target=wait_and_be_killed, args=(output,))
    process.start()
    process.join(240)
    assert process.exitcode == -signal.SIGKILL
    assert aliases(store) == (1, None, None)
    assert settle(store, output) is None
    assert undecided(store, output).version == 2
    wait(store, output, told(2, "b"))
    assert aliases(store) == (1, None, 2)
    assert [kind for kind, *_ in decided(output)] == ["promote", "wait"]


@pytest.mark.parametrize(
    ("kind", "place"),
    [("promote", "point"), ("approve", "point"), ("rollback", "point"), ("rollback", "set_decision")],
)
def test_a_move_cut_off_is_finished_once(store, output, monkeypatch, kind, place):
    promote_by_hand(store, output, 3, "ann")
    promote_by_hand(store, output, 1, "ann")
    hold(store, output, told(2, "b"))
    act = {
        "promote": lambda: move(store, output, told(2, "b")),
        "approve": lambda: approve(store, output, "bob"),
        "rollback": lambda: roll_back(store, output, "ann"),
    }[kind]
    with monkeypatch.context() as broken:
        broken.setattr(tracking, place, die)
        with pytest.raises(Killed, match="cut off"):
            act()
    assert decided(output)[-1][0] == kind
    assert aliases(store)[0] == (1 if place == "point" else {"rollback": 3}.get(kind, 2))
    act()  # who was cut off does the same again
    ended = {"rollback": (3, 1, 2)}.get(kind, (2, 1, None))
    assert aliases(store) == ended
    assert settle(store, output) is None
    assert len(decided(output)) == 4, "and it is one decision"
    tracking.point(store, 3, 2)
    settle(store, output)
    assert aliases(store)[0] == 3, "what somebody does in MLflow later is not taken back"


def test_a_half_moved_pair_of_aliases_is_finished(store, output, monkeypatch):
    promote_by_hand(store, output, 3, "ann")
    promote_by_hand(store, output, 1, "ann")
    point = tracking.point

    def half(store, champion, previous):
        point(store, tracking.champion_version(store), previous)
        raise Killed("cut off")

    with monkeypatch.context() as broken:
        broken.setattr(tracking, "point", half)
        with pytest.raises(Killed, match="cut off"):
            promote_by_hand(store, output, 2, "ann")
    assert aliases(store) == (1, 1, None)
    assert settle(store, output).version == 2
    assert aliases(store) == (2, 1, None)


def promote_and_be_killed(output) -> None:
    promotion.tracking.point = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    promote_by_hand(tracking.store_of(TrackingSettings(), output), output, 2, "ann")


def test_a_process_killed_after_the_entry_leaves_a_move_to_finish_and_no_lock(store, output):
    promote_by_hand(store, output, 1, "ann")
    process = multiprocessing.get_context("spawn").Process(target=promote_and_be_killed, args=(output,))
    process.start()
    process.join(240)
    assert process.exitcode == -signal.SIGKILL
    assert aliases(store) == (1, None, None)
    assert decided(output)[-1] == ("promote", 2, 1, "ann")
    with retraining_lock(output, wait=False):
        assert settle(store, output).version == 2
    assert aliases(store) == (2, 1, None)


def test_a_registry_made_anew_is_not_moved_by_the_old_audit(store, output, capsys):
    promote_by_hand(store, output, 1, "ann")
    promote_by_hand(store, output, 2, "ann")
    client = store.client()
    client.delete_registered_model(store.model_name)
    time.sleep(0.01)
    client.create_registered_model(store.model_name)
    for n in (1, 2):
        client.create_model_version(store.model_name, f"file:///elsewhere/{n}")
    assert settle(store, output) is None
    assert aliases(store) == (None, None, None)
    assert "Version 2, which entry 2 of the audit log made champion, is gone" in capsys.readouterr().err


def test_an_audit_that_was_put_away_is_missed(store, output):
    promote_by_hand(store, output, 1, "ann")
    (output / "audit.db").unlink()
    with pytest.raises(InputError, match="lacks the entry that made version 1 champion"):
        checked_audit(store, output)
    tracking.audit_of(output).append("shift", key="x", who="eve")
    with pytest.raises(InputError, match="it has 1 others"):
        checked_audit(store, output)


def hold_lock(output, held) -> None:
    with retraining_lock(output, wait=False):
        held.set()
        time.sleep(600)


@pytest.fixture
def holder(output):
    """A process that holds the lock; forked, for a fresh one imports MLflow for seconds."""
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold_lock, args=(output, held), daemon=True)
    process.start()
    assert held.wait(180)
    yield process
    process.kill()
    process.join()


def test_one_at_a_time_the_refusal_says_who_and_a_killed_holder_is_gone(store, output, holder):
    told = rf"champion: process {holder.pid} \(operator on \S+ since 20\S+Z\)"
    with pytest.raises(InputError, match=told), retraining_lock(output, wait=False):
        pass
    for act in (
        lambda: promote_by_hand(store, output, 1, "ann"),
        lambda: roll_back(store, output, "ann"),
        lambda: approve(store, output, "ann"),
    ):
        with pytest.raises(InputError, match=told):
            act()
    assert decided(output) == []
    holder.kill()
    holder.join()
    promote_by_hand(store, output, 1, "ann")
    assert aliases(store)[0] == 1


def test_who_waits_says_so_and_comes_next(output, holder, capsys):
    threading.Timer(0.5, holder.kill).start()
    with retraining_lock(output, wait=True):
        holder.join(180)
        assert holder.exitcode == -signal.SIGKILL
    assert f"Waiting. Another process has locked the study's champion: process {holder.pid}" in " ".join(
        capsys.readouterr().err.split()
    )
