"""A reader's answer to the model's: the read itself, and which reads are accepted.

The words follow IHE's AI Results Assessment: a reader accepts, modifies or rejects an answer. A read is what
a person sees on the scan; the verdict is what that person makes of the model's answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.evaluation.monitoring.read_words import (
    CHOICES,
    LONGEST_COMMENT,
    OWN,
    PATTERNS,
    QUALITY,
    REASONS,
    TAU,
    VERDICTS,
    check_choices,
    either,
    initials_of,
    plain_text,
    wrong_field,
)

__all__ = [
    "CHOICES", "LONGEST_COMMENT", "OWN", "PATTERNS", "QUALITY", "REASONS", "TAU", "VERDICTS", "AnsweredRead",
    "AskedRead", "Read", "RecordedRead", "current_reads", "next_read", "shown_of",
]  # fmt: skip


@dataclass(frozen=True)
class Read:
    """What a reader sees on a scan, and makes of the model's answer.

    Parameters
    ----------
    reader : str
        Initials.
    tau : str or None
        Key of `TAU`; None where the scan is not readable.
    pattern : str or None
        Key of `PATTERNS`.
    quality : str
        Key of `QUALITY`.
    diagnosis : str or None
        The class of the study that the reader gives the scan.
    verdict : str or None
        Key of `VERDICTS`; None as long as the model's answer is not shown.
    reason : str or None
        Key of `REASONS`.
    comment : str
        Free text.
    blind : bool
        Whether `tau`, `pattern`, `quality` and `diagnosis` were stored before the model's answer was shown.
    """

    reader: str
    tau: str | None
    pattern: str | None
    quality: str
    diagnosis: str | None = None
    verdict: str | None = None
    reason: str | None = None
    comment: str = ""
    blind: bool = False

    @property
    def overrides(self) -> bool:
        """Whether the reader modifies or rejects the model's answer."""
        return self.verdict in ("modify", "reject")

    @property
    def sentence(self) -> str:
        """The verdict and the reader's own read in words, each by itself, without the free text."""
        seen = [TAU.get(self.tau or "", "not read"), PATTERNS.get(self.pattern or "", "")]
        seen += [f"class {self.diagnosis}" if self.diagnosis else "", f"quality {QUALITY[self.quality]}"]
        verdict = VERDICTS.get(self.verdict or "", "has not seen the model's answer")
        reason = f" ({REASONS[self.reason]})" if self.reason else ""
        when = ", before the model's answer was shown" if self.blind else ""
        own = f"{self.reader}'s own read{when}: {'; '.join(filter(None, seen))}."
        return f"{self.reader} {verdict}{reason}. {own}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class RecordedRead:
    """A read as it is stored.

    Parameters
    ----------
    read_id, trace_id : str
        Of the feedback in MLflow, and of the prediction it belongs to.
    time : str
        UTC, as ``2026-11-21T15:40:00Z``.
    number : int
        Of its entry in the audit log.
    superseded : bool
        Whether the same reader has corrected it since.
    """

    read: Read
    read_id: str
    trace_id: str
    time: str
    number: int
    superseded: bool = False


@dataclass(frozen=True)
class AnsweredRead:
    """A read with the answer that it is about.

    Parameters
    ----------
    scan : str
        Pseudonym.
    version : str
        Of the model; empty where it has no number.
    answer : mapping
        What `shown_of` takes from the model's answer.
    """

    scan: str
    version: str
    answer: Mapping[str, Any]
    recorded: RecordedRead


@dataclass(frozen=True)
class AskedRead:
    """What a reader is asked about.

    Parameters
    ----------
    trace_id : str
        Of the prediction in MLflow.
    answer : mapping
        The model's, see `pipeline.one_scan.Answer`.
    classes : sequence of str
        Of the study.
    blind : bool
        Whether the study asks for the read before it shows the answer.
    """

    trace_id: str
    answer: Mapping[str, Any]
    classes: Sequence[str]
    blind: bool = False


def next_read(given: Mapping[str, str], earlier: Sequence[RecordedRead], asked: AskedRead) -> Read:
    """Return the read that a reader gives now, with what the same reader has stated before.

    Parameters
    ----------
    given : mapping of str to str
        Fields of `Read` as text. Without `tau` and verdict, what the reader stated last holds: of the scan,
        and of the same answer.
    earlier : sequence of RecordedRead
        All reads of the scan, of any reader.

    Raises
    ------
    InputError
        Naming the field that is missing or contradicts another.
    """
    reader = initials_of(given.get("reader", ""))
    mine = sorted((r for r in earlier if r.read.reader == reader), key=lambda r: r.number)
    texts = {name: str(given[name]).strip() for name in (*OWN, "verdict", "reason") if name in given}
    check_choices(texts, asked.classes)
    before = mine[-1].read if mine else None
    own = {name: texts.get(name) or None for name in OWN}
    if before is not None and "tau" not in texts and own["quality"] != "unreadable":
        own |= {name: getattr(before, name) for name in OWN if name not in texts}
    read = Read(reader, **{**own, "quality": own["quality"] or "good"})  # type: ignore[arg-type]
    read = replace(read, verdict=texts.get("verdict") or None, reason=texts.get("reason") or None)
    same = [r.read for r in mine if r.trace_id == asked.trace_id]
    if same and "verdict" not in texts:
        read = replace(read, verdict=same[-1].verdict, reason=read.reason or same[-1].reason)
    comment = same[-1].comment if same and "comment" not in given else given.get("comment", "")
    unchanged = before is not None and all(getattr(read, name) == getattr(before, name) for name in OWN)
    seen_blind = asked.blind if before is None else before.blind and unchanged
    read = replace(read, comment=plain_text(comment), blind=seen_blind)
    _check_own(read)
    if asked.blind and before is None:
        _check_no_verdict(read)
    else:
        _check_verdict(read, asked.answer)
    return read


def shown_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader judges of an answer: decision, most likely class, its probability and the set."""
    shares = answer.get("clinic_probabilities") or answer.get("probabilities") or {}
    likely = max(shares, key=shares.__getitem__, default=None)
    return {
        "decision": answer.get("decision"),
        "most_likely": likely,
        "confidence": None if likely is None else round(float(shares[likely]), 6),
        "prediction_set": list(answer.get("prediction_set") or ()),
    }


def current_reads(reads: Sequence[RecordedRead]) -> list[RecordedRead]:
    """Return the reads that no later one of the same reader supersedes, the newest last."""
    last = {r.read.reader: r for r in sorted(reads, key=lambda r: r.number) if not r.superseded}
    return sorted(last.values(), key=lambda r: r.number)


def _check_own(read: Read) -> None:
    if read.quality == "unreadable":
        if read.tau or read.pattern or read.diagnosis:
            raise wrong_field(
                "quality", "The scan is not readable, but a read is given", "leave out one of the two"
            )
        return
    if read.tau is None:
        raise wrong_field(
            "tau", "It is missing whether the scan is tau-negative or tau-positive", f"give {either(TAU)}"
        )
    if read.tau == "positive" and read.pattern in (None, "none"):
        raise wrong_field(
            "pattern",
            "A tau-positive read has no pattern of raised uptake",
            f"give {either([p for p in PATTERNS if p != 'none'])}",
        )


def _check_no_verdict(read: Read) -> None:
    if read.verdict is not None:
        raise wrong_field(
            "verdict",
            "The model's answer is shown after the read, so that the read is blind",
            "give your read without a verdict first, then the verdict alone",
        )


def _check_verdict(read: Read, answer: Mapping[str, Any]) -> None:
    if read.verdict is None:
        raise wrong_field(
            "verdict", "The verdict on the model's answer is missing", f"give {either(VERDICTS)}"
        )
    if read.overrides and read.reason is None:
        raise wrong_field("reason", f"To {read.verdict} an answer needs a reason", f"give {either(REASONS)}")
    if read.reason == "other" and not read.comment:
        raise wrong_field(
            "comment", "The reason is another one, which no text names", "write it as the comment"
        )
    possible = answer.get("prediction_set") or ()
    if read.verdict == "accept" and read.diagnosis and possible and read.diagnosis not in possible:
        raise wrong_field(
            "diagnosis",
            f"The answer {either(possible)} is accepted, but the class given is {read.diagnosis}",
            "modify or reject the answer, or correct the class",
        )
