"""What a new user types: a first study file, and the question where a study stands."""

from __future__ import annotations

import shlex
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.options import StudyOption
from flows.commands.study_place import WRITTEN_BY_INIT, locate
from flows.running.console import say, show_result
from pipeline.errors import ConfigError, InputError
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.config import Study
    from pipeline.tracking.study_status import StudyStatus

_CLASSES = "CN,MCI,AD"
_MOVED = "; there is no {}: if the study was moved, correct output in its file"
_DECISIONS = {"promote": "promoted", "approve": "approved", "rollback": "rolled back to"}


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the study; made where it is missing.")
    ] = Path(),
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE",
            help="Folder or archive of your scans. Asked for if not given.",
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help=f"Classes, separated by commas; default: {_CLASSES}.", show_default=False
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table of diagnoses (CSV or TSV), where the scans bring no table of ADNI or BIDS.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a study file that exists.")] = False,
) -> Any:
    """Write a commented study file for your own scans.

    On a terminal it asks three questions: where the scans are, which classes there are, and where their
    diagnoses are. Options answer them beforehand. The file is FOLDER/taucal.yaml; an existing one stays.
    """
    path = folder / WRITTEN_BY_INIT
    if path.exists() and not overwrite:
        raise InputError(
            "This study file exists already",
            where=str(path),
            hint="edit it, name another FOLDER, or add --overwrite to replace it",
        )
    if source is None:
        source, classes, labels = _ask(classes, labels)
    _check_answers(source, folder, labels)
    from pipeline.config.new_study import new_study_text
    from pipeline.files import write_text

    names = [name.strip() for name in (classes or _CLASSES).split(",") if name.strip()]
    if len(names) < 2:
        raise InputError(
            f"{', '.join(names) or 'No class'} is named, expected two classes or more",
            where="--classes",
            hint=f"separate them by commas, as in {_CLASSES}",
        )
    text = new_study_text(path, source, names, labels)
    _check_text(text)
    write_text(path, text)
    given, dataset, file = (shlex.quote(str(each)) for each in (source, folder / "bids", path))
    say(f"Written: {path}. Next: `taucal ingest {given} --out {dataset}`, then `taucal train {file}`.")
    return {"file": str(path), "source": str(source), "classes": names, "labels": labels and str(labels)}


def _ask(classes: str | None, labels: Path | None) -> tuple[Path, str, Path | None]:
    if not sys.stdin.isatty():
        raise InputError(
            "The folder of your scans is not named, and there is no terminal to ask on",
            where="--source",
            hint="write --source FOLDER, and --classes and --labels where they differ from the defaults",
        )
    source = typer.prompt("Folder or archive of your scans (DICOM, NIfTI, BIDS or ADNI)", err=True)
    if classes is None:
        classes = typer.prompt("Classes, separated by commas", default=_CLASSES, err=True)
    if labels is None:
        question = "Table of diagnoses; empty if the scans bring one of ADNI or BIDS"
        table = typer.prompt(question, default="", show_default=False, err=True)
        labels = Path(table).expanduser() if table.strip() else None
    return Path(source).expanduser(), str(classes), labels


def _check_text(text: str) -> None:
    """Refuse a study that would not be read later, before anything is written."""
    from pipeline.config import check_purpose, load_study

    with tempfile.TemporaryDirectory(prefix="taucal-") as place:
        trial = Path(place) / WRITTEN_BY_INIT
        trial.write_text(text, encoding="utf-8")
        try:
            check_purpose(load_study(trial), "retrain")
        except ConfigError as error:
            raise ConfigError(error.problem, where="taucal init", hint=error.hint) from error


def _check_answers(source: Path, folder: Path, labels: Path | None) -> None:
    if not source.exists():
        raise InputError(
            "There is no such folder or archive of scans", where=str(source), hint="check the path"
        )
    if source.is_file():
        from pipeline.ingest.archive_kinds import kind_of_archive

        if kind_of_archive(source) is None:
            raise InputError(
                "This file is no archive of scans (zip or tar)",
                where=str(source),
                hint="name the folder it is in",
            )
    if labels is not None and not labels.is_file():
        raise InputError("There is no such table of diagnoses", where=str(labels), hint="check the path")
    dataset, scans = (folder / "bids").resolve(), source.resolve()
    if dataset.is_relative_to(scans) or scans.is_relative_to(dataset):
        raise InputError(
            f"The dataset would be {folder / 'bids'}, which overlaps the folder of scans, {source}",
            where=f"FOLDER {folder}",
            hint="name a FOLDER outside of the scans, which is made if it is missing",
        )


def status(study: StudyOption = None) -> Any:
    """Show where a study stands.

    The champion, since when and by whom; the last result and the next run of each schedule; the last test for
    shift and the last performance; scans that wait for a report or a read. Nothing is changed.
    """
    place = locate(study)
    from flows.retraining.promotion import undecided, waiting
    from pipeline.config import load_study
    from pipeline.tracking import store_at
    from pipeline.tracking.study_status import status_of

    file = place.named if place.named.is_file() else place.output / "study.yaml"
    if not file.is_file():
        raise InputError(
            "This folder has no study.yaml, which names the dataset and the schedules",
            where=str(place.output),
            hint="name the YAML file of the study: --study CONFIG",
        )
    resolved = load_study(file).model_copy(update={"output": place.output})
    found = status_of(resolved)
    store = store_at(place.named)
    held, later = waiting(store, place.output), undecided(store, place.output)
    rows = [["champion", _champion(found)]]
    if held is not None:
        answer = f"taucal promote --approve NAME --study {shlex.quote(str(place.named))}"
        rows.append(["waits for approval", f"version {held.version}: `{answer}`, or --reject NAME"])
    if later is not None:
        rows.append(["waits for later scans", f"version {later.version}"])
    rows += _rows(found, _dataset(found, resolved, file))
    show_result(f"taucal status: {found.study}", ["what", "state"], rows)
    return {
        **asdict(found),
        "waits_for_approval": None if held is None else held.version,
        "waits_for_later_scans": None if later is None else later.version,
    }


def _dataset(found: StudyStatus, study: Study, file: Path) -> str:
    """Return how many scans the dataset has; a trained study had one, which may have been moved."""
    from pipeline.config import dataset_hint

    if found.scans is not None:
        return f"{found.scans} in the dataset"
    if found.champion is None or study.cohort.kind != "bids":
        return "no dataset yet"
    place = shlex.quote(str(study.cohort.path))
    again = f"if it was lost, `taucal ingest SOURCE --out {place}` makes it again"
    return f"no dataset at {study.cohort.path}; {dataset_hint(study, file)}; {again}"


def _rows(found: StudyStatus, dataset: str) -> list[list[str]]:
    serving = {True: "yes, `taucal serve` runs", False: "no", None: "started on another machine"}
    rows = [["schedules run", serving[found.serving]]]
    for run in found.runs:
        due = f"due {_time(run.next)}" if run.next else "not scheduled"
        last = f"last result {_time(run.last)}" if run.last else "no result yet"
        rows.append([run.what, f"{last}, {due}"])
    if found.shift is None:
        rows.append(["last shift test", "none of this champion yet"])
    else:
        rows.append(["last shift test", _shift_test(found.shift)])
    rows.append(["last performance", " ".join(found.performance) or "no weekly check of this champion yet"])
    rows.append(["scans", dataset])
    rows.append(["wait for a report", _some(found.without_report)])
    rows.append(["wait for a reader", _some(found.without_read)])
    return rows


def _shift_test(found: dict[str, Any]) -> str:
    from pipeline.evaluation.monitoring.advice import advice_of

    number = found["scans"]
    scans = "" if number is None else f", {counted(number, 'new scan')}"
    reasons = " ".join(found["reasons"])
    advice = advice_of(found["answer"], tested=found["tested"])
    shown = reasons if reasons.startswith(advice) else f"{advice}. {reasons}"
    return f"{_time(found['time'])}{scans}. {shown}"


def _champion(found: StudyStatus) -> str:
    champion = found.champion
    if champion is None:
        moved = "" if Path(found.output).is_dir() else _MOVED.format(found.output)
        return f"none yet: `taucal train` makes the first{moved}"
    if champion.who is None:
        return (
            f"version {champion.version}, registered {_time(champion.since)}; the audit log has no decision"
        )
    how = _DECISIONS.get(str(champion.decision), str(champion.decision))
    why = " ".join(champion.reasons)
    return f"version {champion.version} since {_time(champion.since)}, {how} by {champion.who}. {why}"


def _time(stamp: str) -> str:
    return f"{stamp[:16].replace('T', ' ')} UTC"


def _some(scans: tuple[str, ...]) -> str:
    shown = ", ".join(scans[:3]) + (" ..." if len(scans) > 3 else "")
    return f"{len(scans)}: {shown}" if scans else "none"
