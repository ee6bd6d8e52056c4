"""One scan: its answer, its report."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import Json, Output
from flows.running.console import emit_json, results, say, show_table
from pipeline.errors import ConfigError

Scans = Annotated[list[Path], typer.Argument(help="DICOM folders or NIfTI files.", show_default=False)]
Model = Annotated[str, typer.Option(help="Registered model or bundle folder.")]
Prevalence = Annotated[str | None, typer.Option(help="The clinic's own class shares.", show_default=False)]


def predict(
    scans: Scans,
    model: Model = "@champion",
    output: Output = Path("data/demo"),
    prevalence: Prevalence = None,
    json: Json = False,
) -> None:
    """Print what the registered model says of scans, as it would where it is served; nothing is written."""
    with _no_search_for_garbage():
        from flows.reports.predict import predict_scans, rows_of

    answers = predict_scans(scans, model, output, _prevalence(prevalence))
    if json:
        emit_json([{"scan": str(path), **told} for path, told in zip(scans, answers, strict=True)])
    else:
        show_table("Research use only - not for diagnostic use", *rows_of(scans, answers), on=results)


def report(
    scans: Scans,
    out: Annotated[Path, typer.Option(help="Folder for the reports.", show_default=False)],
    model: Model = "@champion",
    output: Output = Path("data/demo"),
    prevalence: Prevalence = None,
    key_file: Annotated[Path | None, typer.Option(help="Secret of the pseudonyms; default: OUT.key.")] = None,
    pdf: Annotated[bool, typer.Option(help="Also write a PDF.")] = True,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Also write DICOM objects; they carry the patient's identity.")
    ] = False,
    send: Annotated[
        str | None,
        typer.Option(metavar="AET@HOST:PORT", help="Send the DICOM objects there.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Write a clinician's report for scans that need not be in any cohort."""
    with _no_search_for_garbage():
        from flows.report import Request, report_scans

    request = Request(out, model, output, _prevalence(prevalence), key_file, pdf, dicom, send)
    written = report_scans(scans, request)
    for pages in written:
        say(f"Report: {pages['html']}")
    if json:
        emit_json(written)


@contextlib.contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Import without looking for garbage, then or later, in what modules leave: it lives as long as we do.

    Python would look through all of it again and again, for a seventh of the time that one report takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def _prevalence(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        shares = {name.strip(): float(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError as error:
        raise ConfigError(
            f"A prevalence must look like CN=.6,MCI=.3,AD=.1, got {text!r}", where="--prevalence"
        ) from error
    if any(not 0 < value < 1 for value in shares.values()) or abs(sum(shares.values()) - 1) > 0.01:
        raise ConfigError(
            f"Class shares must lie between 0 and 1 and add to 1, got {text!r}", where="--prevalence"
        )
    return shares
