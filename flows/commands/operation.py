"""What an operator types: retrain, choose the champion, run the schedules, check the machine."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.options import (
    Config,
    Overrides,
    PartFailed,
    StudyOption,
    check_cohort,
    study_of,
)
from flows.commands.study_place import StudyPlace, find_studies, locate
from flows.running.console import say, show_result, show_table
from flows.running.environment import server_may_be_known
from pipeline.errors import InputError
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.tracking import Entry, Store


def retrain(
    config: Config,
    overrides: Overrides = None,
    who: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name recorded in the audit log; default: your login.", show_default=False
        ),
    ] = None,
    accept_smaller: Annotated[
        bool,
        typer.Option("--accept-smaller", help="Continue with fewer labelled scans than the champion had."),
    ] = False,
) -> Any:
    """Ingest new scans, and retrain if that is needed.

    The new model becomes the champion if it passes the gate, which tests that it is no worse than the present
    champion on the same test scans.
    """
    accepted = ["retrain.accept_smaller=true"] if accept_smaller else []
    from pipeline.files import whoami

    study = study_of(config, [*accepted, *(overrides or [])], "retrain", {"retrain.who": who or whoami()})
    from flows.retrain import retrain as door
    from flows.running.doors import run_door

    done = run_door(door, study)
    if done.verdict is not None:
        rows = [[c.name, "passed" if c.passed else "failed", c.sentence] for c in done.verdict.checks]
        show_table(f"The gate: version {done.challenger}", ["check", "outcome", "why"], rows)
    approval = f"`taucal promote --approve NAME --study {shlex.quote(str(config))}`"
    outcomes = {
        "unchanged": f"Nothing was retrained; version {done.version} is still the champion.",
        "promoted": f"Version {done.version} is the champion.",
        "held": f"Version {done.challenger} waits for approval: {approval} makes it the champion.",
        "undecided": f"Version {done.challenger} waits for later scans; "
        f"version {done.version} is still the champion.",
        "rejected": f"Version {done.challenger} did not pass; version {done.version} is still the champion.",
    }
    say(outcomes[done.outcome])
    return done.to_dict()


def shift(config: Config, overrides: Overrides = None) -> Any:
    """Test new scans for distribution shift.

    They are compared with the calibration scans of the champion. The model is not changed.
    """
    study = study_of(config, overrides, "retrain", writes=False)
    check_cohort(study, config)
    from flows.retraining.shift_check import shift as door
    from flows.running.doors import run_door
    from pipeline.evaluation.monitoring.advice import advice_of

    checked = run_door(door, study)
    advice = advice_of(checked.answer, tested=checked.tested)
    say(f"{counted(checked.scans, 'new scan')}, champion: {checked.champion or 'none'}. {advice}.")
    return asdict(checked)


def week(config: Config, overrides: Overrides = None) -> Any:
    """Check the answers of the last seven days, and write a page.

    The page estimates how often the champion is right before diagnoses are known, and states whether the
    scans have changed. The model is not changed.
    """
    study = study_of(config, overrides, "retrain")
    check_cohort(study, config)
    from flows.retraining.weekly_check import week as door
    from flows.running.doors import run_door

    checked = run_door(door, study)
    return {**checked.report.model_dump(mode="json"), "page": checked.page}


def promote(
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", help="Number of a model version.", show_default=False)
    ] = None,
    approve: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Promote the version that waits for approval; NAME is who approves it.",
            show_default=False,
        ),
    ] = None,
    reject: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Reject the version that waits for approval; NAME is who rejects it.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why, for the audit log.", show_default=False)
    ] = "",
    study: StudyOption = None,
) -> Any:
    """Make a registered model version the champion.

    Give its number, or approve or reject the version that waits. The present champion becomes `previous`.
    """
    if [version, approve, reject].count(None) != 2:
        raise InputError(
            "Give either a VERSION or --approve NAME or --reject NAME",
            where="promote",
            hint="`taucal audit` lists the versions",
        )
    place = locate(study, changes=True)
    from flows.retraining import promotion
    from pipeline import tracking
    from pipeline.files import whoami

    store, output = tracking.store_at(place.named), place.output
    before = tracking.champion_version(store)
    if version is None:
        _answer_for(place, store, approve, reject, reason)
    else:
        tracking.check_stored(store, version)
        promotion.promote_by_hand(store, output, version, whoami())
    _end_questions(place)
    champion = tracking.champion_version(store)
    say(f"Version {champion} is {'still ' if champion == before else ''}the champion.")
    return {"study": output, "champion": champion}


def _answer_for(
    place: StudyPlace, store: Store, approve: str | None, reject: str | None, reason: str
) -> None:
    """Approve or reject the version that waits; one that is not stored whole is not approved."""
    from flows.retraining import promotion
    from flows.retraining.approval import HumanAnswer, answer
    from pipeline import tracking

    held = promotion.waiting(store, place.output)
    if approve is not None and held is not None and held.version is not None:
        tracking.check_stored(store, held.version)
    answer(store, place.output, HumanAnswer(approve is not None, approve or reject or "", reason))


def _end_questions(place: StudyPlace) -> None:
    """End the runs in Prefect that ask about a version that no longer waits, if a server is known."""
    stored = place.output / "study.yaml"
    file = place.named if place.named.is_file() else stored
    if not file.is_file() or not server_may_be_known(place.output):
        return
    from flows.retraining.ask_in_prefect import end_questions_of
    from pipeline.config import load_study

    end_questions_of(load_study(file).model_copy(update={"output": place.output}))


def rollback(study: StudyOption = None) -> Any:
    """Make the previous champion the champion again.

    The present one becomes `previous`: a second rollback undoes the first.
    """
    place = locate(study, changes=True)
    from flows.retraining import promotion
    from pipeline import tracking
    from pipeline.files import whoami

    champion = promotion.roll_back(tracking.store_at(place.named), place.output, whoami())
    _end_questions(place)
    say(f"Version {champion} is the champion.")
    return {"study": place.output, "champion": champion}


def audit(study: StudyOption = None) -> Any:
    """Show who decided what about which model, what readers answered, and why.

    It first checks that no entry was altered or removed.
    """
    place = locate(study)
    from flows.retraining.promotion import checked_audit
    from pipeline import tracking

    entries = checked_audit(tracking.store_at(place.named), place.output)
    header = ["number", "time (UTC)", "decision", "version", "champion then", "who", "why"]
    if entries:
        show_result("taucal audit", header, [_cells(entry) for entry in entries])
        say(f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}, none altered or missing.")
    else:
        say(f"No decision about a model is recorded in {place.output / 'audit.db'} yet.")
    return [vars(entry) for entry in entries]


def _cells(entry: Entry) -> list[str]:
    versions = ["" if number is None else str(number) for number in (entry.version, entry.over)]
    return [str(entry.number), entry.time, entry.kind, *versions, entry.who, "\n".join(entry.reasons)]


def serve(config: Config, overrides: Overrides = None) -> Any:
    """Run the schedules of a study until Ctrl-C.

    Ingest, reports, shift check, weekly page and retraining run by their cron lines. The pages of Prefect and
    MLflow are served too, and a form for readers.
    """
    study = study_of(config, overrides)
    from flows.serve import serve as run_schedules

    run_schedules(study)
    return {"study": study.name, "output": study.output, "state": "ended"}


def deploy(
    config: Config,
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="Existing work pool of Prefect.", show_default=False)
    ],
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Container image, for Docker and Kubernetes.", show_default=False),
    ] = None,
    study_file: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Path of the study's file on the workers; default: a private file of this user.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
) -> Any:
    """Register the flows of a study with a work pool of Prefect.

    Its workers run ingest, reports, shift check, weekly page and retraining on the schedules of the study;
    training and comparison run when somebody starts them. `taucal serve` needs no pool.
    """
    study = study_of(config, overrides, writes=False)
    from flows.serving.pool import deploy as register

    made = register(study, pool, image=image, study_file=study_file)
    say(f"Registered with work pool {pool}: {', '.join(made)}.")
    return {"pool": pool, "deployments": made}


def doctor(study: StudyOption = None) -> Any:
    """Check this machine and the store of a study.

    Each problem comes with its fix. Exit code 1 if something required is missing.
    """
    say("Checking this machine.")
    if study is None and len(find_studies(Path())) != 1:
        named, output = None, Path()
    else:
        place = locate(study)
        named, output = place.named, place.output
    from flows.doctor import examine

    checks = examine(output, named)
    rows = [[c.name, c.state, c.seen, "" if c.ok else c.hint] for c in checks]
    show_result("taucal doctor", ["what", "state", "found", "fix"], rows)
    result = [{**vars(c), "state": c.state} for c in checks]
    return result if all(c.ok for c in checks if c.required) else PartFailed(result)
