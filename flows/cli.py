"""The command `taucal`. Exit codes: 0 done, 1 the work failed, 2 the call or its input is wrong."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

from flows.environment import set_quiet_defaults

set_quiet_defaults()

import typer  # noqa: E402 - the defaults must stand before Prefect is imported by what follows

from flows.console import console, emit_json, say, show_table  # noqa: E402
from pipeline.config import ImagingSettings, Study, load_study  # noqa: E402
from pipeline.errors import ConfigError, TaucalError  # noqa: E402

app = typer.Typer(
    name="taucal",
    help="Tau PET scans (AV1451) to calibrated diagnostic probabilities. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Config = Annotated[Path, typer.Argument(help="YAML file of the study.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a key; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Output = Annotated[Path, typer.Option("--output", help="Folder that holds mlflow.db.", show_default=True)]


def _study(config: Path, overrides: list[str] | None) -> Study:
    return load_study(config, tuple(overrides or ()))


@app.command(epilog="Example:  taucal demo --out data/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("data/demo"),
    config: Annotated[Path | None, typer.Option(help="Another study file.", show_default=False)] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Run the whole way on a synthetic cohort: phantom, ingest, train, calibrate, track, report."""
    from flows.demo import DEMO_CONFIG, run_demo

    places = [f"output={out}", f"cohort.path={out / 'bids'}", f"ingest.source={out / 'adni'}"]
    result = run_demo(_study(config or DEMO_CONFIG, [*places, *(overrides or [])]))
    if json:
        emit_json(result)


@app.command(epilog="Example:  taucal phantom data/phantom --subjects 40 --scans 50")
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


@app.command(epilog="Example:  taucal ingest ~/ADNI --out data/adni/bids")
def ingest(
    source: Annotated[Path, typer.Argument(help="Folder of scans.", show_default=False)],
    out: Annotated[Path, typer.Option(help="BIDS dataset to write.", show_default=False)],
    tracer: Annotated[str, typer.Option(help="Scans of another tracer are refused.")] = "AV1451",
    layout: Annotated[str, typer.Option(help="auto, dicom, adni, bids or nifti.")] = "auto",
    key_file: Annotated[Path | None, typer.Option(help="Secret of the pseudonyms; default: OUT.key.")] = None,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    classes: Annotated[str, typer.Option(help="Diagnoses to keep, separated by commas.")] = "CN,MCI,AD",
    json: Json = False,
) -> None:
    """Convert scans to de-identified BIDS-PET and SUVR; say what was refused and why."""
    from flows.ingest import ingest as run_ingest

    study = _inline_study(
        out, ingest={"tracer": tracer, "layout": layout, "key_file": key_file, "workers": workers}
    )
    result = run_ingest(source, out, study.ingest, study.imaging, tuple(classes.split(",")))
    say(f"Report: {result.report}")
    if json:
        emit_json(vars(result))
    if not result.converted:
        say("No scan could be converted; the report tells why.")
        raise typer.Exit(2)


@app.command(epilog="Example:  taucal train configs/adni.yaml --set training.epochs=60")
def train(config: Config, overrides: Overrides = None, json: Json = False) -> None:
    """Train, calibrate, evaluate and register the classifier of a study."""
    from flows.report import read_shipped, report_study
    from flows.train import show_results, train_study

    study = _study(config, overrides)
    trained = train_study(study)
    show_results(trained.results)
    pages = report_study(study, trained, read_shipped(study, trained))
    say(f"Study report: {pages['html']}")
    say(f"MLflow run {trained.run_id}, model version {trained.version}.")
    if json:
        emit_json(
            {"run_id": trained.run_id, "version": trained.version, "results": trained.results.to_dict()}
        )


@app.command(epilog="Example:  taucal compare configs/adrenal.yaml --set cohort.path=data/adrenalmnist3d.npz")
def compare(config: Config, overrides: Overrides = None, json: Json = False) -> None:
    """Train every loss with every seed, all else equal, and say which are told apart."""
    from flows.compare import compare_losses

    result = compare_losses(_study(config, overrides))
    say(f"Comparison: {result['html']}")
    if json:
        emit_json(result)


@app.command(
    epilog="Example:  taucal report data/new/SCAN_FOLDER --out data/reports --prevalence CN=.6,MCI=.3,AD=.1"
)
def report(
    scans: Annotated[list[Path], typer.Argument(help="DICOM folders or NIfTI files.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the reports.", show_default=False)],
    model: Annotated[str, typer.Option(help="Registered model or bundle folder.")] = "@champion",
    output: Output = Path("data/demo"),
    prevalence: Annotated[
        str | None, typer.Option(help="The clinic's own class shares.", show_default=False)
    ] = None,
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
    from flows.scan_reports import Request, report_scans

    request = Request(out, model, output, _prevalence(prevalence), key_file, pdf, dicom, send)
    written = report_scans(scans, request)
    for pages in written:
        say(f"Report: {pages['html']}")
    if json:
        emit_json(written)


def _prevalence(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        shares = {name.strip(): float(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError as error:
        raise ConfigError(
            f"A prevalence must look like CN=.6,MCI=.3,AD=.1, got {text!r}", culprit="--prevalence"
        ) from error
    if any(not 0 < value < 1 for value in shares.values()) or abs(sum(shares.values()) - 1) > 0.01:
        raise ConfigError(
            f"Class shares must lie between 0 and 1 and add to 1, got {text!r}", culprit="--prevalence"
        )
    return shares


@app.command(epilog="Example:  taucal promote 3 --output data/demo")
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


@app.command(epilog="Example:  taucal rollback --output data/demo")
def rollback(output: Output = Path("data/demo")) -> None:
    """Swap the champion and the one before."""
    from pipeline import tracking
    from pipeline.config import TrackingSettings

    say(f"Version {tracking.rollback(tracking.store_of(TrackingSettings(), output))} is the champion.")


@app.command(epilog="Example:  taucal doctor --output data/demo")
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


def _inline_study(out: Path, **sections: Any) -> Study:
    from pydantic import ValidationError

    try:
        return Study(name="inline", output=out, cohort={"path": out}, imaging=ImagingSettings(), **sections)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = "--" + str(first["loc"][-1]).replace("_", "-")
        raise ConfigError(f"{first['msg']}, got {first.get('input')!r}", culprit=option) from error


def main() -> None:
    """Run the command line; errors a user can meet are told in one screen, without a traceback."""
    # A polite kill unwinds like Ctrl-C: worker processes and the embedded server go with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(standalone_mode=True)
    except TaucalError as error:
        console.print(f"taucal: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.print(
            "taucal: interrupted; the same command again continues where this stopped.", markup=False
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
