"""What replaces the champion: retrain, and the look at new scans that calls for it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flows.commands.options import Config, Json, Overrides, study_of
from flows.running.console import emit_json, say, show_table


def retrain(
    config: Config,
    overrides: Overrides = None,
    who: Annotated[
        str | None, typer.Option(help="Stands in the audit table; default: login.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Ingest what is new, retrain where that is called for, and replace the champion if the gate agrees."""
    from flows.retrain import retrain as run_retrain
    from pipeline.tracking.audit import whoami

    done = run_retrain(study_of(config, overrides), who or whoami())
    if done.verdict is not None:
        rows = [[c.name, "passed" if c.passed else "failed", c.sentence] for c in done.verdict.checks]
        show_table(f"The gate: version {done.challenger}", ["check", "outcome", "why"], rows)
    told = {
        "kept": f"Nothing was called for; version {done.version} stays champion.",
        "promoted": f"Version {done.version} is the champion.",
        "held": f"Version {done.challenger} waits: `taucal promote --approve NAME` makes it champion.",
        "rejected": f"Version {done.challenger} stays challenger, {done.version or 'none'} champion.",
    }
    say(told[done.outcome])
    if json:
        emit_json(done.to_dict())


def shift(config: Config, overrides: Overrides = None, json: Json = False) -> None:
    """Compare the newest scans with those the champion was calibrated on; change nothing."""
    from flows.retraining.shift_check import check_shift

    checked = check_shift(study_of(config, overrides))
    say(f"{checked.scans} new scans, champion {checked.champion or 'none'}: {checked.answer}.")
    if json:
        emit_json(asdict(checked))
