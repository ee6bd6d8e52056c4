"""What an operator types: which model is the champion, and what this machine lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import Json, Output
from flows.console import emit_json, say, show_table


def promote(
    version: Annotated[int, typer.Argument(help="Model version.", show_default=False)],
    output: Output = Path("data/demo"),
) -> None:
    """Make a registered version the champion; the one before becomes `previous`."""
    from pipeline import tracking
    from pipeline.config import TrackingSettings

    store = tracking.store_of(TrackingSettings(), output)
    tracking.load_classifier(store, f"models:/{store.model_name}/{version}")
    tracking.promote(store, version)
    say(f"Version {version} is the champion.")


def rollback(output: Output = Path("data/demo")) -> None:
    """Swap the champion and the one before."""
    from pipeline import tracking
    from pipeline.config import TrackingSettings

    say(f"Version {tracking.rollback(tracking.store_of(TrackingSettings(), output))} is the champion.")


def doctor(output: Output = Path("data/demo"), json: Json = False) -> None:
    """Tell what is there, what is missing and the command that mends it."""
    from flows.doctor import examine

    checks = examine(output)
    rows = [
        [
            c.name,
            "well" if c.ok else ("missing" if c.required else "optional"),
            c.seen,
            "" if c.ok else c.mend,
        ]
        for c in checks
    ]
    show_table("taucal doctor", ["what", "state", "seen", "mend"], rows)
    if json:
        emit_json([vars(c) for c in checks])
    if not all(c.ok for c in checks if c.required):
        raise typer.Exit(1)
