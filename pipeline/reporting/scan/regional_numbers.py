"""Regional SUVR in a scan's report: regions, composites and the temporal meta-ROI."""

from __future__ import annotations

from typing import Literal

from pipeline.reporting.page.facts import Facts, Text, number, texts_apart


class RegionRow(Facts):
    """Regional SUVR of both sides; z against the cognitively normal scans of the training cohort.

    `pvc_left`, `pvc_right` and `pvc_both` are the same SUVR corrected for blur, where the study asks for it;
    nothing is computed from them.
    """

    region: Text
    title: Text
    group: Text
    kind: Literal["target", "offtarget", "background", "reference"]
    braak: Text = ""
    in_meta_roi: bool = False
    left: float | None = None
    right: float | None = None
    both: float | None = None
    pvc_left: float | None = None
    pvc_right: float | None = None
    pvc_both: float | None = None
    z_left: float | None = None
    z_right: float | None = None
    asymmetry_percent: float | None = None


class Composite(Facts):
    """SUVR of a composite, with the norm it is compared with; `suvr_pvc` is corrected for blur."""

    name: Text
    title: Text
    regions: Text
    suvr: float
    suvr_pvc: float | None = None
    z: float | None = None
    norm_mean: float | None = None
    norm_sd: float | None = None
    norm_count: int | None = None


class MetaRoi(Facts):
    """The temporal meta-ROI against two thresholds: from `band_low` to `band_high` it is uncertain."""

    definition: Text
    suvr: float
    band_low: float
    band_high: float
    norm_mean: float | None = None
    norm_sd: float | None = None

    @property
    def sentence(self) -> str:
        """The value compared with the thresholds."""
        limit, place = self.band_high, "in the uncertain zone"
        if self.suvr < self.band_low:
            limit, place = self.band_low, "below the uncertain zone"
        elif self.suvr >= self.band_high:
            place = "above the uncertain zone"
        shown, _ = texts_apart(self.suvr, limit, number, 2)
        return f"{shown}: {place} ({number(self.band_low)} to {number(self.band_high)})"
