"""Single scans: predict them, report them, list what was answered, find whose they are."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.options import PartFailed, StudyOption, check_output, check_outside_dataset, key_option
from flows.commands.study_place import locate
from flows.running.console import say, show_result
from flows.running.environment import server_may_be_known
from flows.running.garbage import few_searches_for_garbage, no_search_for_garbage
from models.shares import read_shares
from pipeline.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pipeline.tracking import LedgerEntry

Scans = Annotated[
    list[Path],
    typer.Argument(
        metavar="SCAN",
        help="Folders or archives of one scan each, or DICOM or NIfTI files.",
        show_default=False,
        exists=True,
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


@few_searches_for_garbage()
def predict(
    scans: Scans, model: Model = "@champion", study: StudyOption = None, prevalence: Prevalence = None
) -> Any:
    """Predict scans and print the result.

    No file is written. Exit code 1 if a scan has no prediction.
    """
    shares, named = _shares(prevalence), locate(study).named
    with no_search_for_garbage():
        from flows.reports.predict import predict_scans, rows_of

    answers = predict_scans(scans, model, named, shares)
    show_result("Research use only - not for diagnostic use", *rows_of(scans, answers))
    result = [{"scan": str(path), **answer} for path, answer in zip(scans, answers, strict=True)]
    return result if all(a["probabilities"] is not None for a in answers) else PartFailed(result)


@few_searches_for_garbage()
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
    check_output(out, "--out")
    check_outside_dataset(out)
    shares, place = _shares(prevalence), locate(study)
    named = place.named
    with no_search_for_garbage():
        from flows.report import Request, report_scans

    request = Request(out, model, named, shares, key_file, pdf, dicom, send)
    file = named if named.is_file() else named / "study.yaml"
    if file.is_file() and server_may_be_known(place.output):
        from flows.reports.asked_reports import report_recorded
        from pipeline.config import load_study

        written = report_recorded(load_study(file), scans, request)
    else:
        written = report_scans(scans, request)
    return PartFailed(written) if any(pages.refusal for pages in written) else written


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007 - `reports` takes it as UTC
    except ValueError:
        raise InputError(f"{text} is no date", where="--since", hint="write it as 2026-01-31") from None


def reports(
    since: Annotated[
        datetime | None,
        typer.Option(
            metavar="DATE",
            parser=_day,
            help="Only those of this day or later (UTC).",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only those by this version of the model.", show_default=False),
    ] = None,
    study: StudyOption = None,
) -> Any:
    """List recorded reports and predictions, the newest first.

    MLflow stores them, with later diagnoses and the answers of readers.
    """
    place = locate(study)
    from pipeline import tracking
    from pipeline.evaluation.monitoring.read_words import DECISIONS

    moment = None if since is None else since.replace(tzinfo=UTC)
    number = None if version is None else str(version)
    found = tracking.answered_scans(tracking.store_at(place.named), since=moment, version=number)
    header = ["time (UTC)", "kind", "scan", "version", "decision", "set", "diagnosis since", "read by"]
    rows = [
        [e.time, e.kind, e.scan, e.version, DECISIONS.get(str(e.answer.get("decision")), ""), _set_of(e),
         e.diagnosis or "", _readers_of(e)]
        for e in found
    ]  # fmt: skip
    if rows:
        show_result("taucal reports", header, rows)
    else:
        asked = [f"by version {version}"] if version is not None else []
        asked += [f"since {since:%Y-%m-%d}"] if since is not None else []
        say(" ".join(["No report or prediction", *asked, "is recorded."]))
    return [asdict(entry) for entry in found]


def _set_of(entry: LedgerEntry) -> str:
    return ", ".join(entry.answer.get("prediction_set") or ())


def _readers_of(entry: LedgerEntry) -> str:
    current = [r.read for r in entry.reads if not r.superseded]
    return ", ".join(f"{read.reader} ({read.verdict or 'no verdict yet'})" for read in current)


def label(
    pseudonym: Annotated[
        str,
        typer.Argument(
            metavar="PSEUDONYM", help="Pseudonym of a scan or subject, as `taucal reports` lists it."
        ),
    ],
    diagnosis: Annotated[str, typer.Argument(metavar="DIAGNOSIS", help="One of the study's classes.")],
    study: StudyOption = None,
) -> Any:
    """Store a later diagnosis of a scan.

    It is stored with the recorded reports and predictions of the scan, which shows whether their
    answers were right. Training takes diagnoses from the tables of the dataset instead.
    """
    place = locate(study)
    from pipeline import tracking
    from pipeline.config import load_study

    file = place.named if place.named.is_file() else place.output / "study.yaml"
    classes = load_study(file).cohort.classes
    if diagnosis not in classes:
        raise InputError(
            f"{diagnosis!r} is not a class of this study",
            where="DIAGNOSIS",
            hint=f"give one of {', '.join(classes)}",
        )
    count = tracking.set_diagnosis(tracking.store_at(place.named), pseudonym, diagnosis)
    say(f"The diagnosis {diagnosis} is stored with {count} reports or predictions of {pseudonym}.")
    return {"scan": pseudonym, "diagnosis": diagnosis, "answers": count}


def who(
    pseudonym: Annotated[
        str,
        typer.Argument(metavar="PSEUDONYM", help="Pseudonym of a subject or scan, from a table or report."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Dataset or folder of reports that it comes from.", show_default=False
        ),
    ] = None,
    study: StudyOption = None,
    key_file: Annotated[
        Path | None, key_option("OUT.key where --out is given, or that of the study's dataset")
    ] = None,
) -> Any:
    """Print which subject, series and files a pseudonym stands for.

    The answer identifies a person. It is read from a private file beside the key.
    """
    from pipeline.ingest.deidentify import key_beside, key_of_study
    from pipeline.ingest.source_map import who as look_up

    key = key_file or (key_beside(out) if out is not None else key_of_study(locate(study).named))
    if key is None:
        raise InputError(
            "The study has no dataset with a key", where="--study", hint="name the key by --key-file"
        )
    if key_file is None and out is not None and not key.exists():
        raise InputError(
            "This folder has no key of pseudonyms beside it",
            where=f"--out {out}",
            hint="reports of a study have the pseudonyms of its dataset: give --study in place of --out",
        )
    found = look_up(pseudonym, key)
    header = ["scan", "subject", "date", "series", "path"]
    rows = [[scan, f["subject"], f["date"], f["series"], f["paths"][-1]] for scan, f in found.items()]
    show_result(f"taucal who {pseudonym}", header, rows)
    return [{"scan": scan, **facts} for scan, facts in found.items()]


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
