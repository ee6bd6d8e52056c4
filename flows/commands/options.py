"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.config import Study, load_study

Config = Annotated[Path, typer.Argument(help="YAML file of the study.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a key; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Output = Annotated[Path, typer.Option("--output", help="Folder that holds mlflow.db.", show_default=True)]


def study_of(config: Path, overrides: list[str] | None) -> Study:
    """Read the study a command was given, with what ``--set`` overrides."""
    return load_study(config, tuple(overrides or ()))
