"""What was injected, from a PET header: the tracer, its radionuclide and the half-life."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from pipeline.errors import RefusedScan
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.vocabulary import UNRECOGNISED, names_a_tracer, tracer_of, tracer_of_code

_NUCLIDES = {
    "F18": 6586.2,
    "C11": 1223.4,
    "O15": 122.24,
    "N13": 597.9,
    "GA68": 4057.7,
    "RB82": 75.0,
    "ZR89": 282276.0,
    "GE68": 23_410_080.0,
}
"""Half-lives in seconds."""
_NUCLIDE_CODES = {
    "C-111A1": "F18", "C-105A1": "C11", "C-B1038": "O15", "C-107A1": "N13", "C-131A3": "GA68",
    "C-128A2": "GE68",
}  # fmt: skip
_LABELLED_WITH = {"AV1451": "F18"}


def half_life_of(header: SeriesHeader) -> float | None:
    """Return the half-life in seconds: as written if it can be one, else the nuclide's, or None."""
    drug = header.item("RadiopharmaceuticalInformationSequence")
    written = drug.number("RadionuclideHalfLife")
    if written is not None and 30 < written < 1e8:
        return written
    return _NUCLIDES.get(nuclide_in(drug) or "")


def tracer_in(header: SeriesHeader, drug: SeriesHeader) -> str | None:
    """Return the tracer: by code, by name, by the name of the series; ``"unrecognised"``; or None."""
    code = drug.item("RadiopharmaceuticalCodeSequence")
    texts = (drug.text("Radiopharmaceutical"), code.text("CodeMeaning"))
    named = next(filter(None, map(tracer_of, texts)), None) or tracer_of_code(code.text("CodeValue"))
    if named:
        return named
    titles = (header.text("SeriesDescription"), header.text("ProtocolName"))
    named = next(filter(None, map(tracer_of, titles)), None)
    return named or (UNRECOGNISED if any(map(names_a_tracer, texts)) else None)


def nuclide_in(drug: SeriesHeader) -> str | None:
    """Return the radionuclide, as ``"F18"``, by its code or its name; or None."""
    code = drug.item("RadionuclideCodeSequence")
    by_code = _NUCLIDE_CODES.get(code.text("CodeValue") or "")
    if by_code:
        return by_code
    text = "".join(c for c in (code.text("CodeMeaning") or "").upper() if c.isalnum())
    return next((n for n in _NUCLIDES if text.endswith((n, n[-2:] + n[:-2])) and text), None)


def check_nuclide(tracer: str | None, nuclide: str | None) -> None:
    """Refuse what no scan of the tracer has: a phantom of germanium under the protocol of a tracer.

    Raises
    ------
    RefusedScan
        ``"wrong-tracer"``.
    """
    expected = _LABELLED_WITH.get(tracer or "")
    if expected and nuclide not in (None, expected):
        raise RefusedScan(
            "wrong-tracer",
            f"The tracer is {tracer}, but the radionuclide is {nuclide}, expected {expected}",
            hint="Leave it out if it is a phantom, else correct the Radionuclide Code Sequence (0054,0300)",
            measured=str(nuclide),
        )


def check_one_tracer(headers: Sequence[SeriesHeader]) -> None:
    """Refuse a series whose images state different tracers; one that states none agrees with any.

    Raises
    ------
    RefusedScan
        ``"mixed-tracers"``.
    """
    # Headers of one series share what they state: each is looked at once.
    titles = ("RadiopharmaceuticalInformationSequence", "SeriesDescription", "ProtocolName")
    different = {tuple(id(header.get(name)) for name in titles): header for header in headers}
    found = {tracer_in(header, header.item(titles[0])) for header in different.values()} - {None}
    for header in different.values():  # one that states a second injection may show either
        others = [one for one in (header.get(titles[0]) or ())[1:] if isinstance(one, Dataset)]
        found |= {tracer_in(header, SeriesHeader.of(one)) for one in others} - {None}
    if len(found) > 1:
        raise RefusedScan(
            "mixed-tracers",
            f"The images of the series state {len(found)} tracers: {', '.join(sorted(map(str, found)))}",
            hint="Find out which was injected, and export the original series again",
            measured=", ".join(sorted(map(str, found))),
        )
