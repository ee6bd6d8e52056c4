"""Codes of the structured report: public ones where there is one, else this project's own scheme."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

PRIVATE_SCHEME = "99TAUCAL"
PRIVATE_SCHEME_NAME = "taucal: tau PET regions, ratios and model answers"
_LONGEST_VALUE, _LONGEST_MEANING = 16, 64


class Code(NamedTuple):
    """A code as DICOM writes it."""

    value: str
    scheme: str
    meaning: str


LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")
BRAIN = Code("12738006", "SCT", "Brain")
YES = Code("373066001", "SCT", "Yes")
NO = Code("373067005", "SCT", "No")
PROBABILITY = Code("122157", "DCM", "Probability")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")

_PUBLIC_REGIONS = {
    "entorhinal": "3937002",
    "hippocampus": "5366008",
    "amygdala": "4958002",
    "insula": "36169008",
    "caudate": "11000004",
    "putamen": "89278009",
    "pallidum": "14738005",
    "thalamus": "42695009",
    "midbrain": "61962009",
    "choroid_plexus": "80621003",
}
"""Regions that SNOMED CT, as DICOM uses it, has a code for; most gyri have none there."""


def private(value: str, meaning: str) -> Code:
    """Return a code of this project's scheme; a value that is too long is cut to its head and a digest.

    Examples
    --------
    >>> private("SUVR", "SUV ratio").scheme
    '99TAUCAL'
    """
    plain = re.sub(r"[^A-Za-z0-9+-]+", "_", value)
    if len(plain) > _LONGEST_VALUE or plain != value.replace(" ", "_"):
        plain = plain[:9] + "-" + hashlib.sha256(value.encode()).hexdigest()[:6]
    return Code(plain, PRIVATE_SCHEME, meaning.replace("\\", "/")[:_LONGEST_MEANING] or plain)


SUVR = private("SUVR", "Standardized uptake value ratio to inferior cerebellar grey")
PROCEDURE = private("tau-pet", "Tau PET of the brain (AV1451)")
DECISION = private("decision", "Decision of the model")
ANSWER = private("answer", "Classification of a tau PET scan")
IN_SET = private("in-set", "In the conformal prediction set")
LOWER = private("range-low", "Lower end of the plausible range")
UPPER = private("range-high", "Upper end of the plausible range")
CLINIC = private("clinic-share", "At the clinic's own prevalence of the classes")
TRAINING = private("training-share", "At the prevalence of the classes in training")
MOST_LIKELY = private("most-likely", "Most likely class")
QUALITY = private("quality", "Quality control of the scan")
VERDICTS = {
    "report": private("report", "The model reports a finding"),
    "refer": private("refer", "Refer for expert read: the model does not decide"),
    "refused": private("refused", "The scan was refused: no probability"),
}
QUALITIES = {
    "pass": private("pass", "Passed"),
    "warn": private("warn", "Warning"),
    "refuse": private("refuse", "Refused"),
}


def region_code(region: str, title: str) -> Code:
    """Return the code of an atlas region.

    Examples
    --------
    >>> region_code("amygdala", "Amygdala").scheme, region_code("precuneus", "Precuneus").scheme
    ('SCT', '99TAUCAL')
    """
    public = _PUBLIC_REGIONS.get(region)
    return Code(public, "SCT", title) if public else private(region, title)


def class_code(name: str, title: str) -> Code:
    """Return the code of a class of the cohort.

    Examples
    --------
    >>> class_code("CN", "cognitively normal").value
    'class-CN'
    """
    return private(f"class-{name}", title or name)


def uid(*parts: str) -> str:
    """Return a DICOM UID derived from texts, under the 2.25 root.

    Examples
    --------
    >>> uid("a", "b") == uid("a", "b") != uid("ab")
    True
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
