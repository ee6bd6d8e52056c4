"""Wrong references and registrations, and what quality control sees: `tests/benchmarks/reference_quality.py`.

Real people's label volumes are painted and scanned as in `anatomies.py`. Each sound scan is read once as it
is, with the reference region in nine wrong places, and with two wrong registrations: the affine moved by 12
to 30 mm, turned by 12 to 35 degrees or scaled by 1.15 to 1.3 either way, after which the warp does what it
can. A case counts as harmful where the median cortical SUVR is off by more than a tenth. Limits were chosen
on `ixi_first` and on people of the phantom; the other sets are other people.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.transform import Rotation

from pipeline.atlas import load_atlas
from pipeline.config import ImagingSettings
from pipeline.imaging import process
from pipeline.imaging.alignment import align
from pipeline.imaging.derivative import Normalised
from pipeline.imaging.head import region_model, stem_box
from pipeline.imaging.measures import (
    coefficient_of_variation,
    cortex,
    deep_white_matter,
    judge_reference,
)
from pipeline.imaging.quality import Finding, judge
from pipeline.imaging.registration import Registration, mutual_information, prepare, register
from pipeline.scan import Volume
from tests.benchmarks.anatomies import chosen, paint

SETTINGS = ImagingSettings()
MIDDLE_MM = np.array([0.0, -18.0, 5.0])


def wrong_references() -> dict[str, NDArray[np.bool_]]:
    """Return other tissues, and the reference region moved."""
    atlas = load_atlas()
    moved = {"12 mm up": (0, 0, 6), "16 mm up": (0, 0, 8), "16 mm down": (0, 0, -8), "14 mm back": (0, -7, 0)}
    return {
        "white matter": deep_white_matter() & atlas.mask("white_matter"),
        "occipital": atlas.mask("lateral_occipital") | atlas.mask("lingual"),
        "inferior temporal": atlas.mask("inferior_temporal"),
        "ventricles": atlas.mask("lateral_ventricle"),
        "pons": stem_box() & (atlas.labels == 0) & atlas.brain & (atlas.white > 0.6),
        **{name: np.roll(atlas.reference, by, axis=(0, 1, 2)) for name, by in moved.items()},
    }


def misplaced(found: Registration, volume: Volume, native_mm: float, kind: str, seed: int) -> Registration:
    """Move, turn or scale an affine, and measure its fit there."""
    rng = np.random.default_rng([seed, 7])
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    change = np.eye(4)
    if kind == "moved":
        change[:3, 3] = axis * rng.uniform(12, 30)
    elif kind == "turned":
        change[:3, :3] = Rotation.from_rotvec(axis * np.deg2rad(rng.uniform(12, 35))).as_matrix()
    else:
        change[:3, :3] *= rng.uniform(1.15, 1.3) ** rng.choice([-1, 1])
    change[:3, 3] += MIDDLE_MM - change[:3, :3] @ MIDDLE_MM
    image, matrix = prepare(volume, native_mm), found.matrix @ change
    seen = mutual_information(image, matrix)
    fit = align(region_model(), image, matrix, "affine", max_steps=0)
    return replace(found, matrix=matrix, mutual_information=seen, explained=fit.explained)


def read(volume: Volume, registration: Registration) -> Normalised:
    """Normalise under a registration; nothing is refused."""
    with (
        mock.patch.object(process, "register", return_value=registration),
        mock.patch.object(process, "refuse_if_needed"),
    ):
        return process.normalise(volume, SETTINGS)


def row(kind: str, findings: list[Finding], cortical: float) -> dict[str, object]:
    """Return what was measured and what follows."""
    measured = {f.rule: f.measured for f in findings}
    for rule in ("registration-failed", "not-a-brain"):
        measured[rule] = -measured[rule]
    verdicts = {f.verdict for f in findings}
    refusing = ",".join(f.rule for f in findings if f.verdict == "refuse")
    warned = "warn" in verdicts
    return {"kind": kind, "refused": refusing, "warned": warned, "cortical": cortical, **measured}


def cases(group: str, count: int) -> Iterator[dict[str, object]]:
    """Yield a row for each way in which each scan is read."""
    references = wrong_references()
    for seed, person in chosen(group, count):
        for pattern in ("negative", "braak"):
            volume = paint(person, pattern, seed).volume
            native_mm = float(volume.facts["resolution_mm"])
            affine = register(volume, native_mm)
            sound = read(volume, affine)
            about = {"people": group, "scan": f"{person.name} {pattern}"}
            median = float(np.median(sound.suvr.array[cortex()]))
            yield about | row("sound", list(sound.findings), median)
            for name, mask in references.items():
                one = float(sound.suvr.array[mask].mean())
                judged = judge_reference(sound.suvr.array, mask)
                varies = coefficient_of_variation(sound.suvr.array, mask)
                old = [f for f in sound.findings if f.rule not in {j.rule for j in judged}]
                old = [f for f in old if f.rule != "reference-uniformity"]
                judged += [judge("reference-uniformity", varies), judge("implausible-suvr", median / one)]
                yield about | row(f"reference: {name}", old + judged, median / one)
            kinds = ("moved", "turned", "scaled")
            for k in range(2):
                kind = kinds[(seed + k) % 3]
                wrong = read(volume, misplaced(affine, volume, native_mm, kind, seed + k))
                yield about | row(
                    f"head {kind}", list(wrong.findings), float(np.median(wrong.suvr.array[cortex()]))
                )


def table(found: pd.DataFrame) -> str:
    """Return one row per people and kind, as Markdown."""
    rules = ("reference-pattern", "cerebellum-ratio", "cerebellar-white-ratio", "pons-ratio")
    rules += ("reference-uniformity", "registration-failed", "not-a-brain")
    heads = ("people", "what is wrong", "n", "refused", "warned", "harmful accepted", "of them unwarned")
    lines = [f"| {' | '.join([*heads, *(f'AUROC {r}' for r in rules)])} |", "|---" * 14 + "|"]
    for (group, kind), of in found.groupby(["people", "kind"], sort=False):
        sound = found[(found.people == group) & (found.kind == "sound")]
        right = of.scan.map(sound.set_index("scan").cortical)
        harmful = (of.cortical / right - 1).abs() > 0.1
        missed = harmful & (of.refused == "")
        cells = [group, kind, str(len(of)), str((of.refused != "").sum())]
        cells += [str(((of.refused == "") & of.warned).sum()), f"{missed.sum()} of {harmful.sum()}"]
        cells += [str((missed & ~of.warned).sum())]
        if kind != "sound":
            cells += [f"{auroc(of[rule], sound[rule]):.2f}" for rule in rules]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def auroc(wrong: pd.Series, sound: pd.Series) -> float:
    """Return the chance that a wrong scan measures worse than a sound one."""
    both = stats.mannwhitneyu(wrong.fillna(np.inf), sound.fillna(np.inf))
    return float(both.statistic / len(wrong) / len(sound))


def main() -> None:
    """Print the table, and the rules that refuse sound scans."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=8, help="of each set")
    parser.add_argument("--sets", nargs="+", default=["ixi_first", "ixi_second", "oasis"])
    asked = parser.parse_args()
    found = pd.DataFrame([case for group in asked.sets for case in cases(group, asked.people)])
    print(table(found))
    sound = found[found.kind == "sound"]
    print(f"\nsound scans refused: {sound.refused[sound.refused != ''].value_counts().to_dict()}")


if __name__ == "__main__":
    main()
