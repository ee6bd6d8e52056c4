"""What leads to a classifier: demo, phantom, ingest, train, compare, curve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.commands.options import (
    Config,
    Overrides,
    PartFailed,
    check_apart,
    check_cohort,
    check_output,
    key_option,
    section_of,
    study_of,
)
from flows.running.console import say
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.config import Study


def demo(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder to write to; default: data/demo, with --year data/year."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="CONFIG", help="YAML file of a study to run in place of the demo's.", show_default=False
        ),
    ] = None,
    year: Annotated[
        bool, typer.Option("--year", help="Simulate a year of a clinic, with retraining.")
    ] = False,
    overrides: Overrides = None,
) -> Any:
    """Run everything on a synthetic cohort, from scans to reports.

    The steps are phantom, ingest, train, calibrate, track and report. With --year, monthly batches of scans
    follow, with a new scanner, more AD and a wrong reconstruction. Three policies are compared: retraining
    with the gate, which rejects a worse model; retraining every month without it; and no retraining.
    """
    from pipeline.config import shipped_study

    name: Literal["year", "demo"] = "year" if year else "demo"
    out = out or Path("data") / name
    places = {"output": out, "cohort.path": out / "bids", "ingest.source": out / "adni"}
    study = study_of(config or shipped_study(name), overrides, name, places)
    if year:
        from flows.year import run_year

        return run_year(study)
    from flows.demo import run_demo

    return run_demo(study)


def phantom(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write the scans to.", show_default=False)
    ],
    subjects: Annotated[int, typer.Option(metavar="N", min=1, help="Number of subjects.")] = 160,
    scans: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of scans; some subjects have several.")
    ] = 200,
    preset: Annotated[
        Literal["three_class", "three_class_clinical", "five_class"],
        typer.Option(help="The classes, and how much they overlap."),
    ] = "three_class",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Random seed.")] = 2026,
    anatomy: Annotated[
        Literal["affine", "people"],
        typer.Option(help="One brain in heads of other sizes, or people whose brains differ."),
    ] = "affine",
    anatomies: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Paint these label volumes of real brains (NIfTI, BrainCOLOR or DLMUSE numbers).",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> Any:
    """Write a synthetic AV1451 cohort as PET DICOM.

    The folder has the layout and tables of ADNI. One table holds the true class probabilities.
    """
    say(f"Phantom: {scans} scans of {subjects} subjects, to {out}.")
    from pipeline.config import PhantomSettings

    settings = section_of(
        PhantomSettings, subjects=subjects, scans=scans, preset=preset, anatomy=anatomy, anatomies=anatomies
    )
    settings.check_visits()
    from flows.phantom import make_phantom

    make_phantom(settings, out, seed)
    return {"folder": out, "subjects": subjects, "scans": scans, "preset": preset, "seed": seed}


def ingest(
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE", help="Folders or archives of scans.", show_default=False, exists=True
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="BIDS dataset to write to.", show_default=False)
    ],
    tracer: Annotated[
        str, typer.Option(metavar="NAME", help="Tracer of the scans; scans of another tracer are refused.")
    ] = "AV1451",
    layout: Annotated[
        Literal["auto", "dicom", "adni", "bids", "nifti"],
        typer.Option(help="How SOURCE is organised; auto recognises it."),
    ] = "auto",
    key_file: Annotated[Path | None, key_option("DATASET.key, beside the dataset")] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Number of worker processes.")] = 2,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Dask scheduler that distributes the scans, or `local` to start one.",
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Classes that the report counts, separated by commas."),
    ] = "CN,MCI,AD",
    prefer: Annotated[
        str,
        typer.Option(
            metavar="WORDS",
            help="Words of the reconstruction to take where an acquisition has several, separated by commas.",
            show_default=False,
        ),
    ] = "",
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove scans that are no longer in SOURCE.")
    ] = False,
) -> Any:
    """Add scans to a dataset of de-identified BIDS-PET and SUVR.

    Scans that are done are skipped; scans of other sources stay. A report lists every refused scan with the
    reason. Exit code 1 if a scan failed unexpectedly, a folder could not be opened, or none of the scans that
    were found is usable.
    """
    check_apart(source, out)
    check_output(out, "--out")
    say(f"Ingest: {', '.join(map(str, source))} to {out}.")
    _check_not_empty(source, out)
    study = _ingest_study(
        source,
        out,
        tuple(map(str.strip, classes.split(","))),
        dask,
        tracer=tracer,
        layout=layout,
        key_file=key_file,
        workers=workers,
        prune=prune,
        prefer=tuple(filter(None, map(str.strip, prefer.split(",")))),
    )
    from flows.ingest import ingest as door
    from flows.running.doors import run_door

    result = run_door(door, study)
    say(f"Report: {result.report}")
    if result.exit_code == 0:
        return vars(result)
    if result.refused and not result.accepted + result.warned:
        say("No scan found is usable; the report says why.")
    return PartFailed(vars(result))


def _check_not_empty(sources: list[Path], out: Path) -> None:
    """Refuse sources without a file, where nothing was ingested before, ahead of the slow imports."""
    if out.is_dir() or any(source.is_file() for source in sources):
        return
    if any(files for source in sources for _, _, files in os.walk(source, followlinks=True)):
        return
    raise InputError(
        "No PET scan in this folder: found an empty folder",
        where=str(sources[0]),
        hint="Name the folder above the scans",
    )


def _ingest_study(
    sources: list[Path], out: Path, classes: tuple[str, ...], dask: str | None, **options: Any
) -> Study:
    """Return the study that an ingest is; without Dask its scans go to processes of this machine."""
    from pipeline.config import CohortSettings, DaskSettings, IngestSettings, Study

    settings = section_of(
        IngestSettings,
        source=sources[0],
        more_sources=tuple(sources[1:]),
        runner="processes" if dask is None else "dask",
        **options,
    )
    return section_of(
        Study,
        name="ingest",
        output=out,
        cohort=CohortSettings(path=out, classes=classes),
        ingest=settings,
        dask=DaskSettings(address=None if dask == "local" else dask),
    )


def train(
    config: Config,
    overrides: Overrides = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Share every step among N GPUs of this machine; default: one GPU for each network.",
            show_default=False,
        ),
    ] = None,
) -> Any:
    """Train, calibrate, evaluate and register a classifier.

    Finished steps are skipped: after an interruption the same command continues. Under torchrun, its
    processes share every step.
    """
    from flows.learning.rank_processes import follow_rank_zero, follows, sharing_ranks

    if follows():
        if not follow_rank_zero():
            raise typer.Exit(1)
        return None
    study = study_of(config, overrides, "train")
    check_cohort(study, config)
    from flows.running.doors import run_door
    from flows.train import show_results
    from flows.train import train as door

    with sharing_ranks(study, config, gpus):
        trained = run_door(door, study)
    show_results(trained.results)
    say(f"Study report: {trained.pages['html']}")
    say(f"MLflow run {trained.run_id}, model version {trained.version}.")
    return {"run_id": trained.run_id, "version": trained.version, "results": trained.results.to_dict()}


def compare(config: Config, overrides: Overrides = None) -> Any:
    """Train with every loss and seed, and compare the results.

    All other settings are the same. Finished trainings are skipped.
    """
    study = study_of(config, overrides, "compare")
    check_cohort(study, config)
    from flows.compare import compare as door
    from flows.running.doors import run_door

    result = run_door(door, study)
    say(f"Comparison: {result['html']}")
    return result


def curve(config: Config, overrides: Overrides = None) -> Any:
    """Train on 25, 50, 75 and 100 % of the subjects, and state what twice the scans would probably bring.

    The same test scans are predicted at every size. Seeds, folds and the runner are those of section compare.
    Finished trainings are skipped.
    """
    study = study_of(config, overrides, "curve")
    check_cohort(study, config)
    from flows.curve import curve as door
    from flows.running.doors import run_door

    result = run_door(door, study)
    say(f"Learning curve: {result['html']}")
    return result
