"""What an operator types: which model is the champion, and what this machine lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import Json, Output
from flows.running.console import emit_json, say, show_table

if TYPE_CHECKING:
    from pipeline.tracking import Entry


def promote(
    version: Annotated[int | None, typer.Argument(help="Model version.", show_default=False)] = None,
    approve: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Promote what waits; NAME is who approves it.",
            show_default=False,
        ),
    ] = None,
    output: Output = Path("data/demo"),
) -> None:
    """Make a registered version the champion; the one before becomes `previous`."""
    from flows.retraining import promotion
    from pipeline import tracking
    from pipeline.errors import InputError

    if (version is None) == (approve is None):
        raise InputError("`taucal promote` takes a version or --approve NAME, one of the two")
    store = tracking.store_at(output)
    if approve is not None:
        held = promotion.waiting(store, output)
        if held is not None:
            tracking.load_classifier(store, f"models:/{store.model_name}/{held.version}")
        say(f"Version {promotion.approve(store, output, approve)} is the champion.")
    elif version is not None:
        tracking.load_classifier(store, f"models:/{store.model_name}/{version}")
        promotion.promote_by_hand(store, output, version, tracking.whoami())
        say(f"Version {version} is the champion.")


def rollback(output: Output = Path("data/demo")) -> None:
    """Swap the champion and the one before."""
    from flows.retraining import promotion
    from pipeline import tracking

    version = promotion.roll_back(tracking.store_at(output), output, tracking.whoami())
    say(f"Version {version} is the champion.")


def audit(output: Output = Path("data/demo"), json: Json = False) -> None:
    """Show who decided what about which model and why, once the table is seen to be unaltered."""
    from flows.retraining.promotion import checked_audit
    from pipeline import tracking

    entries = checked_audit(tracking.store_at(output), output)
    header = ["number", "time (UTC)", "decision", "version", "champion then", "who", "why"]
    if entries:
        show_table("taucal audit", header, [_cells(entry) for entry in entries])
    else:
        say(f"No decision about a model is recorded in {output / 'audit.db'} yet.")
    if json:
        emit_json([vars(entry) for entry in entries])


def _cells(entry: Entry) -> list[str]:
    versions = ["" if number is None else str(number) for number in (entry.version, entry.over)]
    return [str(entry.number), entry.time, entry.kind, *versions, entry.who, "\n".join(entry.reasons)]


def doctor(output: Output = Path("data/demo"), json: Json = False) -> None:
    """Tell what is there, what is missing and the command that mends it."""
    from flows.doctor import examine

    checks = examine(output)
    rows = [
        [
            c.name,
            "well" if c.ok else ("missing" if c.required else "optional"),
            c.seen,
            "" if c.ok else c.hint,
        ]
        for c in checks
    ]
    show_table("taucal doctor", ["what", "state", "seen", "mend"], rows)
    if json:
        emit_json([vars(c) for c in checks])
    if not all(c.ok for c in checks if c.required):
        raise typer.Exit(1)
