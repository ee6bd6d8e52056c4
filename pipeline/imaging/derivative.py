"""A normalised scan, and its files: SUVR, sidecar, regional table, and a table of corrected SUVR if asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from pipeline.atlas import META_ROI, REFERENCE, SPACE
from pipeline.errors import InputError
from pipeline.files import read_json, write_json, written_whole
from pipeline.imaging.partial_volume import Unblurred
from pipeline.imaging.quality import Finding
from pipeline.imaging.registration import Registration
from pipeline.imaging.suvr import COLUMNS
from pipeline.imaging.warp import WARP_SETTINGS, Warp
from pipeline.scan import Volume


@dataclass(frozen=True, eq=False)
class Normalised:
    """A scan in template space.

    Parameters
    ----------
    suvr : Volume
        Unit ``"SUVR"`` on the template grid, zero beyond 6 mm from the brain.
    regions : DataFrame
        See `pipeline.imaging.suvr.regional_table`.
    composites : dict of str to float
        See `pipeline.imaging.suvr.composites`.
    findings : tuple of Finding
        Every rule that was checked, and every assumption that was made.
    unblurred : Unblurred or None
        A second number for every region, where `imaging.partial_volume` asks for it.
    """

    suvr: Volume
    regions: pd.DataFrame
    composites: dict[str, float]
    findings: tuple[Finding, ...]
    registration: Registration
    unblurred: Unblurred | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages of the findings that warn."""
        return tuple(f.message for f in self.findings if f.verdict == "warn")

    def region_values(self) -> dict[str, float]:
        """Return SUVR by column of the table of regions: ``<side>_<region>`` and ``composite_<name>``."""
        names = self.regions["side"] + "_" + self.regions["region"]
        suvr = dict(zip(names, self.regions["suvr"].astype(float), strict=True))
        return suvr | {f"composite_{name}": value for name, value in self.composites.items()}


def write_region_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write one row a scan: ``scan_id`` and what `Normalised.region_values` returned."""
    with written_whole(path) as beside:
        pd.DataFrame(rows).to_csv(beside, sep="\t", index=False, float_format="%.5f", na_rep="n/a")


def _paths(folder: Path, stem: str) -> tuple[Path, Path, Path]:
    name = f"{stem}_space-{SPACE}_desc-suvr_pet"
    return folder / f"{name}.nii.gz", folder / f"{name}.json", folder / f"{stem}_desc-regions_pet.tsv"


def _corrected_path(folder: Path, stem: str) -> Path:
    return folder / f"{stem}_desc-pvc_pet.tsv"


def write_derivative(normalised: Normalised, folder: Path, stem: str) -> Path:
    """Write SUVR, its sidecar and the regional tables beside each other; return the path of the image.

    The image is written last: an image always has the others, and each file is whole.

    Parameters
    ----------
    stem : str
        BIDS entities before the space, as in ``"sub-01_ses-01_trc-18FAV1451"``.
    """
    image_path, sidecar_path, table_path = _paths(folder, stem)
    image_path.unlink(missing_ok=True)
    _write_table(normalised.regions, table_path)
    if normalised.unblurred is None:
        _corrected_path(folder, stem).unlink(missing_ok=True)
    else:
        second = normalised.regions.assign(suvr_pvc=normalised.unblurred.regions["suvr"])
        _write_table(second, _corrected_path(folder, stem))
    write_json(sidecar_path, _sidecar(normalised))
    header = nib.Nifti1Image(normalised.suvr.array, normalised.suvr.affine)
    header.set_sform(normalised.suvr.affine, code="mni")
    header.set_qform(normalised.suvr.affine, code="mni")
    header.header.set_xyzt_units("mm")
    with written_whole(image_path) as beside:
        nib.save(header, beside)
    return image_path


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with written_whole(path) as beside:
        table.to_csv(beside, sep="\t", index=False, na_rep="n/a", float_format="%.6f")


def _read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False)


def _sidecar(normalised: Normalised) -> dict[str, Any]:
    found = normalised.registration
    return {
        "Units": "arbitrary",
        "Space": SPACE,
        "ReferenceRegion": REFERENCE,
        "MetaROI": META_ROI,
        "Facts": dict(sorted(normalised.suvr.facts.items())),
        "Composites": {k: round(v, 6) for k, v in normalised.composites.items()},
        "Findings": [
            {
                "Rule": f.rule,
                "Verdict": f.verdict,
                "Measured": _number(f.measured),
                "Limit": f.limit,
                "Message": f.message,
            }
            for f in normalised.findings
        ],
        "Registration": {
            "TemplateToNativeMm": found.matrix.tolist(),
            "RigidMm": found.rigid.tolist(),
            "MutualInformation": _number(found.mutual_information),
            "Explained": _number(found.explained),
            "TurnedGain": _number(found.turned_gain),
            "Settings": found.settings,
            "Warp": None if found.warp is None else _stored_warp(found.warp),
        },
    } | _second_number(normalised.unblurred)


def _second_number(unblurred: Unblurred | None) -> dict[str, Any]:
    if unblurred is None:
        return {}
    return {
        "PartialVolume": {
            "Method": "geometric transfer matrix over the atlas",
            "ResolutionMm": unblurred.resolution_mm,
            "Composites": {name: _number(round(v, 6)) for name, v in unblurred.composites.items()},
        }
    }


def _read_second_number(stored: dict[str, Any] | None, path: Path) -> Unblurred | None:
    if stored is None:
        return None
    _check_files([path], path.name)
    composites = {name: _or_nan(value) for name, value in stored["Composites"].items()}
    table = _read_table(path)
    return Unblurred(
        table.assign(suvr=table["suvr_pvc"])[list(COLUMNS)], composites, float(stored["ResolutionMm"])
    )


def _stored_warp(warp: Warp) -> dict[str, Any]:
    """Coefficients to a tenth of a micrometre, as one list: right, anterior and superior in turn."""
    return {
        "Settings": WARP_SETTINGS,
        "Explained": warp.explained,
        "CoefficientsMm": [round(float(c), 4) for c in warp.coefficients.ravel()],
    }


def _read_warp(stored: dict[str, Any] | None) -> Warp | None:
    if stored is None:
        return None
    shape = (3, *stored["Settings"]["waves"])
    return Warp(np.array(stored["CoefficientsMm"], dtype=np.float32).reshape(shape), stored["Explained"])


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _check_files(paths: Sequence[Path], where: str) -> None:
    missing = [p.name for p in paths if not p.is_file()]
    if missing:
        raise InputError(
            f"Files of a normalised scan are missing: {', '.join(missing)}",
            where=where,
            hint="run `taucal ingest` again",
        )


def read_derivative(folder: Path, stem: str) -> Normalised:
    """Read what `write_derivative` wrote.

    Raises
    ------
    InputError
        If one of the files is missing.
    """
    paths = _paths(folder, stem)
    _check_files(paths, stem)
    image_path, sidecar_path, table_path = paths
    sidecar = read_json(sidecar_path)
    image = nib.load(image_path)
    found = sidecar["Registration"]
    return Normalised(
        Volume(np.asanyarray(image.dataobj, dtype=np.float32), image.affine, "SUVR", facts=sidecar["Facts"]),
        _read_table(table_path)[list(COLUMNS)],
        sidecar["Composites"],
        tuple(
            Finding(f["Rule"], f["Verdict"], _or_nan(f["Measured"]), f["Limit"], f["Message"])
            for f in sidecar["Findings"]
        ),
        Registration(
            np.array(found["TemplateToNativeMm"]),
            np.array(found["RigidMm"]),
            _or_nan(found["MutualInformation"]),
            _or_nan(found["Explained"]),
            _or_nan(found["TurnedGain"]),
            found["Settings"],
            _read_warp(found.get("Warp")),
        ),
        _read_second_number(sidecar.get("PartialVolume"), _corrected_path(folder, stem)),
    )


def _or_nan(stored: float | None) -> float:
    return float("nan") if stored is None else stored
