"""SUVR of real people against the truth in their own labels: `python tests/benchmarks/anatomies.py`.

Label volumes (`../shared/data/anatomies`) are painted and scanned as `phantom.anatomies` does. The error of a
region is its SUVR over the mean of the painted uptake at the common resolution of 8 mm in the person's own
labels, over the same in the lower half of their cerebellar grey matter, minus 1: boundaries of the atlas,
registration, noise and interpolation together.

Settings of the imaging were chosen on `ixi_first`; `ixi_second` and `oasis` are other people. Nothing that is
measured here becomes part of the project's data. `--around .6 .9` paints skull and soft tissue brighter than
the phantom does. `--dcccpy` reads the same scans by that package too: it is the site-packages of another
virtual environment, since its licence (CC BY-NC-ND) keeps it out of the project.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd

from pipeline.atlas import META_ROI_DEFINITIONS
from pipeline.config import ImagingSettings
from pipeline.errors import RefusedScan
from pipeline.imaging.process import normalise
from pipeline.phantom.anatomy import Rendering, Uptake, draw_uptake
from pipeline.phantom.brain_labels import MEASURED, VENTRICLES, list_people, measured_labels
from pipeline.phantom.conditions import draw_conditions
from pipeline.phantom.population import Latents
from pipeline.phantom.real_people import paint_person
from pipeline.phantom.scanner import SCANNERS, Acquisition, acquire
from pipeline.scan import Frame, Volume
from tests.benchmarks.dccc import processor_seconds, read_by_dcccpy

ANATOMIES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "anatomies"
Reader = Callable[[Volume], Mapping[str, float]]
"""From a scan to its SUVR, named as `Normalised.region_values` does."""
PATTERNS = ("negative", "braak", "one_sided", "focal")
DEEP = ("caudate", "putamen", "pallidum", "thalamus", "ventral_dc")
NOT_COMPARED = ("accumbens", "frontal_pole", "transverse_temporal")
"""Small regions that the two namings cut differently."""
TARGETS = tuple(region for region in MEASURED if region not in (*DEEP, *NOT_COMPARED))
READ_AS = {"posterior_cingulate": "isthmus_cingulate"}
"""The label named so reaches from the middle cingulate down to the isthmus, where the atlas's region ends."""
FOCI = (
    ("inferior_temporal", "middle_temporal"),
    ("lateral_occipital",),
    ("inferior_parietal",),
    ("fusiform",),
)


@dataclass(frozen=True)
class Person:
    """A label volume and what is known of the person."""

    path: Path
    age: float

    @property
    def name(self) -> str:
        """Name of the scan."""
        return self.path.name.split("_")[0]


@dataclass(frozen=True, eq=False)
class Painted:
    """A scan of a person and its truth; `raised` are the regions in which focal tau was painted."""

    person: Person
    pattern: str
    volume: Volume
    rendering: Rendering
    seen: Acquisition
    raised: tuple[str, ...] = ()

    @property
    def truth(self) -> dict[str, float]:
        """SUVR at 8 mm of the person's own regions: sided, both together, and the meta-ROI."""
        sizes = np.bincount(np.maximum(self.rendering.labels, 0).ravel(), minlength=256)
        one_side = {name: sizes[list(labels)].sum() for name, labels in measured_labels().items()}
        of = self.rendering.regional

        def mean(regions: tuple[str, ...]) -> float:
            names = [f"{side}_{region}" for region in regions for side in ("left", "right")]
            return float(np.average([of[n] for n in names], weights=[one_side[n] for n in names]))

        found = {region: mean((region,)) for region in (*TARGETS, *DEEP)}
        return of | found | {"meta_roi": mean(META_ROI_DEFINITIONS["Mayo"])}

    @property
    def ventricles_ml(self) -> float:
        """Volume of the person's lateral ventricles."""
        voxel_ml = abs(np.linalg.det(self.rendering.affine[:3, :3])) / 1000
        return float(np.isin(self.rendering.labels, VENTRICLES).sum() * voxel_ml)


def people(dataset: str) -> Iterator[Person]:
    """Yield the people of ``"ixi_first"``, ``"ixi_second"`` (every second one) or ``"oasis"``."""
    if dataset == "oasis":
        folder = ANATOMIES / "oasis1_miccai2012"
        ages = pd.read_csv(folder / "subjects.tsv", sep="\t").set_index("scan")["age"]
        yield from (Person(path, float(ages[int(path.name[:4])])) for path in list_people(folder))
        return
    folder = ANATOMIES / "ixi_dlmuse"
    ages = pd.read_csv(folder / "people.tsv", sep="\t").set_index("subject")["age"]
    first = 0 if dataset == "ixi_first" else 1
    for path in list_people(folder)[first::2]:
        yield Person(path, float(ages[path.name.removesuffix("_T1_DLMUSE.nii.gz")]))


def uptake_of(pattern: str, rng: np.random.Generator) -> tuple[Uptake, tuple[str, ...]]:
    """Return what a scan shows, and the regions of focal tau.

    ``braak``: stage .35 to .9 of the phantom's population; ``one_sided``: one hemisphere far ahead;
    ``focal``: one group of regions on one side, all else negative.
    """
    stage = float(rng.uniform(0.35, 0.9)) if pattern in ("braak", "one_sided") else 0.0
    seeds = [int(rng.integers(2**31))], [int(rng.integers(2**31))]
    side = "left" if rng.random() < 0.5 else "right"
    focus = FOCI[int(rng.integers(len(FOCI)))]
    height = float(rng.uniform(0.8, 1.6))
    asymmetry = 0.6 if pattern == "one_sided" else float(rng.normal(0, 0.08))
    drawn = draw_uptake(Latents(stage, True, asymmetry, float(rng.uniform(0.35, 0.8))), *seeds)
    raised = tuple(f"{side}_{region}" for region in focus) if pattern == "focal" else ()
    if raised:
        drawn = replace(drawn, tau=dict.fromkeys(drawn.tau, 0.0) | dict.fromkeys(raised, height))
    return drawn, raised


def paint(
    person: Person,
    pattern: str,
    seed: int,
    *,
    tau_free: bool = False,
    visit: int | None = None,
    around: Mapping[str, float] | None = None,
) -> Painted:
    """Scan a person; `tau_free` gives the same scan without the tau, down to the noise and the pose.

    Another `visit` has other noise and another pose; `around` is the uptake of ``skull`` and ``soft_tissue``.
    """
    rng = np.random.default_rng([seed, PATTERNS.index(pattern)])
    uptake, raised = uptake_of(pattern, rng)
    uptake = replace(uptake, **(around or {}))
    if tau_free:
        uptake = replace(uptake, tau=dict.fromkeys(uptake.tau, 0.0))
    rendering = paint_person(person.path, uptake, [seed, 1])
    scan_seed = [seed, PATTERNS.index(pattern), 2] + ([] if visit is None else [visit])
    vendor = sorted(SCANNERS)[int(rng.integers(len(SCANNERS)))]
    # The vertex of one head in twenty lies at the edge of the field of view; here all are whole.
    conditions = replace(draw_conditions(scan_seed, ""), table_shift_mm=0.0)
    seen = acquire(rendering, vendor, (1200.0,), [seed, 1], scan_seed, conditions)
    facts = {"scan_after_injection_s": 4800.0, "resolution_mm": seen.resolution_mm, "tracer": "AV1451"}
    volume = Volume(seen.frames[0], seen.affine, "Bq/mL", (Frame(0.0, 1200.0),), facts)
    return Painted(person, pattern, volume, rendering, seen, raised)


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
    targets: float = np.nan
    worst_target: float = np.nan
    deep: float = np.nan
    contrast: float = np.nan
    seconds: float = np.nan


def readers(packages: str | None) -> dict[str, Reader]:
    """Return the methods: those of taucal, and dcccpy where its packages are given."""

    def taucal(volume: Volume, registration: Literal["affine", "warp"]) -> Mapping[str, float]:
        return normalise(volume, ImagingSettings(registration=registration)).region_values()

    found: dict[str, Reader] = {
        "affine": lambda volume: taucal(volume, "affine"),
        "warp": lambda volume: taucal(volume, "warp"),
    }
    if packages:
        found["dcccpy"] = lambda volume: read_by_dcccpy(volume, packages)
    return found


def measure(group: str, painted: Painted, twin: Painted | None, method: str, read: Reader) -> Case:
    """Normalise a scan; focal and one-sided tau is compared with the twin that has none."""
    who, truth = painted.person, painted.truth
    about = (group, who.name, who.age, painted.ventricles_ml, painted.pattern, method, truth["meta_roi"])
    start = processor_seconds()
    try:
        suvr = read(painted.volume)
    except RefusedScan as refusal:
        return Case(*about, refused=refusal.rule)
    seconds = processor_seconds() - start
    named = {region: READ_AS.get(region, region) for region in (*TARGETS, *DEEP)}
    off = {region: suvr[f"both_{name}"] / truth[region] - 1 for region, name in named.items()}
    worst = max(TARGETS, key=lambda region: abs(off[region]))
    return Case(
        *about,
        meta_roi=suvr["composite_meta_roi"] / truth["meta_roi"] - 1,
        targets=float(np.mean([abs(off[region]) for region in TARGETS])),
        worst_target=off[worst],
        deep=float(np.mean([abs(off[region]) for region in DEEP])),
        contrast=_contrast(suvr, painted, twin, read) if twin else np.nan,
        seconds=seconds,
    )


def _contrast(after: Mapping[str, float], painted: Painted, twin: Painted, read: Reader) -> float:
    """Share of the true rise over the twin without tau that is measured where tau was painted, minus 1."""
    try:
        before = read(twin.volume)
    except RefusedScan:
        return np.nan
    truth, free = painted.truth, twin.truth
    raised = painted.raised or tuple(f"{side}_{region}" for region in TARGETS for side in ("left", "right"))
    rise = {r: truth[r] - free[r] for r in raised}
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
            if len(known) < 3:  # no thirds
                continue
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
    parser.add_argument("--around", type=float, nargs=2, metavar=("SKULL", "SOFT"), help="SUVR painted there")
    parser.add_argument("--details", type=Path, help="TSV with a row a scan and method")
    parser.add_argument("--dcccpy", metavar="FOLDER", help="site-packages that hold dcccpy[runtime]")
    asked = parser.parse_args()
    cases, methods = [], readers(asked.dcccpy)
    around = dict(zip(("skull", "soft_tissue"), asked.around, strict=True)) if asked.around else None
    for group in asked.sets:
        for seed, person in chosen(group, asked.people):
            for pattern in asked.patterns:
                painted = paint(person, pattern, seed, around=around)
                lopsided = pattern in ("focal", "one_sided")
                twin = paint(person, pattern, seed, tau_free=True, around=around) if lopsided else None
                cases += [measure(group, painted, twin, *method) for method in methods.items()]
    found = pd.DataFrame(cases)
    if asked.details:
        found.to_csv(asked.details, sep="\t", index=False, float_format="%.4f", na_rep="n/a")
    print(f"{table(found)}\n\n{biases(found)}")


if __name__ == "__main__":
    main()
