"""Findings that fail closed: a scan is used only where every rule could be checked and held.

A measured value that is not a number counts as the worst one. Limits were set on synthetic scans, sound and
spoiled, and on real volumes that are no brains; every finding states them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import RefusedScan

Verdict = Literal["pass", "warn", "refuse"]


@dataclass(frozen=True)
class Finding:
    """One rule, what was measured and what follows.

    Parameters
    ----------
    rule : str
        Short machine name, as in ``"reference-uniformity"``.
    verdict : {"pass", "warn", "refuse"}
    measured : float
        NaN where it could not be measured.
    limit : str
        The limits in words, as in ``"warn above 0.2, refuse above 0.35"``.
    message : str
        For a person.
    detail : str
        What the measured value is based on, as in ``"412 voxels, most in left amygdala"``.
    """

    rule: str
    verdict: Verdict
    measured: float
    limit: str
    message: str
    detail: str = ""


@dataclass(frozen=True)
class Limit:
    """How far a measured value may go.

    Parameters
    ----------
    what : str
        Name of the measured quantity; a sentence begins with it.
    warn, refuse : float or None
        None where a rule never warns or never refuses.
    bad : {"above", "below"}
        On which side of the limits values are bad.
    hint : str
        What the reader can do.
    """

    what: str
    warn: float | None
    refuse: float | None
    bad: Literal["above", "below"]
    hint: str

    def __str__(self) -> str:
        parts = [
            f"{word} {self.bad} {v:g}"
            for word, v in (("warn", self.warn), ("refuse", self.refuse))
            if v is not None
        ]
        return ", ".join(parts)

    def verdict(self, measured: float) -> Verdict:
        """Judge a value; what is not a number fails closed.

        Examples
        --------
        >>> Limit("Motion (mm)", 4, 12, "above", "").verdict(5.0)
        'warn'
        """
        if self._beyond(measured, self.refuse):
            return "refuse"
        return "warn" if self._beyond(measured, self.warn) else "pass"

    def shown(self, measured: float) -> str:
        """Return a measured value with three digits, or with as many as put it on its side of the limits.

        Examples
        --------
        >>> limit = Limit("Coverage", 0.98, 0.93, "below", "")
        >>> limit.shown(0.72136), limit.shown(0.92996), limit.shown(0.93)
        ('0.721', '0.92996', '0.93')
        """
        texts = (f"{measured:.{digits}g}" for digits in range(3, 17))
        verdict = self.verdict(measured)
        return next((text for text in texts if self.verdict(float(text)) == verdict), repr(measured))

    def _beyond(self, measured: float, bound: float | None) -> bool:
        if bound is None:
            return False
        return math.isnan(measured) or (measured > bound if self.bad == "above" else measured < bound)


_LOOK = "open the scan in a viewer and check it"
_WHOLE = "use a scan of the whole head"
_EXPORT = "export the series again"
_UNCUT = "use a scan that is not cut or masked"
_TRACER = "check the tracer, and open the scan in a viewer"
_OFFSET = "check the intercept: nothing may be added to all values"
_SIDES = "look for a lesion of the cerebellum, or wrong attenuation of one side"
LIMITS: dict[str, Limit] = {
    "invalid-voxels": Limit("Share of NaN or infinite voxels in a region", 0.0, 0.01, "above", _EXPORT),
    "constant-voxels": Limit("Share of a region with one constant value", 0.02, 0.1, "above", _UNCUT),
    "negative-voxels": Limit("Share of negative voxels in the brain", 0.01, 0.1, "above", "check its slopes"),
    "frame-motion": Limit("Motion between frames (mm)", 6.0, 12.0, "above", "choose a window without motion"),
    "registration-failed": Limit("Variance explained by the tissue model", 0.74, 0.55, "below", _LOOK),
    "upside-down": Limit("Better fit of the head turned over", 0.0, 0.05, "above", "correct the orientation"),
    "not-a-brain": Limit("Mutual information with a brain", 0.28, 0.2, "below", _LOOK),
    "implausible-size": Limit("Size of the head relative to the template", 1.32, 1.4, "above", _LOOK),
    "implausible-shear": Limit("Shear of the head relative to the template", 0.12, 0.2, "above", _LOOK),
    "head-turned": Limit("Rotation of the head (degrees)", 40.0, 60.0, "above", "check the orientation"),
    "brain-overlap": Limit("Dice overlap with the template's brain", 0.8, 0.7, "below", _LOOK),
    "brain-coverage": Limit("Share of the brain in the field of view", 0.98, 0.93, "below", _WHOLE),
    "region-coverage": Limit("Share of a region outside the field of view", 0.05, 0.5, "above", _WHOLE),
    "reference-coverage": Limit("Share of the cerebellum in the field of view", 0.98, 0.9, "below", _WHOLE),
    "reference-uniformity": Limit("Variation in the reference region (SD/mean)", 0.21, 0.26, "above", _LOOK),
    "reference-sides": Limit("One side of the reference region over the other", 1.15, 1.35, "above", _SIDES),
    "cerebellum-ratio": Limit("Fold difference of upper to lower cerebellum", 1.18, 1.26, "above", _LOOK),
    "cerebellar-white-ratio": Limit(
        "Fold difference of white to grey cerebellum", 1.18, 1.25, "above", _TRACER
    ),
    "pons-ratio": Limit("Fold difference of pons to cerebellum", 1.32, 1.55, "above", _TRACER),
    "reference-pattern": Limit("Reference region unlike sound ones (SD)", 4.1, 4.6, "above", _LOOK),
    "air-level": Limit("Level of the air against the reference region", 0.08, 0.25, "above", _OFFSET),
    "noise": Limit("Noise in white matter (SD/mean)", 0.25, 0.5, "above", "average more frames"),
    "implausible-suvr": Limit("Median cortical SUVR, or its inverse", 3.5, 5.5, "above", "check the tracer"),
}  # fmt: skip


def judge(rule: str, measured: float, detail: str = "") -> Finding:
    """Compare a measured value with its limits.

    Parameters
    ----------
    rule : str
        Of `LIMITS`.
    detail : str
        What the value is based on, in words.

    Examples
    --------
    >>> judge("frame-motion", 1.0).verdict
    'pass'
    """
    limit = LIMITS[rule]
    verdict = limit.verdict(measured)
    passed = verdict == "pass"
    message = f"{limit.what}: {limit.shown(measured)}{_noted(detail, '' if passed else str(limit))}"
    if not passed:
        message += f": {limit.hint}"
    return Finding(rule, verdict, float(measured), str(limit), message, detail)


def _noted(*parts: str) -> str:
    """Return what there is to add to a value, in brackets."""
    given = "; ".join(part for part in parts if part)
    return f" ({given})" if given else ""


def note(rule: str, verdict: Verdict, message: str, measured: float = math.nan) -> Finding:
    """Return a finding without a limit, such as an assumption that was made."""
    return Finding(rule, verdict, measured, "", message)


def refuse_if_needed(findings: Sequence[Finding]) -> None:
    """Raise for the first finding that refuses.

    Raises
    ------
    RefusedScan
        With the rule, the value, the hint and all findings.
    """
    for finding in findings:
        if finding.verdict == "refuse":
            limit = LIMITS.get(finding.rule)
            value = limit.shown(finding.measured) if limit else f"{finding.measured:.3g}"
            noted = _noted(finding.detail, finding.limit)
            raise RefusedScan(
                finding.rule,
                f"{limit.what} is {value}{noted}" if limit else finding.message,
                hint=limit.hint if limit else "",
                measured=value,
                findings=findings,
            )
