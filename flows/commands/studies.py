"""The whole way, and its parts up to a classifier: demo, phantom, ingest, train, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.options import Config, Json, Overrides, study_of
from flows.running.console import emit_json, say
from pipeline.config import ImagingSettings, Study
from pipeline.errors import ConfigError


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: data/demo, data/year.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Another study file.", show_default=False)] = None,
    year: Annotated[
        bool, typer.Option("--year", help="Live through a simulated year with retraining instead.")
    ] = False,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Run the whole way on a synthetic cohort: phantom, ingest, train, calibrate, track, report.

    With --year: monthly batches, among them a new scanner, more AD and a broken reconstruction. Retraining
    behind the gate stands beside never retraining and always retraining.
    """
    from flows.demo import DEMO_CONFIG, run_demo
    from flows.year import YEAR_CONFIG, run_year

    usual, run, place = (YEAR_CONFIG, run_year, "year") if year else (DEMO_CONFIG, run_demo, "demo")
    out = out or Path("data") / place
    places = [f"output={out}", f"cohort.path={out / 'bids'}", f"ingest.source={out / 'adni'}"]
    result = run(study_of(config or usual, [*places, *(overrides or [])]))
    if json:
        emit_json(result)


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write the ADNI tree to.", show_default=False)],
    subjects: Annotated[int, typer.Option(min=1)] = 160,
    scans: Annotated[int, typer.Option(min=1)] = 200,
    preset: Annotated[
        str, typer.Option(help="three_class, three_class_clinical or five_class.")
    ] = "three_class",
    seed: int = 2026,
) -> None:
    """Write a synthetic AV1451 cohort as PET DICOM, with its true posterior."""
    from flows.phantom import make_phantom

    study = _inline_study(out, phantom={"subjects": subjects, "scans": scans, "preset": preset}, seed=seed)
    make_phantom(study.phantom, out, study.seed)


def ingest(
    source: Annotated[Path, typer.Argument(help="Folder of scans.", show_default=False)],
    out: Annotated[Path, typer.Option(help="BIDS dataset to write.", show_default=False)],
    tracer: Annotated[str, typer.Option(help="Scans of another tracer are refused.")] = "AV1451",
    layout: Annotated[str, typer.Option(help="auto, dicom, adni, bids or nifti.")] = "auto",
    key_file: Annotated[Path | None, typer.Option(help="Secret of the pseudonyms; default: OUT.key.")] = None,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Dask scheduler, or `local` for workers here.", show_default=False
        ),
    ] = None,
    classes: Annotated[str, typer.Option(help="Diagnoses to keep, separated by commas.")] = "CN,MCI,AD",
    json: Json = False,
) -> None:
    """Convert scans to de-identified BIDS-PET and SUVR; say what was refused and why."""
    from flows.ingest import ingest as run_ingest

    runner = "processes" if dask is None else "dask"
    told = {"tracer": tracer, "layout": layout, "key_file": key_file, "workers": workers, "runner": runner}
    study = _inline_study(out, ingest=told, dask={"address": None if dask == "local" else dask})
    result = run_ingest(source, out, study.ingest, study.imaging, tuple(classes.split(",")), study.dask)
    say(f"Report: {result.report}")
    if json:
        emit_json(vars(result))
    if not result.converted:
        say("No scan could be converted; the report tells why.")
        raise typer.Exit(2)


def train(config: Config, overrides: Overrides = None, json: Json = False) -> None:
    """Train, calibrate, evaluate and register the classifier of a study."""
    from flows.reports.study_reports import read_shipped, report_study
    from flows.train import show_results, train_study

    study = study_of(config, overrides)
    trained = train_study(study)
    show_results(trained.results)
    pages = report_study(study, trained, read_shipped(study, trained))
    say(f"Study report: {pages['html']}")
    say(f"MLflow run {trained.run_id}, model version {trained.version}.")
    if json:
        emit_json(
            {"run_id": trained.run_id, "version": trained.version, "results": trained.results.to_dict()}
        )


def compare(config: Config, overrides: Overrides = None, json: Json = False) -> None:
    """Train every loss with every seed, all else equal, and say which are told apart."""
    from flows.compare import compare_losses

    result = compare_losses(study_of(config, overrides))
    say(f"Comparison: {result['html']}")
    if json:
        emit_json(result)


def _inline_study(out: Path, **sections: Any) -> Study:
    from pydantic import ValidationError

    try:
        return Study(name="inline", output=out, cohort={"path": out}, imaging=ImagingSettings(), **sections)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = "--" + str(first["loc"][-1]).replace("_", "-")
        raise ConfigError(f"{first['msg']}, got {first.get('input')!r}", where=option) from error
