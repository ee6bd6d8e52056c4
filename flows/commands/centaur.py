"""What calibrates a study's processing to CenTauR."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.options import Config, Overrides, study_of
from flows.running.console import say, show_table


def fit(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="CSV",
            help="Published SUVR: a column that names the scan or subject, and one for each mask of CenTauR.",
        ),
    ],
    config: Config,
    overrides: Overrides = None,
) -> Any:
    """Calibrate a study's processing to CenTauR, so that its reports state CenTauRz.

    The scans of the table must be in the dataset of the study. For each mask a line is fitted by Deming
    regression from the study's own SUVR to the published one. Reports use it as long as the processing stays.
    """
    from flows.ingestion.ingest_tables import COHORT_TABLE
    from pipeline.centaur.centaur_calibration import fit_calibration, write_calibration
    from pipeline.centaur.centaur_masks import mask_title
    from pipeline.ingest.deidentify import pseudonym_of
    from pipeline.scan import Cohort

    study = study_of(config, overrides)
    bids = study.cohort.path
    cohort = Cohort.read_tsv(bids / COHORT_TABLE)
    found = fit_calibration(table, cohort, study.imaging, pseudonym_of(bids, study.ingest.key_file))
    path = write_calibration(found, study.output)
    rows = [
        [
            mask_title(name), str(line.scans), f"{line.slope:.3f} ({_span(line.slope_interval)})",
            f"{line.intercept:.3f} ({_span(line.intercept_interval)})", f"{line.correlation:.3f}",
        ]
        for name, line in found.lines.items()
    ]  # fmt: skip
    show_table(
        "Published SUVR = slope x own SUVR + intercept (95 % interval)",
        ["mask", "scans", "slope", "intercept", "correlation"],
        rows,
    )
    say(f"Reports of this study state CenTauRz now: {path}.")
    return {"file": str(path), **found.model_dump(mode="json")}


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"
