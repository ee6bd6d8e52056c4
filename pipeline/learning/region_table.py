"""The table of regional SUVR that ingest writes beside a cohort, as it is learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from models.arrays import Floats
from models.card import RegionNorm


@dataclass(frozen=True, eq=False)
class RegionTable:
    """Mean SUVR of every region and composite; the index holds the scan ids."""

    table: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> RegionTable:
        """Read the tab-separated table that ingest wrote."""
        table = pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False)
        return cls(table.set_index("scan_id"))

    @property
    def names(self) -> tuple[str, ...]:
        """Left and right regions whose SUVR is known of every scan."""
        sided = (c for c in self.table.columns if c.startswith(("left_", "right_")))
        return tuple(c for c in sided if self.table[c].notna().all())

    def suvr(self, scan_ids: Sequence[str]) -> Floats:
        """Return the SUVR of `names`, shape (scans, regions)."""
        values: Floats = self.table.loc[list(scan_ids), list(self.names)].to_numpy(np.float64)
        return values

    def norms(self, scan_ids: Sequence[str]) -> tuple[RegionNorm, ...]:
        """Return mean, SD and count of every region and composite over normal scans."""
        norms = []
        for column, values in self.table.loc[list(scan_ids)].items():
            side, _, region = str(column).partition("_")
            known = values.dropna()
            if len(known) > 1:
                norms.append(
                    RegionNorm(
                        region=region,
                        side="both" if side == "composite" else side,
                        mean=float(known.mean()),
                        sd=float(known.std()),
                        n=len(known),
                    )
                )
        return tuple(norms)
