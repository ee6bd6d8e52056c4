"""The words of a read: the values of its fields and what they mean, and how typed text becomes one."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from pipeline.errors import InputError

DECISIONS = {"report": "finding", "refer": "referred to an expert", "refused": "refused"}
"""What an answer of the model is called, by the word that is stored of it."""
VERDICTS = {
    "accept": "accepts the model's answer",
    "modify": "accepts part of the model's answer",
    "reject": "rejects the model's answer",
}
TAU = {"negative": "tau-negative", "positive": "tau-positive"}
PATTERNS = {
    "none": "no raised uptake in the cortex",
    "medial-temporal": "medial temporal only",
    "temporal": "limited to the temporal lobe",
    "temporal-and-beyond": "the temporal lobe and beyond",
    "other": "outside the temporal lobe only",
}
"""As the report of a scan names the pattern that it computes."""
QUALITY = {"good": "good", "limited": "limited", "unreadable": "not readable"}
REASONS = {
    "image-quality": "image quality",
    "off-target": "off-target binding",
    "processing": "registration or reference region",
    "borderline": "borderline uptake",
    "clinical": "clinical information that the model has not",
    "other-disease": "another disease",
    "other": "another reason, see the text",
}
CHOICES = {"verdict": VERDICTS, "tau": TAU, "pattern": PATTERNS, "quality": QUALITY, "reason": REASONS}
"""Field -> its values and what they mean."""
OWN = ("tau", "pattern", "quality", "diagnosis")
"""The fields that a reader fills in before the model's answer is shown, where reads are blind."""
LONGEST_COMMENT = 1000
_LONGEST_INITIALS = 6


def check_choices(texts: Mapping[str, str], classes: Sequence[str]) -> None:
    """Refuse a value that is not one of its field, or a class that the study has not.

    Raises
    ------
    InputError
        Naming the field.
    """
    for name, choices in CHOICES.items():
        if texts.get(name) and texts[name] not in choices:
            raise wrong_field(name, f"{texts[name]!r} is not a known value", f"give {either(choices)}")
    if texts.get("diagnosis") and texts["diagnosis"] not in classes:
        problem = f"{texts['diagnosis']!r} is not a class of this study"
        raise wrong_field("diagnosis", problem, f"give {either(classes)}")


def initials_of(text: str) -> str:
    """Return the initials of a reader in capitals.

    Raises
    ------
    InputError
        If they are missing or no initials.
    """
    found = text.strip()
    if not (1 <= len(found) <= _LONGEST_INITIALS and found.isalpha()):
        seen = f"{found!r} are no initials" if found else "The reader is missing"
        raise wrong_field("reader", seen, f"give initials of 1 to {_LONGEST_INITIALS} letters, as in AB")
    return unicodedata.normalize("NFC", found).upper()


def plain_text(text: str) -> str:
    """Return free text on one line without control or direction marks.

    Raises
    ------
    InputError
        If it is longer than `LONGEST_COMMENT`.
    """
    marks = (" " if c.isspace() else c for c in unicodedata.normalize("NFC", text.replace("\ud800", "")))
    line = " ".join("".join(c for c in marks if c == " " or unicodedata.category(c)[0] != "C").split())
    if len(line) > LONGEST_COMMENT:
        raise wrong_field(
            "comment",
            f"The text has {len(line)} characters, expected at most {LONGEST_COMMENT}",
            "shorten it",
        )
    return line


def either(names: Sequence[str] | Mapping[str, str]) -> str:
    """Return names as a choice: ``a, b or c``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def wrong_field(field: str, problem: str, hint: str) -> InputError:
    """Return the error of a field of a read."""
    return InputError(problem, where=field, hint=hint)
