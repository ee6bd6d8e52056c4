"""Two visits of one person, each with a warp of its own or both with one: `tests/benchmarks/retest.py`.

The same head is scanned twice, a month apart: other pose, noise and uptake between visits, the same anatomy.
With one warp, the second scan is aligned rigidly with the first, affine and warp are fitted to the mean of
both, and each scan is resampled once. The error is that of the change: measured log ratio of the two visits
minus the true one, in the person's own regions.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest import mock

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
from scipy import ndimage

from pipeline.atlas import load_atlas
from pipeline.config import ImagingSettings, PhantomSettings
from pipeline.imaging import process
from pipeline.imaging.alignment import align
from pipeline.imaging.derivative import Normalised
from pipeline.imaging.frames import _frame_model
from pipeline.imaging.input_checks import ASSUMED_RESOLUTION_MM
from pipeline.imaging.process import normalise
from pipeline.imaging.quality import note
from pipeline.imaging.registration import Registration, prepare, register, warped
from pipeline.imaging.space import Matrix
from pipeline.phantom import make_scan
from pipeline.phantom.anatomy import Rendering
from pipeline.scan import Frame, Volume
from tests.benchmarks import warped_phantom
from tests.benchmarks.anatomies import READ_AS, TARGETS, chosen, paint

SETTINGS = ImagingSettings()
META = warped_phantom.META


@dataclass(frozen=True, eq=False)
class Visit:
    """A scan and the SUVR of the person's own regions at 8 mm."""

    volume: Volume
    truth: dict[str, float]


def phantom_pairs(count: int) -> Iterator[tuple[Visit, Visit]]:
    """Yield two scans of each of the phantom's people; uptake differs as between visits."""
    settings, seed = PhantomSettings(anatomy="people"), warped_phantom.SEED
    for scan in warped_phantom.scans(count):
        later = replace(scan, image_id=scan.image_id + 500_000, start=scan.start + dt.timedelta(days=30))
        visits = []
        for one in (scan, later):
            rendering, seen = make_scan(one, seed, settings)
            facts = {"scan_after_injection_s": one.after_injection_s}
            volume = Volume(seen.frames[0], seen.affine, "Bq/mL", (Frame(0.0, one.frames_s[0]),), facts)
            visits.append(Visit(volume, with_meta_roi(rendering)))
        yield visits[0], visits[1]


def with_meta_roi(rendering: Rendering) -> dict[str, float]:
    """Return the truth of a head of the phantom, its meta-ROI among it."""
    voxels = np.bincount(rendering.labels.ravel(), minlength=len(load_atlas().names))
    sizes = [voxels[load_atlas().names.index(name)] for name in META]
    meta = float(np.average([rendering.regional[name] for name in META], weights=sizes))
    return rendering.regional | {"meta_roi": meta}


def real_pairs(group: str, count: int) -> Iterator[tuple[Visit, Visit]]:
    """Yield two scans of each person with the same uptake, by scanners, poses and noise of their own."""
    for seed, person in chosen(group, count):
        first = paint(person, "braak", seed)
        again = paint(person, "braak", seed, visit=2)
        yield Visit(first.volume, first.truth), Visit(again.volume, again.truth)


def native_mm(volume: Volume) -> float:
    """Resolution that the pipeline takes a scan to have."""
    return float(volume.facts.get("resolution_mm", ASSUMED_RESOLUTION_MM))


def shared(first: Volume, second: Volume) -> tuple[Registration, Registration]:
    """Register two scans of one head with one affine and one warp."""
    alone = [register(v, native_mm(v)) for v in (first, second)]
    images = [prepare(v, native_mm(v)) for v in (first, second)]
    start = rigid_part(alone[1].matrix @ np.linalg.inv(alone[0].matrix))
    between = align(_frame_model(images[0]), images[1], start, "rigid", 20).matrix
    both = images[0].with_array((images[0].array + on_grid_of(images[0], images[1], between)) / 2)
    mean = warped(both, 8.0, register(both, 8.0))
    return mean, replace(mean, matrix=between @ mean.matrix)


def rigid_part(matrix: Matrix) -> Matrix:
    """Return the nearest rotation, with the displacement of the head's middle."""
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    rigid = np.eye(4)
    rigid[:3, :3] = u @ vt
    rigid[:3, 3] = matrix[:3, 3]
    return rigid


def on_grid_of(image: Volume, other: Volume, between: Matrix) -> np.ndarray:
    """Resample an image on the grid of another."""
    voxels = np.linalg.inv(other.affine) @ between @ image.affine
    shape = image.array.shape
    return ndimage.affine_transform(
        other.array, voxels[:3, :3], voxels[:3, 3], shape, order=1, cval=np.nan
    ).astype(np.float32)


def read(volume: Volume, registration: Registration | None) -> Normalised:
    """Normalise alone, or under a registration; nothing is refused."""
    with mock.patch.object(process, "refuse_if_needed"):
        if registration is None:
            return normalise(volume, SETTINGS)
        with (
            mock.patch.object(process, "register", return_value=registration),
            mock.patch.object(process, "_warp", return_value=(registration, note("warp", "pass", ""))),
        ):
            return normalise(volume, SETTINGS)


def errors(found: tuple[Normalised, Normalised], visits: tuple[Visit, Visit]) -> dict[str, float]:
    """Return the error of the change between two visits, and that of the first."""
    read_of, true_of = [f.region_values() for f in found], [v.truth for v in visits]

    def change(measured: str, true: str) -> float:
        return float(
            np.log(read_of[1][measured] / read_of[0][measured] * true_of[0][true] / true_of[1][true])
        )

    named = READ_AS if "left_isthmus_cingulate" not in true_of[0] else {}
    sided = [(f"{s}_{named.get(r, r)}", f"{s}_{r}") for r in TARGETS for s in ("left", "right")]
    regions = np.array([change(*names) for names in sided])
    meta = [
        float(np.log(f.composites["meta_roi"] / v.truth["meta_roi"]))
        for f, v in zip(found, visits, strict=True)
    ]
    return {
        "meta": meta[1] - meta[0],
        "regions": float(np.sqrt(np.mean(regions**2))),
        "first": meta[0],
    }


def cases(group: str, count: int) -> Iterator[dict[str, object]]:
    """Yield a row for each pair and way."""
    pairs = phantom_pairs(count) if group == "people" else real_pairs(group, count)
    for visits in pairs:
        volumes = [visit.volume for visit in visits]
        alone = (read(volumes[0], None), read(volumes[1], None))
        yield {"people": group, "way": "own warps"} | errors(alone, visits)
        one, other = shared(*volumes)
        together = (read(volumes[0], one), read(volumes[1], other))
        yield {"people": group, "way": "one warp"} | errors(together, visits)


def table(found: pd.DataFrame) -> str:
    """Return one row per people and way, as Markdown."""
    heads = "people", "warps", "pairs", "change of meta-ROI, RMS", "worst", "change of target regions, RMS"
    heads += ("error of the first, abs.",)
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (group, way), of in found.groupby(["people", "way"], sort=False):
        spread = float(np.sqrt(np.mean(of.meta**2)))
        row = [group, way, str(len(of)), f"{spread:.1%}", f"{of.meta.abs().max():.1%}"]
        row += [f"{float(np.sqrt(np.mean(of.regions**2))):.1%}", f"{of['first'].abs().mean():.1%}"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=8, help="of each set")
    parser.add_argument("--sets", nargs="+", default=["people", "ixi_second"])
    asked = parser.parse_args()
    print(table(pd.DataFrame([case for group in asked.sets for case in cases(group, asked.people)])))


if __name__ == "__main__":
    main()
