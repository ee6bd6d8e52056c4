"""What keeps running: the schedules of a study."""

from __future__ import annotations

from flows.commands.options import Config, Overrides, study_of


def serve(config: Config, overrides: Overrides = None) -> None:
    """Run the schedules of a study until Ctrl-C: ingest, reports, shift check, retrain; with their pages."""
    from flows.serve import serve as run_schedules

    run_schedules(study_of(config, overrides))
