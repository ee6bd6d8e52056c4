"""SUVR of real people against the truth in their own labels: `python tests/benchmarks/anatomies.py`.

Label volumes (`../shared/data/anatomies`) are painted with tau uptake and scanned, see
`tests/helpers/painted_people.py`. The error of a region is its SUVR over the mean of the painted uptake at
the common resolution of 8 mm in the person's own labels, over the same in the lower half of their cerebellar
grey matter, minus 1: boundaries of the atlas, registration, noise and interpolation together.

Settings of the imaging were chosen on `ixi_first`; `ixi_second` and `oasis` are other people. Nothing that is
measured here becomes part of the project's data.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd

from pipeline.config import ImagingSettings
from pipeline.errors import RefusedScan
from pipeline.imaging.process import Normalised, normalise
from tests.helpers.painted_people import LABELS, PATTERNS, Painted, Person, paint, people, without_tau

METHODS = {name: ImagingSettings(registration=name) for name in ("affine", "warp")}
DEEP = ("caudate", "putamen", "pallidum", "thalamus", "ventral_dc")
TARGETS = tuple(region for region in LABELS if region not in DEEP)


@dataclass(frozen=True)
class Case:
    """One scan by one method; errors are fractions."""

    people: str
    person: str
    age: float
    ventricles_ml: float
    pattern: str
    method: str
    truth: float = np.nan
    refused: str = ""
    meta_roi: float = np.nan
    sharp: float = np.nan
    targets: float = np.nan
    worst_target: float = np.nan
    deep: float = np.nan
    contrast: float = np.nan
    seconds: float = np.nan


def measure(group: str, painted: Painted, twin: Painted | None, method: str) -> Case:
    """Normalise a scan; focal and one-sided tau is compared with the twin that has none."""
    who = painted.person
    about = (group, who.name, who.age, who.ventricles_ml, painted.pattern, method, painted.truth["meta_roi"])
    start = time.process_time()
    try:
        found = normalise(painted.volume, METHODS[method])
    except RefusedScan as refusal:
        return Case(*about, refused=refusal.rule)
    seconds = time.process_time() - start
    suvr = found.region_values()
    off = {region: suvr[f"both_{region}"] / painted.truth[region] - 1 for region in LABELS}
    worst = max(TARGETS, key=lambda region: abs(off[region]))
    return Case(
        *about,
        meta_roi=found.composites["meta_roi"] / painted.truth["meta_roi"] - 1,
        sharp=found.composites["meta_roi"] / painted.sharp["meta_roi"] - 1,
        targets=float(np.mean([abs(off[region]) for region in TARGETS])),
        worst_target=off[worst],
        deep=float(np.mean([abs(off[region]) for region in DEEP])),
        contrast=_contrast(found, painted, twin, method) if twin else np.nan,
        seconds=seconds,
    )


def _contrast(found: Normalised, painted: Painted, twin: Painted, method: str) -> float:
    """Share of the true rise over the twin without tau that is measured where tau was painted, minus 1."""
    try:
        before = normalise(twin.volume, METHODS[method]).region_values()
    except RefusedScan:
        return np.nan
    after = found.region_values()
    raised = painted.raised or tuple(f"{side}_{region}" for region in TARGETS for side in ("left", "right"))
    rise = {r: painted.truth[r] - twin.truth[r] for r in raised}
    strong = [r for r in raised if rise[r] > 0.3]
    seen = sum(after[r] - before[r] for r in strong)
    return float(seen / sum(rise[r] for r in strong) - 1) if strong else np.nan


def table(cases: pd.DataFrame) -> str:
    """Return one row per people, pattern and method, as Markdown."""
    heads = "people", "pattern", "method", "n", "refused", "meta-ROI mean", "abs.", "worst", "targets abs."
    heads += "nuclei abs.", "contrast", "s"
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (group, pattern, method), of in cases.groupby(["people", "pattern", "method"], sort=False):
        used = of[of.refused == ""]
        row = [group, pattern, method, str(len(of)), str(len(of) - len(used))]
        meta = used.meta_roi
        row += [f"{meta.mean():+.1%}", f"{meta.abs().mean():.1%}", f"{meta.abs().max():.1%}"]
        row += [f"{used.targets.mean():.1%}", f"{used.deep.mean():.1%}", f"{used.contrast.mean():+.1%}"]
        lines.append(f"| {' | '.join([*row, f'{used.seconds.mean():.2f}'])} |".replace("+nan%", ""))
    return "\n".join(lines)


def biases(cases: pd.DataFrame) -> str:
    """Return the meta-ROI's mean error in thirds of stage, age and ventricle volume, as Markdown."""
    lines = ["| method | by | low | middle | high |", "|---|---|---|---|---|"]
    used = cases[cases.refused == ""]
    for method, of in used.groupby("method", sort=False):
        for what in ("truth", "age", "ventricles_ml"):
            known = of[of[what].notna()]
            third = pd.qcut(known[what].rank(method="first"), 3, labels=False)
            low, middle, high = (known.meta_roi[third == k].mean() for k in range(3))
            lines.append(f"| {method} | {what} | {low:+.1%} | {middle:+.1%} | {high:+.1%} |")
    return "\n".join(lines)


def chosen(group: str, count: int) -> list[tuple[int, Person]]:
    """Return people spread evenly over a set, with the seeds of their scans."""
    everybody = list(people(group))
    where = np.unique(np.linspace(0, len(everybody) - 1, min(count, len(everybody))).round().astype(int))
    return [(int(k), everybody[k]) for k in where]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=12, help="of each set")
    parser.add_argument("--sets", nargs="+", default=["ixi_first", "ixi_second", "oasis"])
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS))
    parser.add_argument("--details", type=Path, help="TSV with a row a scan and method")
    asked = parser.parse_args()
    cases = []
    for group in asked.sets:
        for seed, person in chosen(group, asked.people):
            for pattern in asked.patterns:
                painted = paint(person, pattern, seed)
                twin = without_tau(painted, seed) if pattern in ("focal", "one_sided") else None
                cases += [measure(group, painted, twin, method) for method in METHODS]
    found = pd.DataFrame(cases)
    if asked.details:
        found.to_csv(asked.details, sep="\t", index=False, float_format="%.4f", na_rep="n/a")
    print(f"{table(found)}\n\n{biases(found)}")


if __name__ == "__main__":
    main()
