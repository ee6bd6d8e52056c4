"""Regional SUVR of one scan against the normal scans of the training cohort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from models.card import RegionNorm
from pipeline.atlas import META_ROI, META_ROI_DEFINITIONS
from pipeline.config import TauThresholds
from pipeline.reporting.page.words import COMPOSITES, region_group, title_of
from pipeline.reporting.scan.regional_numbers import Composite, MetaRoi, RegionRow

MIN_NORMS = 5
"""A z-score against fewer scans would mislead; it is left out."""
NOTABLE_ASYMMETRY_PERCENT = 10.0


class Norms:
    """Looks up mean, SD and count of a region; gives z-scores."""

    def __init__(self, norms: Iterable[RegionNorm]) -> None:
        self._of = {(norm.region, norm.side): norm for norm in norms if norm.n >= MIN_NORMS}
        self.count = max((norm.n for norm in self._of.values()), default=None)

    def get(self, region: str, side: str) -> RegionNorm | None:
        """Return mean, SD and count; None where there are too few scans or they do not differ."""
        found = self._of.get((region, side))
        return found if found and np.isfinite(found.sd) and found.sd > 0 else None

    def z(self, region: str, side: str, suvr: float | None) -> float | None:
        """Return (suvr - mean) / SD; None without norm or value."""
        found = self.get(region, side)
        return None if found is None or suvr is None else (suvr - found.mean) / found.sd


def region_rows(
    table: pd.DataFrame | None, norms: Norms, corrected: pd.DataFrame | None = None
) -> tuple[RegionRow, ...]:
    """Return one row a region, in the order of the table; `corrected` is the table after correction."""
    if table is None:
        return ()
    rows, second = [], {} if corrected is None else _by_place(corrected)
    for region, part in table.groupby("region", sort=False):
        suvr = {side: value for (_, side), value in _by_place(part).items()}
        left, right = suvr.get("left"), suvr.get("right")
        first = part.iloc[0]
        rows.append(
            RegionRow(
                region=region,
                title=title_of(str(region)),
                group=region_group(str(region), str(first["kind"])),
                kind=first["kind"],
                braak="" if pd.isna(first["braak"]) else first["braak"],
                in_meta_roi=region in META_ROI_DEFINITIONS[META_ROI],
                left=left,
                right=right,
                both=suvr.get("both"),
                pvc_left=second.get((str(region), "left")),
                pvc_right=second.get((str(region), "right")),
                pvc_both=second.get((str(region), "both")),
                z_left=norms.z(str(region), "left", left),
                z_right=norms.z(str(region), "right", right),
                asymmetry_percent=None if not left or not right else 200 * (left - right) / (left + right),
            )
        )
    return tuple(rows)


def _by_place(table: pd.DataFrame) -> dict[tuple[str, str], float | None]:
    """Return SUVR by region and side."""
    return {(str(r["region"]), str(r["side"])): finite(r["suvr"]) for r in table.to_dict("records")}


def finite(value: object) -> float | None:
    """Return a number, or None where it is none."""
    x = float(value)  # type: ignore[arg-type]
    return x if np.isfinite(x) else None


def hottest_region(rows: tuple[RegionRow, ...]) -> tuple[str, str]:
    """Return the target region of highest SUVR and its side; empty where nothing was measured."""
    found = [
        (suvr, row.region, side)
        for row in rows
        if row.kind == "target"
        for side, suvr in (("left", row.left), ("right", row.right))
        if suvr is not None
    ]
    return max(found)[1:] if found else ("", "")


def asymmetry_sentence(rows: tuple[RegionRow, ...]) -> str:
    """Return how many target regions differ between the sides, and which the most, as a sentence."""
    compared = [r for r in rows if r.kind == "target" and r.asymmetry_percent is not None]
    if not compared:
        return ""
    most = max(compared, key=lambda r: abs(r.asymmetry_percent or 0))
    size = most.asymmetry_percent or 0.0
    higher = "left" if size > 0 else "right"
    if abs(size) < NOTABLE_ASYMMETRY_PERCENT:
        return (
            f"No target region differs by {NOTABLE_ASYMMETRY_PERCENT:.0f} % or more between left and right."
        )
    count = sum(abs(r.asymmetry_percent or 0) >= NOTABLE_ASYMMETRY_PERCENT for r in compared)
    return (
        f"{count} of {len(compared)} target regions differ by {NOTABLE_ASYMMETRY_PERCENT:.0f} % or more "
        f"between left and right. The largest difference: {most.title.lower()}, {abs(size):.0f} % higher on "
        f"the {higher}."
    )


def composite_rows(
    values: Mapping[str, float], norms: Norms, corrected: Mapping[str, float] | None = None
) -> tuple[Composite, ...]:
    """Return one row a composite; `corrected` holds the values after correction."""
    rows = []
    known = [name for name in COMPOSITES if name in values]
    for name in known + [name for name in values if name not in COMPOSITES]:
        suvr = values[name]
        title, regions = COMPOSITES.get(name, (title_of(name), ""))
        norm = norms.get(name, "both")
        z = norms.z(name, "both", suvr)
        rows.append(
            Composite(
                name=name,
                title=title,
                regions=regions,
                suvr=suvr,
                suvr_pvc=finite(corrected[name]) if corrected and name in corrected else None,
                z=z,
                norm_mean=norm and norm.mean,
                norm_sd=norm and norm.sd,
                norm_count=norm and norm.n,
            )
        )
    return tuple(rows)


def meta_roi_of(values: Mapping[str, float], norms: Norms, thresholds: TauThresholds) -> MetaRoi | None:
    """Return the temporal meta-ROI with its two thresholds."""
    if "meta_roi" not in values:
        return None
    norm = norms.get("meta_roi", "both")
    return MetaRoi(
        definition=f"{META_ROI}: " + ", ".join(title_of(r).lower() for r in META_ROI_DEFINITIONS[META_ROI]),
        suvr=values["meta_roi"],
        band_low=thresholds.uncertain_from,
        band_high=thresholds.positive_from,
        norm_mean=norm and norm.mean,
        norm_sd=norm and norm.sd,
    )
