"""The tables that come with a cohort: diagnoses and demographics as ADNI words them, and the truth."""

from __future__ import annotations

import datetime as dt
from itertools import groupby

import pandas as pd

from pipeline.phantom.cohort import PlannedScan, Subject
from pipeline.phantom.population import Preset

EXPORT_DATE = "01Sep2026"
"""The date in the tables' names, as ADNI's exports carry one."""

_DXCHANGE = {
    (1, 1): 1, (2, 2): 2, (3, 3): 3, (1, 2): 4, (2, 3): 5, (1, 3): 6, (2, 1): 7, (3, 2): 8, (3, 1): 9,
}  # fmt: skip
"""ADNI GO/2 code of (previous, current) diagnosis."""
_STAMP = "2026-09-01 00:00:00.0"


def diagnosis_table(scans: tuple[PlannedScan, ...], preset: Preset) -> pd.DataFrame:
    """One row a clinical visit, as in DXSUM: DIAGNOSIS in ADNI3, DXCHANGE in ADNI2.

    A screening visit more than a year before the first scan is there as well: the nearest one counts.
    """
    rows = []
    for _, group in groupby(scans, key=lambda s: s.subject.index):
        visits = list(group)
        code = preset.diagnosis_codes[visits[0].label]
        screening = visits[0].start.date() - dt.timedelta(days=420)
        rows.append(_diagnosis_row(visits[0].subject, "sc", screening, code, code))
        for scan in visits:
            previous, code = code, preset.diagnosis_codes[scan.label]
            months = round((scan.diagnosed_on - screening).days / 30.4 / 6) * 6
            rows.append(_diagnosis_row(scan.subject, f"m{months:02d}", scan.diagnosed_on, previous, code))
    return pd.DataFrame(rows)


def _diagnosis_row(
    subject: Subject, visit: str, day: dt.date, previous: int, code: int
) -> dict[str, str | int]:
    older = subject.older_phase
    return {
        "PHASE": "ADNI2" if older else "ADNI3",
        "PTID": subject.ptid,
        "RID": subject.rid,
        "VISCODE": visit,
        "VISCODE2": visit,
        "EXAMDATE": day.isoformat(),
        "DXCHANGE": _DXCHANGE[previous, code] if older else "",
        "DXCURREN": "",
        "DIAGNOSIS": "" if older else code,
        "update_stamp": _STAMP,
        "SYNTHETIC": 1,
    }


def demographics_table(scans: tuple[PlannedScan, ...]) -> pd.DataFrame:
    """One row a subject, as in PTDEMOG."""
    rows = []
    for _, group in groupby(scans, key=lambda s: s.subject.index):
        first = next(group)
        subject = first.subject
        rows.append(
            {
                "PHASE": "ADNI2" if subject.older_phase else "ADNI3",
                "PTID": subject.ptid,
                "RID": subject.rid,
                "VISCODE": "sc",
                "VISCODE2": "sc",
                "VISDATE": (first.start.date() - dt.timedelta(days=420)).isoformat(),
                "PTGENDER": 1 if subject.male else 2,
                "PTDOB": f"{subject.birth:%m/%Y}",
                "PTDOBYY": subject.birth.year,
                "PTEDUCAT": subject.education_years,
                "update_stamp": _STAMP,
                "SYNTHETIC": 1,
            }
        )
    return pd.DataFrame(rows)


def truth_table(scans: tuple[PlannedScan, ...], preset: Preset) -> pd.DataFrame:
    """One row a scan: its class, the exact probability of every class, and which rule it breaks."""
    rows = []
    for scan in scans:
        row: dict[str, str | int | float] = {
            "IMAGEUID": scan.image_id,
            "PTID": scan.subject.ptid,
            "SCANDATE": scan.start.date().isoformat(),
            "DIAGNOSIS": preset.class_names[scan.label],
        }
        row |= {f"POSTERIOR_{n}": p for n, p in zip(preset.class_names, scan.posterior, strict=True)}
        row |= {
            "STAGE": scan.latents.stage,
            "SPOILED": scan.spoiled,
            "SUBTYPE": "typical" if scan.latents.typical else "posterior",
            "ASYMMETRY": scan.latents.asymmetry,
            "CAPACITY": scan.latents.capacity,
            "VISIT": scan.visit,
            "FRAMES": len(scan.frames_s),
            "SYNTHETIC": 1,
        }
        rows.append(row)
    return pd.DataFrame(rows)
