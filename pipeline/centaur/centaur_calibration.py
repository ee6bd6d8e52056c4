"""A processing against CenTauR's: fitted once on scans with published SUVR, then used by reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.atlas import AFFINE
from pipeline.centaur.centaur_masks import (
    REGIONS,
    CentaurMasks,
    centaur_suvr,
    centaur_z,
    mask_title,
    read_masks,
)
from pipeline.centaur.deming import Line, fit_line
from pipeline.config import ImagingSettings
from pipeline.errors import InputError, TaucalError
from pipeline.files import fingerprint, read_json, today, write_json
from pipeline.imaging.head import brain_within
from pipeline.imaging.process import REVISION
from pipeline.ingest.side_files import is_missing, number_of, read_table
from pipeline.scan import Cohort, FloatArray, Scan

CALIBRATION_FILE = "centaur.json"
"""Below the output folder of a study."""
_SURE_MM = 4.0
"""SUVR images are zero beyond 6 mm from the brain; this near, all neighbours of a point are measured."""
_SCAN_COLUMNS = ("scan", "scan_id", "participant_id", "subject", "subject_id", "id", "ptid", "ID_FTP")
_REGION_WORDS = {
    "universal": r"universal|^centaur$|^$",
    "mesial_temporal": r"mesial|^mtl$",
    "meta_temporal": r"^meta|metatemporal",
    "temporo_parietal": r"temporoparietal|parietal|^tp",
    "frontal": r"frontal",
}


class CentaurCalibration(BaseModel):
    """For each mask the line from the user's SUVR to the published one.

    Parameters
    ----------
    lines : dict of str to Line
        By the names of `REGIONS`; a mask without published values is left out.
    processing : str
        Fingerprint of the imaging settings and their code; another processing needs another calibration.
    masks : str
        Fingerprint of the masks.
    fitted : str
        Date.
    published : str
        Name of the table of published values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: dict[str, Line]
    processing: str
    masks: str
    fitted: str
    published: str

    @property
    def scans(self) -> int:
        """Of the mask with the fewest."""
        return min(line.scans for line in self.lines.values())

    def problem(self, imaging: ImagingSettings, masks: CentaurMasks) -> str:
        """Return why the calibration does not hold for a processing; nothing where it does."""
        if self.processing != processing_of(imaging):
            return "the processing has changed since it was calibrated to CenTauR"
        if self.masks != masks.digest:
            return "the masks have changed since the processing was calibrated to CenTauR"
        return ""

    def z(self, suvr: Mapping[str, float]) -> dict[str, float]:
        """Return CenTauRz of SUVR that this processing measured."""
        return centaur_z({name: line.at(suvr[name]) for name, line in self.lines.items()})

    def z_error(self) -> dict[str, float]:
        """Return the standard deviation of CenTauRz about the calibration's line."""
        zero = centaur_z(dict.fromkeys(self.lines, 0.0))
        return {
            n: v - zero[n] for n, v in centaur_z({n: x.residual_sd for n, x in self.lines.items()}).items()
        }


def processing_of(imaging: ImagingSettings) -> str:
    """Return the fingerprint of what turns a scan into SUVR."""
    return fingerprint(REVISION, imaging.processing())


def own_suvr(image: FloatArray, masks: CentaurMasks) -> dict[str, float]:
    """Return SUVR in CenTauR's masks of an image on the template grid, shape (96, 112, 96)."""
    return centaur_suvr(image, AFFINE, masks, brain_within(_SURE_MM))


def fit_calibration(
    table: Path, cohort: Cohort, imaging: ImagingSettings, label: Callable[[str], str]
) -> CentaurCalibration:
    """Calibrate a processing on scans of a dataset whose SUVR is published.

    Parameters
    ----------
    table : Path
        One row a scan: a column that names it (scan, subject, ID ...) and a column for each mask.
    cohort : Cohort
        The dataset that holds the scans.
    imaging : ImagingSettings
        Of the dataset, `centaur_masks` among them.
    label : callable
        From a name in the table to a subject's pseudonym.

    Raises
    ------
    InputError
        If there are no masks, a row or column is not understood, or no line can be fitted.
    """
    masks = masks_of(imaging)
    rows = _published(table)
    by_name: dict[str, list[Scan]] = {}
    for scan in cohort.scans:
        for name in (scan.scan_id, scan.subject, f"sub-{scan.subject}"):
            by_name.setdefault(name, []).append(scan)
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in REGIONS}
    unknown = []
    for name, values in rows.items():
        found = by_name.get(name) or by_name.get(label(name), [])
        if len(found) > 1:
            raise InputError(
                f"The dataset has {len(found)} scans of {name}",
                where=str(table),
                hint="name the scan, sub-..._ses-..., in a column `scan`",
            )
        if not found:
            unknown.append(name)
            continue
        measured = own_suvr(np.asarray(nib.load(found[0].path).dataobj, dtype=np.float32), masks)
        for region, value in values.items():
            pairs[region].append((measured[region], value))
    lines = {region: _line(region, found, table, unknown) for region, found in pairs.items() if found}
    if not lines:
        raise InputError(
            f"None of the {len(rows)} scans of the table is in the dataset ({', '.join(unknown[:3])} ...)",
            where=str(table),
            hint="ingest the scans first; name them by subject ID or by sub-..._ses-...",
        )
    return CentaurCalibration(
        lines=lines,
        processing=processing_of(imaging),
        masks=masks.digest,
        fitted=today(),
        published=table.name,
    )


def masks_of(imaging: ImagingSettings) -> CentaurMasks:
    """Read the masks that the settings name.

    Raises
    ------
    InputError
        If they name none, or as `read_masks`.
    """
    if imaging.centaur_masks is None:
        raise InputError(
            "The study names no folder of CenTauR's masks",
            where="imaging.centaur_masks",
            hint="set it to the folder; the masks are free at gaain.org/centaur-project",
        )
    return read_masks(imaging.centaur_masks)


def _published(table: Path) -> dict[str, dict[str, float]]:
    """Return SUVR by region of each named scan."""
    rows = read_table(table, [_SCAN_COLUMNS])
    header = list(rows[0]) if rows else []
    name_column = next(c for wanted in _SCAN_COLUMNS for c in header if c.lower() == wanted.lower())
    columns = {region: _column(region, header, name_column, table) for region in REGIONS}
    if not any(columns.values()):
        raise InputError(
            f"No column names a mask of CenTauR; the table has {', '.join(header)}",
            where=str(table),
            hint=f"name columns {', '.join(REGIONS)}",
        )
    found: dict[str, dict[str, float]] = {}
    for n, row in enumerate(rows, 2):
        name = row[name_column]
        if name in found:
            raise InputError(f"Line {n} names {name} again", where=str(table), hint="leave one of the rows")
        values = {region: row[c] for region, c in columns.items() if c and not is_missing(row[c])}
        found[name] = {region: _suvr(text, n, str(columns[region]), table) for region, text in values.items()}
    return found


def _column(region: str, header: list[str], name_column: str, table: Path) -> str | None:
    found = [c for c in header if c != name_column and re.search(_REGION_WORDS[region], _word(c))]
    if len(found) > 1:
        raise InputError(
            f"Columns {' and '.join(found)} may all be the mask {mask_title(region)}",
            where=str(table),
            hint=f"name one of them {region}, and leave out the others",
        )
    return found[0] if found else None


def _word(column: str) -> str:
    """Return what names the mask in a column's name.

    Examples
    --------
    >>> _word("Mesial_CenTauR SUVR"), _word("CenTauR"), _word("Universal (SPM8)")
    ('mesial', 'centaur', 'universal')
    """
    letters = re.sub(r"[^a-z]", "", re.sub(r"suvr|spm\d*", "", column.lower()))
    return letters if letters == "centaur" else letters.replace("centaur", "")


def _suvr(text: str, line: int, column: str, table: Path) -> float:
    value = number_of(text)
    if value is None or not 0.2 < value < 10:
        raise InputError(
            f"Line {line}, column {column}: {text!r} is no SUVR, expected a number from 0.2 to 10",
            where=str(table),
            hint="the table must hold published SUVR, not CenTauRz",
        )
    return value


def _line(region: str, pairs: list[tuple[float, float]], table: Path, unknown: list[str]) -> Line:
    own, published = np.array(pairs).T
    measured = np.isfinite(own)
    try:
        return fit_line(own[measured], published[measured])
    except ValueError as error:
        more = f"; {len(unknown)} scans of the table are not in the dataset" if unknown else ""
        outside = int((~measured).sum())
        more += f"; in {outside} the mask lies outside the field of view" if outside else ""
        raise InputError(
            f"The mask {mask_title(region)} cannot be calibrated: {error}{more}",
            where=str(table),
            hint="give the published SUVR of more scans of this dataset",
        ) from error


def write_calibration(found: CentaurCalibration, output: Path) -> Path:
    """Write a calibration to the output folder of a study."""
    path = output / CALIBRATION_FILE
    lines = {name: asdict(line) for name, line in found.lines.items()}
    stored: dict[str, Any] = {**found.model_dump(mode="json", exclude={"lines"}), "lines": lines}
    write_json(path, stored)
    return path


def read_calibration(output: Path) -> CentaurCalibration | None:
    """Read the calibration of a study; None where there is none.

    Raises
    ------
    TaucalError
        If the file is not as it was written.
    """
    path = output / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        return CentaurCalibration.model_validate(read_json(path))
    except (OSError, ValueError, ValidationError) as error:
        raise TaucalError(
            f"The calibration to CenTauR cannot be read ({type(error).__name__})",
            where=str(path),
            hint="fit it again with `taucal centaur fit`",
        ) from error
