"""One found scan into the BIDS-PET dataset, de-identified, or refused with the rule it breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import RefusedScan
from pipeline.ingest import bids as dataset
from pipeline.ingest.converted import ConvertedScan
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.dicom import read_files
from pipeline.ingest.found import FoundScan
from pipeline.ingest.nifti import read_nifti
from pipeline.ingest.sidecar import IMAGE_NAME, OWN_FACTS, read_sidecar
from pipeline.ingest.vocabulary import UNRECOGNISED, canonical_tracer
from pipeline.scan import Volume


def convert_scan(
    found: FoundScan,
    bids: Path,
    pseudonymiser: Pseudonymiser,
    tracer: str,
    max_days_to_diagnosis: int = 180,
) -> ConvertedScan:
    """Read a scan and write it into the dataset as image and sidecar, each whole or not at all.

    Parameters
    ----------
    found : FoundScan
    bids : Path
        Root of the dataset.
    pseudonymiser : Pseudonymiser
    tracer : str
        The only tracer accepted, in any spelling.
    max_days_to_diagnosis : int
        A diagnosis farther away is not taken.

    Returns
    -------
    ConvertedScan

    Raises
    ------
    RefusedScan
        With a rule of `pipeline.ingest.dicom.read_series`, or ``"wrong-tracer"``; it is named by its
        pseudonym.
    """
    wanted = canonical_tracer(tracer)
    volume, warnings = _read_of_tracer(found, wanted, found.label(pseudonymiser))
    diagnosis, days, why = _diagnosis(found, max_days_to_diagnosis)
    subject, session = pseudonymiser.subject(found.subject_label), found.session(pseudonymiser)
    facts = {
        **volume.facts,
        "tracer": wanted,
        "age": found.age,
        "sex": found.sex if found.sex in ("M", "F", "O") else None,
        "site": pseudonymiser.code("site", found.site, 6) if found.site else None,
        "days_to_diagnosis": days,
    }
    shifted = pseudonymiser.shift_date(found.subject_label, found.scan_date) if found.scan_date else None
    converted = ConvertedScan(
        subject,
        session,
        wanted,
        dataset.image_path(bids, subject, session, wanted, volume.facts.get("radionuclide")),
        facts,
        diagnosis,
        found.posterior,
        shifted.isoformat() if shifted else "",
        tuple(warnings),
        tuple(why),
        "" if abs(found.days_to_diagnosis or 0) > max_days_to_diagnosis else found.stated,
        found.reads,
    )
    dataset.write_scan(volume, facts, converted.path)
    return converted


def _read_of_tracer(found: FoundScan, wanted: str, label: str) -> tuple[Volume, list[str]]:
    """Return a scan of the tracer and what to warn of; a refusal names it by its pseudonym."""
    try:
        volume = read_found(found)
        return volume, [*_check_tracer(volume, wanted), *_warnings(volume), *found.notes]
    except RefusedScan as refusal:
        raise RefusedScan(
            refusal.rule, refusal.problem, where=label, hint=refusal.hint, measured=refusal.measured
        ) from refusal


def read_found(found: FoundScan) -> Volume:
    """Read a found scan in whatever format it is.

    Raises
    ------
    RefusedScan
        As `pipeline.ingest.dicom.read_series` and `pipeline.ingest.nifti.read_nifti`.
    """
    found.check()
    if found.format == "dicom":
        return read_files(found.files, several_series=found.several_series)
    stated: dict[str, Any] = {}
    for path in found.sidecars:
        stated |= read_sidecar(path)
    # Facts as this program writes them pass unread; from a source they might be anybody's words.
    stated.pop(OWN_FACTS, None)
    if found.format == "nifti":
        # What the sidecar leaves open, the names of file and folder may state.
        stated[IMAGE_NAME] = found.description
    return read_nifti(found.files[0], stated)


def _check_tracer(volume: Volume, wanted: str) -> list[str]:
    seen = volume.facts.get("tracer")
    if seen is None:
        return [f"the tracer is not stated; {wanted} was assumed"]
    if seen != wanted:
        name = "not recognised" if seen == UNRECOGNISED else str(seen)
        raise RefusedScan(
            "wrong-tracer",
            f"The tracer is {name}, expected {wanted}",
            hint=f"leave the scan out, or ingest with --tracer {name}"
            if seen != UNRECOGNISED
            else "check the header",
            measured=name,
        )
    return []


def _warnings(volume: Volume) -> list[str]:
    facts = volume.facts
    noted = ("time_note", "tracer_note", "geometry_note", "suv_note", "values_note")
    notes = [str(facts[k]) for k in noted if facts.get(k)]
    declared, slices = facts.get("slices_declared"), volume.array.shape[2]
    if isinstance(declared, int) and declared > slices:
        notes.append(f"the header declares {declared} slices, {slices} are there without a gap")
    if volume.facts.get("attenuation_corrected") is None and volume.unit in ("Bq/mL", "SUV"):
        notes.append("whether attenuation was corrected is not stated")
    return notes


def _diagnosis(found: FoundScan, limit: int) -> tuple[str | None, int | None, list[str]]:
    days = found.days_to_diagnosis
    if found.diagnosis is None:
        return None, None, [] if found.stated else ["no diagnosis is known"]
    if days is not None and abs(days) > limit:
        return None, days, [f"the nearest diagnosis is {abs(days)} days away, more than {limit}; not taken"]
    return found.diagnosis, days, []
