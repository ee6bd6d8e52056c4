"""The whole way against the truth: `python tests/benchmarks/imaging_truth.py --cohort FOLDER`.

FOLDER holds a phantom's ADNI tree in `adni/` and what an ingest made of it in `bids/`, with `bids.key`, as
`taucal demo` leaves them; what is missing is made: 200 scans, about four minutes on two cores. Registration
is measured as the distance of found and true place over every second brain voxel, regional SUVR against what
the phantom painted, blurred to the common resolution.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from flows.ingest import ingest_study
from flows.ingestion.ingest_tables import DERIVATIVES
from pipeline.atlas import AFFINE, load_atlas
from pipeline.config import PhantomSettings, Study
from pipeline.files import read_json
from pipeline.imaging.derivative import read_derivative
from pipeline.ingest.deidentify import Pseudonymiser, load_or_make_key
from pipeline.ingest.sources import find_scans
from pipeline.phantom import write_cohort

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What became of one phantom scan, beside its truth."""

    spoiled: str
    rule: str
    verdict: str
    image_id: str = ""
    error_mm: float = float("nan")
    targets: float = float("nan")
    entorhinal: float = float("nan")
    all_regions: float = float("nan")
    bias: float = float("nan")
    reference: float = float("nan")
    dynamic: bool = False


def prepare(folder: Path, scans: int) -> None:
    """Make what is missing of cohort and dataset."""
    if not (folder / "adni" / "phantom.json").is_file():
        settings = PhantomSettings(subjects=max(1, scans * 4 // 5), scans=scans)
        write_cohort(settings, folder / "adni", seed=2026)
    if not (folder / "bids" / DERIVATIVES / "ingest.json").is_file():
        cohort = {"path": folder / "bids", "classes": ["CN", "MCI", "AD"]}
        source = {"source": folder / "adni"}
        study = {"name": "truth", "output": folder / "study", "cohort": cohort, "ingest": source}
        ingest_study(Study.model_validate(study))


def scans_of(folder: Path) -> Iterator[Seen]:
    """Yield every scan of the cohort as the dataset has it."""
    bids, truth = folder / "bids", folder / "adni" / "truth"
    key = Pseudonymiser(load_or_make_key(folder / "bids.key", bids))
    for found in find_scans(folder / "adni", "adni", "AV1451").scans:
        record = read_json(bids / DERIVATIVES / ".records" / f"{key.subject(found.identity)}.json")
        outcome = record["outcome"]
        seen = Seen(found.spoiled or "", outcome["rule"], outcome["verdict"], found.image_id)
        if "suvr" not in record:
            yield seen
            continue
        yield _measured(seen, record, bids, read_json(truth / f"I{found.image_id}.json"))


def _measured(seen: Seen, record: dict, bids: Path, truth: dict) -> Seen:
    image = bids / record["suvr"]
    told = read_json(image.with_name(image.name.replace(".nii.gz", ".json")))
    frames = _frames_used(bids / record["converted"]["path"], told["Facts"])
    place = np.mean([truth["template_to_native_mm"][k] for k in frames], axis=0)
    errors = error_mm(np.array(told["Registration"]["TemplateToNativeMm"]), place)
    stem = image.name.split("_space-")[0]
    regions = read_derivative(image.parent, stem).regions
    sided = regions[~((regions.side == "both") & (regions.kind == "target"))]
    names = [r.region if r.side == "both" else f"{r.side}_{r.region}" for r in sided.itertuples()]
    known = np.array([name in truth["regional_suvr"] for name in names])
    sided = sided[known]
    true = np.array([truth["regional_suvr"][name] for name, k in zip(names, known, strict=True) if k])
    off = sided.suvr.to_numpy() / true - 1
    target = (sided.kind == "target").to_numpy()
    entorhinal = (sided.region == "entorhinal").to_numpy()
    voxels = np.asarray(nib.load(image).dataobj, dtype=np.float64)
    return Seen(
        seen.spoiled,
        seen.rule,
        seen.verdict,
        seen.image_id,
        float(errors.mean()),
        float(np.abs(off[target]).mean()),
        float(np.abs(off[entorhinal]).mean()),
        float(np.abs(off).mean()),
        float(off[target].mean()),
        float(voxels[load_atlas().reference].mean()),
        len(truth["template_to_native_mm"]) > 1,
    )


def _frames_used(pet: Path, facts: dict) -> list[int]:
    """Return which frames were averaged, by their times: the dataset tells no indices."""
    told = json.loads(pet.with_name(pet.name.replace(".nii.gz", ".json")).read_text())
    begin = (told["FrameTimesStart"][0] - told["InjectionStart"]) / 60
    spans = [
        (begin + s / 60, begin + (s + d) / 60)
        for s, d in zip(told["FrameTimesStart"], told["FrameDuration"], strict=True)
    ]
    low, high = facts["window_start_min"] - 0.01, facts["window_end_min"] + 0.01
    used = [k for k, (start, end) in enumerate(spans) if low <= start and end <= high]
    assert len(used) == facts["frames_averaged"]
    return used


def error_mm(found: Matrix, true: Matrix) -> NDArray[np.float64]:
    """Distance of found and true place over the brain."""
    voxels = np.argwhere(load_atlas().brain)[::2]
    points = np.column_stack([voxels, np.ones(len(voxels))]) @ AFFINE.T
    return np.linalg.norm((points @ (found - true).T)[:, :3], axis=1)


def table(seen: list[Seen]) -> str:
    """Return the table of goals and what was measured, as Markdown."""
    sound = [s for s in seen if not s.spoiled]
    spoiled = [s for s in seen if s.spoiled]
    used = [s for s in sound if s.verdict != "refused"]

    def mean(name: str, of: list[Seen] = used) -> float:
        return float(np.mean([getattr(s, name) for s in of])) if of else float("nan")

    worst = max(s.error_mm for s in used)
    dynamic = [s for s in used if s.dynamic]
    refused = sum(s.verdict == "refused" for s in sound)
    accepted = sum(s.verdict != "refused" for s in spoiled)
    named = sum(s.rule == s.spoiled for s in spoiled)
    off_reference = max(abs(s.reference - 1) for s in used)
    rows = [
        ("registration error over brain voxels, mean", "1.0 mm", f"{mean('error_mm'):.2f} mm"),
        ("the same, worst accepted scan", "2.5 mm", f"{worst:.2f} mm"),
        ("the same, dynamic scans only", "", f"{mean('error_mm', dynamic):.2f} mm ({len(dynamic)} scans)"),
        ("regional SUVR, mean absolute error, target regions", "3 %", f"{mean('targets'):.1%}"),
        ("the same, entorhinal", "8 %", f"{mean('entorhinal'):.1%}"),
        ("the same, every region of the atlas", "", f"{mean('all_regions'):.1%}"),
        ("regional SUVR, mean signed error, target regions", "", f"{mean('bias'):+.1%}"),
        ("spoiled scans accepted", "0", f"{accepted} of {len(spoiled)}"),
        ("spoiled scans refused by the rule they break", "", f"{named} of {len(spoiled)}"),
        ("sound scans refused", "1 %", f"{refused} of {len(sound)} ({refused / len(sound):.1%})"),
        ("sound scans accepted with a warning", "", f"{sum(s.verdict == 'warned' for s in used)}"),
        ("mean SUVR of the reference region", "1.000 +- .001", f"{mean('reference'):.6f}"),
        ("the same, farthest from 1", "", f"{off_reference:.1e}"),
    ]
    lines = [f"| {what} | {goal} | {got} |" for what, goal, got in rows]
    return "\n".join(["| what | goal | measured |", "|---|---|---|", *lines])


def machine() -> str:
    """Return date, processor and versions in a line."""
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "scipy", "nibabel", "pydicom"))
    today = dt.datetime.now(dt.UTC).date()
    return f"{today}, {platform.machine()}, Python {platform.python_version()}, {packages}"


def main() -> None:
    """Print the table, and every scan that misses a goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--details", type=Path, help="CSV with a row a scan")
    asked = parser.parse_args()
    prepare(asked.cohort, asked.scans)
    seen = list(scans_of(asked.cohort))
    print(f"{len(seen)} phantom scans; {machine()}\n\n{table(seen)}")
    print("\nrules of refusals:", dict(Counter(s.rule for s in seen if s.verdict == "refused")))
    print("rules of warnings:", dict(Counter(s.rule for s in seen if s.verdict == "warned")))
    if asked.details:
        with asked.details.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(vars(seen[0])))
            writer.writeheader()
            writer.writerows(map(vars, seen))


if __name__ == "__main__":
    main()
