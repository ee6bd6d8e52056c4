"""Why a scan is referred, as a reader says it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.reporting.page.facts import listed


def in_words(reason: str, prediction_set: Sequence[str]) -> str:
    """Return a reason in words: those of `models.prediction.reasons_to_refer` about set and confidence."""
    if prediction_set and re.match(r"The \d+ % prediction set contains more than ", reason):
        return f"The model does not decide between {listed(prediction_set)}"
    if re.match(r"The highest probability, [\d.]+ %, is below ", reason):
        return "No class is likely enough for a finding of the model"
    return reason
