"""What a reader types: the answer to the model's answer about one scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.options import StudyOption
from flows.commands.study_place import locate
from flows.running.console import say, show_result

if TYPE_CHECKING:
    from pipeline.tracking import LedgerEntry


def _option(help_text: str, metavar: str) -> Any:
    return typer.Option(metavar=metavar, help=help_text, show_default=False)


def _prevalence_of(answer: Mapping[str, Any]) -> str:
    """Return at which prevalence the probabilities are that the report shows."""
    if not answer.get("clinic_probabilities"):
        return ", at the prevalence of training"
    stated = ", ".join(f"{n} {100 * s:.3g} %" for n, s in (answer.get("clinic_prevalence") or {}).items())
    return f", at your clinic's prevalence{f' ({stated})' if stated else ''}"


def read(
    pseudonym: Annotated[
        str, typer.Argument(metavar="PSEUDONYM", help="Pseudonym of a scan, as `taucal reports` lists it.")
    ],
    reader: Annotated[str, typer.Argument(metavar="INITIALS", help="Initials of the reader.")],
    verdict: Annotated[
        str | None,
        typer.Argument(
            metavar="VERDICT",
            help="On the model's answer: accept, modify or reject. In a blind study it comes last, alone.",
            show_default=False,
        ),
    ] = None,
    tau: Annotated[str | None, _option("What you see: negative or positive.", "STATUS")] = None,
    pattern: Annotated[
        str | None,
        _option(
            "Where uptake is raised: none, medial-temporal, temporal, temporal-and-beyond or other.",
            "PATTERN",
        ),
    ] = None,
    quality: Annotated[
        str | None, _option("Quality of the scan: good (if not given), limited or unreadable.", "QUALITY")
    ] = None,
    diagnosis: Annotated[
        str | None, _option("Your diagnosis, one of the study's classes, if you state one.", "CLASS")
    ] = None,
    reason: Annotated[
        str | None,
        _option(
            "Why you modify or reject: image-quality, off-target, processing, borderline, clinical, "
            "other-disease or other.",
            "REASON",
        ),
    ] = None,
    comment: Annotated[
        str | None, _option("Free text, stored in MLflow. Do not write names or birth dates.", "TEXT")
    ] = None,
    study: StudyOption = None,
) -> Any:
    """Store a reader's answer about a scan.

    It is what the reader sees on the scan, and a verdict on the model's answer. A second read of the same
    reader corrects the first; options that are not given keep their values. With report.blind_reads the
    reader's own read comes first, and the model's answer is shown after it.
    """
    place = locate(study)
    from flows.reports.read_desk import ReadDesk

    stated = {
        "verdict": verdict, "tau": tau, "pattern": pattern, "quality": quality, "diagnosis": diagnosis,
        "reason": reason, "comment": comment,
    }  # fmt: skip
    given = {"reader": reader, **{name: value for name, value in stated.items() if value is not None}}
    entry, stored = ReadDesk.at(place.named, place.output).record(pseudonym, given)
    say(f"Entry {stored.number} of the audit log. {stored.read.sentence}")
    _show_answer(entry)
    if stored.read.verdict is None:
        call = f"taucal read {entry.scan} {stored.read.reader}"
        say(f"Now give your verdict: `{call} accept`, modify or reject.")
    return {"scan": entry.scan, "entry": stored.number, **stored.read.to_dict(), "answer": dict(entry.answer)}


def _show_answer(entry: LedgerEntry) -> None:
    """Show what the model answered about a scan, at the prevalence that its report shows."""
    from pipeline.evaluation.monitoring.read_words import DECISIONS

    answer = entry.answer
    shares = answer.get("clinic_probabilities") or answer.get("probabilities") or {}
    row = [DECISIONS.get(str(answer.get("decision")), ""), *(f"{100 * p:.1f} %" for p in shares.values())]
    row += [", ".join(answer.get("prediction_set") or ()), "; ".join(answer.get("reasons") or ())]
    title = f"The model's answer: {entry.scan}{_prevalence_of(answer) if shares else ''}"
    show_result(title, ["decision", *shares, "set", "reasons"], [row])
