"""CenTauRz on a scan's report, or why it is not stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.centaur.centaur_calibration import (
    CentaurCalibration,
    masks_of,
    own_suvr,
    read_calibration,
)
from pipeline.centaur.centaur_masks import REGIONS, SOURCE, CentaurMasks, mask_title
from pipeline.config import ImagingSettings
from pipeline.errors import TaucalError
from pipeline.reporting.page.facts import Facts, Text, listed, number
from pipeline.scan import Volume

_NOT_CALIBRATED = "the processing is not calibrated to CenTauR"


class CentaurRow(Facts):
    """One of CenTauR's masks: the SUVR over CenTauR's own reference mask, and CenTauRz."""

    region: Text
    suvr: float
    z: float | None = None
    z_error: float | None = None


class CentaurStatus(Facts):
    """What was measured in CenTauR's masks.

    `why_not` states why there is no CenTauRz, empty where there is; `scans` and `published` are of the
    calibration.
    """

    rows: tuple[CentaurRow, ...] = ()
    why_not: Text = ""
    scans: int | None = None
    published: Text = ""

    @classmethod
    def not_calibrated(cls) -> CentaurStatus:
        """Return the status where a study has no calibration."""
        return cls(why_not=_NOT_CALIBRATED)

    @property
    def sentence(self) -> str:
        """CenTauRz of each mask, or why it is not stated."""
        if self.why_not:
            return f"CenTauRz is not stated: {self.why_not}."
        found = [
            f"{row.region} {number(row.z, 1)} (±{number(row.z_error, 1)})"
            for row in self.rows
            if row.z is not None and row.z_error is not None
        ]
        return (
            f"CenTauRz, and the standard deviation of its calibration on {self.scans} scans with published "
            f"SUVR: {listed(found)}. 0 is the mean of cognitively normal people without amyloid, 1 their "
            f"standard deviation ({SOURCE})."
        )


@dataclass(frozen=True, eq=False)
class CentaurReader:
    """Measures scans in CenTauR's masks.

    Parameters
    ----------
    masks : CentaurMasks, optional
        None where the study names none.
    problem : str
        Why there is no calibration, for the page.
    """

    masks: CentaurMasks | None = None
    calibration: CentaurCalibration | None = None
    problem: str = _NOT_CALIBRATED

    @classmethod
    def of(cls, imaging: ImagingSettings, output: Path, warn: Callable[[str], None]) -> CentaurReader:
        """Return the reader of a study.

        Masks or a calibration that cannot be read take no report away: pages state it, and `warn` gets the
        error, which may name folders.
        """
        if imaging.centaur_masks is None:
            return cls()
        try:
            return cls(masks_of(imaging), read_calibration(output))
        except TaucalError as error:
            warn(f"Reports state no CenTauRz. {error}")
            return cls(problem="the masks or the calibration to CenTauR cannot be read")

    def read(self, suvr: Volume | None, imaging: ImagingSettings) -> CentaurStatus:
        """Measure a scan.

        Parameters
        ----------
        suvr : Volume, optional
            On the template grid; None where the scan was refused.
        imaging : ImagingSettings
            With which it was processed.
        """
        if self.masks is None or suvr is None:
            return CentaurStatus(why_not=self.problem)
        measured = {name: v for name, v in own_suvr(suvr.array, self.masks).items() if v == v}
        calibration = self.calibration
        why_not = self.problem if calibration is None else calibration.problem(imaging, self.masks)
        if not why_not and calibration is not None and not measured.keys() & calibration.lines.keys():
            why_not = "CenTauR's masks lie outside the field of view"
        if why_not or calibration is None:
            rows = [CentaurRow(region=mask_title(name), suvr=measured[name]) for name in measured]
            return CentaurStatus(rows=tuple(rows), why_not=why_not)
        errors = calibration.z_error()
        there = {name: measured[name] for name in REGIONS if name in measured and name in calibration.lines}
        z = calibration.z(there)
        rows = [
            CentaurRow(region=mask_title(name), suvr=value, z=z[name], z_error=errors[name])
            for name, value in there.items()
        ]
        return CentaurStatus(rows=tuple(rows), scans=calibration.scans, published=calibration.published)
