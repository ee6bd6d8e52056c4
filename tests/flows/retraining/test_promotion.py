"""The champion moves as the audit says, once for each decision."""

from __future__ import annotations

import json

import pytest
from promotions import aliases, approve, decided, told
from typer.testing import CliRunner

from flows.cli import app
from flows.retraining import promotion
from flows.retraining.promotion import (
    Decision,
    checked_audit,
    chosen_by,
    hold,
    move,
    promote_by_hand,
    reject,
    roll_back,
    undecided,
    wait,
    waiting,
)
from pipeline import tracking
from pipeline.errors import InputError


def test_a_move_is_written_and_keeps_the_one_before(store, output):
    tracking.challenge(store, 2)
    move(store, output, told(1, "a"))
    assert aliases(store) == (1, None, 2)
    move(store, output, told(2, "b"))
    assert aliases(store) == (2, 1, None), "a champion is no challenger"
    assert decided(output) == [("promote", 1, None, "ann"), ("promote", 2, 1, "ann")]
    entry = checked_audit(store, output)[1]
    assert entry.reasons == ("It is no worse.",)
    assert entry.facts["n"] == 1
    assert tracking.decision_of(store, 2) == entry.sha256


def test_the_same_decision_moves_once(store, output):
    promote_by_hand(store, output, 1, "ann")
    move(store, output, told(2, "b"))
    move(store, output, told(2, "b"))
    assert roll_back(store, output, "bob") == 1
    move(store, output, told(2, "b"))
    assert aliases(store)[0] == 1, "what was rolled back does not come back by itself"
    assert [kind for kind, *_ in decided(output)] == ["promote", "promote", "rollback"]


def test_a_rejected_version_stays_challenger(store, output):
    promote_by_hand(store, output, 1, "ann")
    reject(store, output, told(2, "b"))
    assert aliases(store) == (1, None, 2)
    assert decided(output)[-1] == ("reject", 2, 1, "ann")
    assert waiting(store, output) is None


def test_an_undecided_version_stays_challenger_until_something_is_decided(store, output):
    promote_by_hand(store, output, 1, "ann")
    assert undecided(store, output) is None
    wait(store, output, told(2, "b"))
    assert aliases(store) == (1, None, 2)
    assert waiting(store, output) is None, "nobody is asked to approve it"
    assert undecided(store, output).version == 2
    wait(store, output, told(2, "b, second look"))
    assert [kind for kind, *_ in decided(output)] == ["promote", "wait", "wait"]
    reject(store, output, told(2, "c"))
    assert undecided(store, output) is None
    wait(store, output, told(2, "b"))
    assert undecided(store, output) is None, "an old decision does not wait again"
    checked_audit(store, output)


def test_an_undecided_version_is_promoted_or_held_as_any_other(store, output):
    promote_by_hand(store, output, 1, "ann")
    wait(store, output, told(2, "b"))
    hold(store, output, told(2, "c"))
    assert undecided(store, output) is None
    assert approve(store, output, "Dr Bob") == 2
    wait(store, output, told(3, "d"))
    move(store, output, told(3, "e"))
    assert aliases(store) == (3, 2, None)
    assert undecided(store, output) is None


def test_a_held_version_stays_approvable_while_a_later_one_is_undecided(store, output):
    promote_by_hand(store, output, 1, "ann")
    hold(store, output, told(2, "b"))
    wait(store, output, told(3, "c"))
    assert undecided(store, output).version == 3
    assert approve(store, output, "bob") == 2
    assert undecided(store, output) is None, "its champion has moved"


def judged_by_gate(version, key):
    return Decision(version, key, "ann", ("It is no worse.",), {"gate": {"checks": []}, "looks": [[40, 0.2]]})


def test_the_gates_decision_about_a_champion_is_found_however_it_came_to_be_champion(store, output):
    promote_by_hand(store, output, 1, "ann")
    reject(store, output, judged_by_gate(2, "a"))
    promote_by_hand(store, output, 2, "ann")
    assert chosen_by(store, output, 1) is None
    assert chosen_by(store, output, 2) is None, "the gate had rejected it"
    hold(store, output, judged_by_gate(3, "b"))
    assert approve(store, output, "bob") == 3
    assert (chosen_by(store, output, 3).kind, chosen_by(store, output, 3).key) == ("hold", "b")
    move(store, output, judged_by_gate(1, "c"))
    roll_back(store, output, "bob")
    roll_back(store, output, "bob")
    assert (chosen_by(store, output, 1).kind, chosen_by(store, output, 1).key) == ("promote", "c")


def test_a_version_of_the_same_number_in_another_registry_was_chosen_by_nobody(store, output, monkeypatch):
    move(store, output, judged_by_gate(2, "a"))
    assert chosen_by(store, output, 2) is not None
    monkeypatch.setattr(promotion.tracking, "registered_ms", lambda *_: 1)
    assert chosen_by(store, output, 2) is None


def test_what_waits_is_moved_by_who_approves(store, output):
    promote_by_hand(store, output, 1, "ann")
    hold(store, output, told(2, "b"))
    assert aliases(store) == (1, None, 2)
    reject(store, output, told(3, "c"))
    assert waiting(store, output).version == 2, "a later version that failed changes nothing for this one"
    assert approve(store, output, "Dr  Bob ") == 2
    assert aliases(store) == (2, 1, 3)
    assert decided(output)[-1] == ("approve", 2, 1, "Dr Bob")
    entry = checked_audit(store, output)[-1]
    assert entry.facts["typed_by"] == "operator"
    assert entry.reasons == ("Dr Bob approves entry 2.", "It is no worse.")
    with pytest.raises(InputError, match="No version waits for approval; the champion is 2"):
        approve(store, output, "Dr Bob")
    with pytest.raises(InputError, match="The name is empty"):
        approve(store, output, " ")


def promoted_since(store, output):
    promote_by_hand(store, output, 3, "ann")


def rolled_back_since(store, output):
    roll_back(store, output, "ann")


def moved_in_mlflow_since(store, output):
    tracking.promote(store, 3)


@pytest.mark.parametrize("since", [promoted_since, rolled_back_since, moved_in_mlflow_since])
def test_an_undecided_version_judged_against_another_champion_waits_no_more(store, output, since):
    promote_by_hand(store, output, 3, "ann")
    promote_by_hand(store, output, 1, "ann")
    wait(store, output, told(2, "b"))
    since(store, output)
    assert undecided(store, output) is None


@pytest.mark.parametrize("since", [promoted_since, rolled_back_since, moved_in_mlflow_since])
def test_a_version_judged_against_another_champion_waits_no_more(store, output, since):
    promote_by_hand(store, output, 3, "ann")
    promote_by_hand(store, output, 1, "ann")
    hold(store, output, told(2, "b"))
    since(store, output)
    with pytest.raises(InputError, match="No version waits for approval"):
        approve(store, output, "bob")
    assert aliases(store)[0] == 3


def test_a_later_held_version_takes_the_place_of_an_earlier(store, output):
    promote_by_hand(store, output, 1, "ann")
    hold(store, output, told(2, "b"))
    hold(store, output, told(3, "c"))
    hold(store, output, told(2, "b"))
    assert aliases(store) == (1, None, 3), "an old decision told again does not wait again"
    assert approve(store, output, "bob") == 3


def test_rollback_swaps_and_swaps_again(store, output):
    promote_by_hand(store, output, 1, "ann")
    with pytest.raises(InputError, match="no previous champion to roll back to"):
        roll_back(store, output, "ann")
    promote_by_hand(store, output, 2, "ann")
    for champion, other in ((1, 2), (2, 1), (1, 2)):
        assert roll_back(store, output, "ann") == champion
        assert aliases(store) == (champion, other, None)
    assert decided(output)[2:] == [
        ("rollback", 1, 2, "ann"),
        ("rollback", 2, 1, "ann"),
        ("rollback", 1, 2, "ann"),
    ]
    checked_audit(store, output)


def test_what_cannot_be_done_is_not_written(store, output):
    promote_by_hand(store, output, 1, "ann")
    with pytest.raises(InputError, match="Version 9 is not registered"):
        promote_by_hand(store, output, 9, "ann")
    with pytest.raises(InputError, match="Version 9 is not registered"):
        hold(store, output, told(9, "b"))
    promote_by_hand(store, output, 1, "ann")
    assert decided(output) == [("promote", 1, None, "ann")]
    assert aliases(store) == (1, None, None)


def test_the_commands_ask_for_a_bundle_that_loads_and_show_the_table(store, output):
    promote_by_hand(store, output, 1, "ann")
    hold(store, output, told(2, "b"))
    for arguments in (["promote", "3"], ["promote", "--approve", "bob"]):
        answer = CliRunner().invoke(app, [*arguments, "--study", str(output)])
        assert isinstance(answer.exception, InputError), answer.output
    assert aliases(store) == (1, None, 2)
    for arguments in ([], ["3", "--approve", "bob"]):
        answer = CliRunner().invoke(app, ["promote", *arguments, "--study", str(output)])
        assert "Give either a VERSION or --approve NAME or --reject NAME" in str(answer.exception)
    answer = CliRunner().invoke(app, ["audit", "--study", str(output), "--json"])
    assert answer.exit_code == 0
    table = json.loads(answer.stdout)
    assert [(e["number"], e["kind"], e["version"], e["who"]) for e in table] == [
        (1, "promote", 1, "ann"),
        (2, "hold", 2, "ann"),
    ]
    assert table[1]["reasons"] == ["It is no worse."]
