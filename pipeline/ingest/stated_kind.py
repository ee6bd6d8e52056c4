"""What a header or table states of an image beside its values: attenuation, a phantom, an animal."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.errors import RefusedScan
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.vocabulary import names_no_attenuation, squeeze

NOT_CORRECTED = re.compile(
    r"none|(no|not|non|un|without)(ac|attn|attenuation)?(correct(ion|ed))?|nac|notapplied|false|off|0"
)
"""Ways to write that attenuation was not corrected, in lower case without punctuation."""
_UNKNOWN = ("", "na", "unknown", "other", "unspecified")
_HUMAN = ("human", "humans", "homosapiens", "homosapienssapiens", "hsapiens", "person")


def attenuation_corrected(header: SeriesHeader) -> bool | None:
    """Return whether attenuation was corrected, None where the header does not state it.

    By Corrected Image (0028,0051), else Attenuation Corrected (0018,9759), else Attenuation Correction Method
    (0054,1101), as in ``measured,CT`` and ``none``.
    """
    corrections = header.text("CorrectedImage")
    if corrections is not None:
        return "ATTN" in corrections.upper().split("\\")
    stated = (header.text("AttenuationCorrected") or "").upper()
    if stated in ("YES", "NO"):
        return stated == "YES"
    method = squeeze(header.text("AttenuationCorrectionMethod") or "")
    return None if method in _UNKNOWN else NOT_CORRECTED.fullmatch(method) is None


def check_attenuation(header: SeriesHeader) -> None:
    """Refuse images that are not corrected for attenuation, or whose series is named so and states nothing.

    Raises
    ------
    RefusedScan
        ``"not-attenuation-corrected"``.
    """
    corrected = attenuation_corrected(header)
    named = corrected is None and names_no_attenuation(header.text("SeriesDescription"))
    if not named and corrected is not False:
        return
    seen = "Attenuation Correction Method (0054,1101) is none"
    if header.text("CorrectedImage") is not None:
        seen = "Corrected Image (0028,0051) lacks ATTN"
    elif named:
        seen = "Series Description (0008,103E) says so"
    elif header.text("AttenuationCorrected") is not None:
        seen = "Attenuation Corrected (0018,9759) is NO"
    raise RefusedScan(
        "not-attenuation-corrected",
        f"The images are not corrected for attenuation: {seen}",
        hint="Take the attenuation corrected series of the study",
        measured="ATTN absent",
    )


def check_person(header: SeriesHeader) -> None:
    """Refuse images of a phantom or an animal.

    Raises
    ------
    RefusedScan
        ``"not-a-person"``.
    """
    phantom = (header.text("QualityControlSubject") or "").upper() == "YES"
    code = header.item("PatientSpeciesCodeSequence")
    species = header.text("PatientSpeciesDescription") or code.text("CodeMeaning")
    refused = refused_species(species, "Patient Species (0010,2201)")
    if phantom:
        refused = _not_a_person("Quality Control Subject (0010,0200) is YES", "a phantom")
    if refused is not None:
        raise RefusedScan(refused[0], refused[1], hint=refused[2])


def refused_species(species: str | None, where: str) -> tuple[str, str, str] | None:
    """Return rule, problem and advice where a species is stated that is not ours.

    Examples
    --------
    >>> refused_species("Homo sapiens", "species"), refused_species("n/a", "species")
    (None, None)
    >>> refused_species("Mus musculus", "species")[0]
    'not-a-person'
    """
    if squeeze(species or "") in (*_UNKNOWN, *_HUMAN):
        return None
    # The words may be anybody's: they are not repeated.
    return _not_a_person(f"{where} is not human", "an animal")


def species_in(row: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Return why the subject of a row of participants.tsv is none of ours, or None."""
    return refused_species(row.get("species"), "The column species of participants.tsv")


def _not_a_person(seen: str, what: str) -> tuple[str, str, str]:
    problem, hint = f"The scan is of {what}: {seen}", "Leave it out of the source, or correct this entry"
    return "not-a-person", problem, hint
