"""Single scans: predict them, report them."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.options import PartFailed, StudyOption, check_outside_dataset, key_option
from flows.commands.study_place import locate
from flows.running.console import say, show_result
from models.shares import read_shares
from pipeline.errors import ConfigError

Scans = Annotated[
    list[Path],
    typer.Argument(
        metavar="SCAN", help="DICOM folders, or DICOM or NIfTI files.", show_default=False, exists=True
    ),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="@champion, another alias, models:/NAME/VERSION, or the folder of a stored classifier.",
    ),
]
Prevalence = Annotated[
    str | None,
    typer.Option(
        metavar="CLASS=SHARE,...",
        help="Prevalence of the classes in your clinic, as CN=60,MCI=30,AD=10 or CN=.6,MCI=.3,AD=.1.",
        show_default=False,
    ),
]


def predict(
    scans: Scans, model: Model = "@champion", study: StudyOption = None, prevalence: Prevalence = None
) -> Any:
    """Predict scans and print the result.

    No file is written. Exit code 1 if a scan has no prediction.
    """
    shares, named = _shares(prevalence), locate(study).named
    with _no_search_for_garbage():
        from flows.reports.predict import predict_scans, rows_of

    answers = predict_scans(scans, model, named, shares)
    show_result("Research use only - not for diagnostic use", *rows_of(scans, answers))
    result = [{"scan": str(path), **answer} for path, answer in zip(scans, answers, strict=True)]
    return result if all(a["probabilities"] is not None for a in answers) else PartFailed(result)


def report(
    scans: Scans,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder to write the reports to.", show_default=False)
    ],
    model: Model = "@champion",
    study: StudyOption = None,
    prevalence: Prevalence = None,
    key_file: Annotated[
        Path | None, key_option("that of the study's dataset, or OUT.key beside the reports if it has none")
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf/--no-pdf", help="Also write a PDF.")] = True,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Also write DICOM objects; they carry the patient's identity.")
    ] = False,
    send: Annotated[
        str | None,
        typer.Option(
            metavar="AET@HOST:PORT", help="Send the DICOM objects to this node.", show_default=False
        ),
    ] = None,
) -> Any:
    """Write a report of each scan for a clinician.

    The scans need not belong to a cohort. Exit code 1 if a scan got no prediction; its report says why.
    """
    check_outside_dataset(out)
    shares, named = _shares(prevalence), locate(study).named
    with _no_search_for_garbage():
        from flows.report import Request, report_scans

    written = report_scans(scans, Request(out, model, named, shares, key_file, pdf, dicom, send))
    for pages in written:
        refused = f" (no prediction: {pages.refusal.rule})" if pages.refusal else ""
        say(f"Report: {pages['html']}{refused}")
    return PartFailed(written) if any(pages.refusal for pages in written) else written


@contextlib.contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Import without collecting garbage, then or later, in what modules leave: it lives as long as we do.

    Python would search all of it again and again, for a seventh of the time that one report takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def _shares(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    try:
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{', '.join(sorted(repeated))} is named twice in {text!r}.")
        try:
            stated = {name: float(value) for name, (_, _, value) in zip(names, pairs, strict=True)}
        except ValueError:
            raise ValueError(f"{text!r} is not a list of class shares.") from None
        return read_shares(stated)
    except ValueError as error:
        raise ConfigError(
            str(error), where="--prevalence", hint="write CN=.6,MCI=.3,AD=.1 or CN=60,MCI=30,AD=10"
        ) from error
