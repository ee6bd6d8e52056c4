"""Partial-volume correction against the painted uptake: `tests/benchmarks/partial_volume.py --people 8`.

Real people's label volumes (`anatomies.py`) and people of the phantom (`warped_phantom.py`) are scanned and
normalised as ever. The truth is the uptake that was painted before any blur, over the same of the reference
region; SUVR as read and SUVR after correction are compared with it. No setting of the correction was chosen
on any of these scans.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd

from pipeline.atlas import META_ROI_DEFINITIONS, REFERENCE
from pipeline.config import ImagingSettings, PhantomSettings
from pipeline.errors import RefusedScan
from pipeline.imaging.process import normalise
from pipeline.phantom import make_scan
from pipeline.phantom.anatomy import Uptake, draw_uptake, intensities, load_model
from pipeline.phantom.scan_maker import variation_of
from pipeline.phantom.variation import Variation
from pipeline.phantom.warped import _as_published
from pipeline.scan import Frame, Volume
from tests.benchmarks import warped_phantom
from tests.benchmarks.anatomies import DEEP, PATTERNS, READ_AS, TARGETS, chosen, paint, uptake_of

SETTINGS = ImagingSettings(partial_volume=True)
MISSTATED_MM = (-1.5, 0.0, 1.5)
"""How far the stated resolution is off, where the phantom states it."""


def real_scans(group: str, count: int) -> Iterator[tuple[str, Volume, dict[str, float]]]:
    """Yield pattern, scan and painted uptake of real people."""
    for seed, person in chosen(group, count):
        for pattern in ("negative", "braak"):
            uptake, _ = uptake_of(pattern, np.random.default_rng([seed, PATTERNS.index(pattern)]))
            yield pattern, paint(person, pattern, seed).volume, sharp(uptake)


def phantom_scans(count: int) -> Iterator[tuple[str, Volume, dict[str, float]]]:
    """Yield stage, scan and painted uptake of the phantom's people."""
    seed = warped_phantom.SEED
    for scan in warped_phantom.scans(count):
        _, seen = make_scan(scan, seed, PhantomSettings(anatomy="people"))
        facts = {"scan_after_injection_s": scan.after_injection_s}
        volume = Volume(seen.frames[0], seen.affine, "Bq/mL", (Frame(0.0, scan.frames_s[0]),), facts)
        uptake = draw_uptake(scan.latents, [seed, 1, scan.subject.index], [seed, 2, scan.image_id])
        stage = "stage < .3" if scan.latents.stage < 0.3 else "stage >= .3"
        yield stage, volume, sharp(uptake, variation_of(scan, seed))


def sharp(uptake: Uptake, variation: Variation | None = None) -> dict[str, float]:
    """Return the painted uptake of every region over that of the reference region."""
    painted = intensities(uptake) if variation is None else _as_published(uptake, variation)
    names = load_model().names
    of_reference = float(painted[names.index(REFERENCE)])
    return {name: float(value) / of_reference for name, value in zip(names, painted, strict=True)}


def errors(regions: pd.DataFrame, meta_roi: float, truth: dict[str, float]) -> dict[str, float]:
    """Return errors as fractions of the truth."""
    rows = regions[regions.side == "both"].set_index("region")
    suvr, volume = rows.suvr, rows.volume_ml
    true = {r: (truth[f"left_{r}"] + truth[f"right_{r}"]) / 2 for r in (*TARGETS, *DEEP)}

    def absolute(names: tuple[str, ...]) -> float:
        return float(np.mean([abs(suvr[READ_AS.get(r, r)] / true[r] - 1) for r in names]))

    meta = META_ROI_DEFINITIONS["Mayo"]
    of_meta = float(np.average([true[r] for r in meta], weights=[volume[r] for r in meta]))
    found = {"meta": meta_roi / of_meta - 1, "targets": absolute(TARGETS), "nuclei": absolute(DEEP)}
    found["signed"] = float(np.mean([suvr[READ_AS.get(r, r)] / true[r] - 1 for r in TARGETS]))
    return found


def cases(group: str, count: int) -> Iterator[dict[str, object]]:
    """Yield a row for each way in which each scan is read."""
    scans = phantom_scans(count) if group == "people" else real_scans(group, count)
    for kind, volume, truth in scans:
        about = {"people": group, "pattern": kind}
        stated = volume.facts.get("resolution_mm")
        for off in MISSTATED_MM if stated else (0.0,):
            facts = dict(volume.facts) | ({"resolution_mm": float(stated) + off} if stated else {})
            start = time.process_time()
            try:
                found = normalise(replace(volume, facts=facts), SETTINGS)
            except RefusedScan:
                continue
            seconds = time.process_time() - start
            assert found.unblurred is not None
            second, how = found.unblurred, f", resolution {off:+g} mm" if off else ""
            for method, regions, composites in (
                ("as read", found.regions, found.composites),
                ("corrected", second.regions, second.composites),
            ):
                row = errors(regions, composites["meta_roi"], truth)
                yield about | {"method": method + how, "seconds": seconds} | row


def table(found: pd.DataFrame) -> str:
    """Return one row per people, pattern and method, as Markdown."""
    heads = ("people", "pattern", "method", "n", "meta-ROI mean", "abs.", "worst", "targets mean", "abs.")
    heads += ("nuclei abs.",)
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (group, pattern, method), of in found.groupby(["people", "pattern", "method"], sort=False):
        row = [group, pattern, method, str(len(of)), f"{of.meta.mean():+.1%}", f"{of.meta.abs().mean():.1%}"]
        row += [f"{of.meta.abs().max():.1%}", f"{of.signed.mean():+.1%}", f"{of.targets.mean():.1%}"]
        lines.append(f"| {' | '.join([*row, f'{of.nuclei.mean():.1%}'])} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=8, help="of each set")
    parser.add_argument("--sets", nargs="+", default=["ixi_second", "oasis", "people"])
    asked = parser.parse_args()
    found = pd.DataFrame([case for group in asked.sets for case in cases(group, asked.people)])
    print(f"{table(found)}\n\n{found.seconds.mean():.2f} s a scan")


if __name__ == "__main__":
    main()
