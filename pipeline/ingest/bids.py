"""Write and read the BIDS-PET dataset; what is unknown is written as unknown, never invented."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.files import write_json, write_text
from pipeline.ingest.converted import ConvertedScan, sidecar_of
from pipeline.ingest.nifti import read_nifti, write_nifti
from pipeline.ingest.sidecar import OWN_FACTS, read_sidecar
from pipeline.scan import Fact, Volume

BIDS_VERSION = "1.10.0"
UNKNOWN = "n/a"
_NUCLIDE_LABELS = {"F18": "18F", "C11": "11C", "O15": "15O", "N13": "13N", "GA68": "68Ga", "RB82": "82Rb"}


def image_path(bids: Path, subject: str, session: str, tracer: str, radionuclide: Fact) -> Path:
    """Return where a scan's image is.

    Examples
    --------
    >>> image_path(Path("d"), "A", "B", "AV1451", "F18").as_posix()
    'd/sub-A/ses-B/pet/sub-A_ses-B_trc-18FAV1451_pet.nii.gz'
    """
    nuclide = _NUCLIDE_LABELS.get(str(radionuclide or ("F18" if tracer == "AV1451" else "")), "")
    label = nuclide + "".join(c for c in tracer if c.isalnum())
    name = f"sub-{subject}_ses-{session}_trc-{label}_pet.nii.gz"
    return bids / f"sub-{subject}" / f"ses-{session}" / "pet" / name


def write_scan(volume: Volume, facts: Mapping[str, Fact], path: Path) -> Path:
    """Write sidecar and image; the image last, so that an image always has its sidecar."""
    write_json(sidecar_of(path), sidecar(volume, facts))
    return write_nifti(volume, path)


def read_pet(path: Path) -> Volume:
    """Read a PET image with its sidecar, this program's or anybody's.

    Parameters
    ----------
    path : Path
        ``..._pet.nii.gz`` or any NIfTI; a JSON of the same name is its sidecar, if there.

    Raises
    ------
    InputError
        If the image is missing.
    RefusedScan
        As `pipeline.ingest.nifti.read_nifti`.
    """
    if not path.is_file():
        raise InputError("There is no such image", where=str(path), hint="check the path")
    return read_nifti(path, read_sidecar(sidecar_of(path)))


def sidecar(volume: Volume, facts: Mapping[str, Fact]) -> dict[str, Any]:
    """Return the sidecar of a volume in the words of PET-BIDS.

    Time zero is the start of the first frame. Its time of day would join the scan to a record, so the clock
    is set to 00:00:00 there, as the README states. Unknown text is ``n/a``, an unknown list empty, an unknown
    duration 0; a number that is not known is left out.

    References
    ----------
    BIDS specification, Positron Emission Tomography; PET-BIDS guidelines, Knudsen et al. 2020.
    """
    delay = facts.get("scan_after_injection_s")
    injection = -float(delay) if isinstance(delay, (int, float)) else None
    correction = facts.get("decay_correction")
    dose = facts.get("injected_activity_bq")
    units = {"Bq/mL": "Bq/mL", "SUV": "g/mL", "SUVR": "unitless", "counts": "arbitrary"}[volume.unit]
    own = {k: v for k, v in facts.items() if v is not None}
    images = volume.array.shape[3] if volume.array.ndim == 4 else 1
    stated = {
        "Modality": "PT",
        "Manufacturer": facts.get("manufacturer") or UNKNOWN,
        "ManufacturersModelName": facts.get("model") or UNKNOWN,
        "Units": units,
        "TracerName": facts.get("tracer") or UNKNOWN,
        "TracerRadionuclide": facts.get("radionuclide") or UNKNOWN,
        # BIDS wants a number here: nobody injects 0, so 0 means that the dose is unknown.
        "InjectedRadioactivity": float(dose) / 1e6 if isinstance(dose, (int, float)) else 0,
        "InjectedRadioactivityUnits": "MBq" if dose is not None else UNKNOWN,
        "InjectedMass": UNKNOWN,
        "InjectedMassUnits": UNKNOWN,
        "SpecificRadioactivity": UNKNOWN,
        "SpecificRadioactivityUnits": UNKNOWN,
        "ModeOfAdministration": UNKNOWN,
        "TimeZero": "00:00:00",
        "ScanStart": 0,
        "InjectionStart": injection,
        # No frame lasts 0 s: so 0 means that the duration is unknown.
        "FrameTimesStart": [frame.start_s for frame in volume.frames] or [0] * images,
        "FrameDuration": [frame.duration_s for frame in volume.frames] or [0] * images,
        "AcquisitionMode": UNKNOWN,
        "ImageDecayCorrected": correction in ("START", "ADMIN"),
        "ImageDecayCorrectionTime": _decay_time(correction, injection),
        "ReconMethodName": facts.get("reconstruction") or UNKNOWN,
        "ReconMethodParameterLabels": [],
        "ReconMethodParameterUnits": [],
        "ReconMethodParameterValues": [],
        "ReconFilterType": UNKNOWN,
        "ReconFilterSize": [],
        "AttenuationCorrection": "corrected" if facts.get("attenuation_corrected") else UNKNOWN,
        OWN_FACTS: own,
    }
    return {key: value for key, value in stated.items() if value is not None}


def _decay_time(correction: Fact, injection: float | None) -> float | None:
    if correction == "START":
        return 0.0
    return injection if correction == "ADMIN" else None


def write_dataset_files(bids: Path, converted: Sequence[ConvertedScan]) -> None:
    """Write what describes the dataset: description, README, tables of participants and scans.

    Parameters
    ----------
    bids : Path
        Root of the dataset.
    converted : sequence of ConvertedScan
        Every scan of the dataset.
    """
    write_json(bids / "dataset_description.json", _description(converted))
    write_text(bids / "README", _README)
    write_text(bids / ".bidsignore", "derivatives/**\n.*\n")
    people: dict[str, list[ConvertedScan]] = defaultdict(list)
    for scan in sorted(converted, key=lambda c: c.scan_id):
        people[scan.subject].append(scan)
    rows = [["participant_id", "age", "sex", "site"]]
    for subject, scans in people.items():
        first = scans[0].facts
        rows.append([f"sub-{subject}", *(_cell(first.get(k)) for k in ("age", "sex", "site"))])
    _write_table(bids / "participants.tsv", rows)
    write_json(bids / "participants.json", _PARTICIPANT_COLUMNS)
    write_json(bids / "scans.json", _SCAN_COLUMNS)
    for scan in converted:
        folder = scan.path.parent.parent
        name = f"{scan.scan_id}_scans.tsv"
        row = [
            f"pet/{scan.path.name}",
            f"{scan.acquired_on}T00:00:00" if scan.acquired_on else UNKNOWN,
            *(_cell(v) for v in (scan.facts.get("age"), scan.diagnosis, scan.facts.get("days_to_diagnosis"))),
        ]
        _write_table(folder / name, [["filename", "acq_time", "age", "diagnosis", "days_to_diagnosis"], row])


def _write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    write_text(path, "".join("\t".join(row) + "\n" for row in rows))


def _cell(value: Fact) -> str:
    return UNKNOWN if value is None or value == "" else str(value)


def _description(converted: Sequence[ConvertedScan]) -> dict[str, Any]:
    synthetic = any(scan.facts.get("synthetic") for scan in converted)
    return {
        "Name": "Tau PET" + (" (SYNTHETIC)" if synthetic else ""),
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "taucal", "Description": "de-identified conversion"}],
    }


_README = """\
PET scans, converted and de-identified by taucal. Research use only.

Subjects are named by pseudonyms under a secret key that does not lie in this folder. Dates are shifted back
by 110 to 120 years, by one number of days for each subject, so that intervals within a subject are true.
Sessions are named by the shifted date and keep their names when other scans of the subject arrive. The time
of day is not stated: acq_time ends in 00:00:00, TimeZero is 00:00:00, and all times count from the start of
the first frame. Ages above 89 are written as 89. What was not known is written n/a, as an empty list, or, for
a frame's duration, as 0; a number that was not known is left out.
"""
_PARTICIPANT_COLUMNS = {
    "age": {"Description": "Age at the first scan here; 89 means 89 or older", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"M": "male", "F": "female", "O": "other"}},
    "site": {"Description": "Code of the site"},
}
_SCAN_COLUMNS = {
    "age": {"Description": "Age at the scan; 89 means 89 or older", "Units": "year"},
    "diagnosis": {"Description": "Diagnosis of the visit nearest to the scan"},
    "days_to_diagnosis": {"Description": "Days from the scan to that visit", "Units": "day"},
}
