"""Cross-fitting against one calibration part, on the phantom in image space.

    python tests/benchmarks/cross_fitting.py train FOLDER --draws 8 --scans 150
    python tests/benchmarks/cross_fitting.py show FOLDER --scans 150
    python tests/benchmarks/cross_fitting.py train FOLDER --draws 8 --scans 150 --dicom --repeats 1

`train` paints flortaucipir scans in template space (point spread of 5 to 8 mm, correlated noise; no
registration), trains `small_cnn` at 8 mm voxels with the settings of ``configs/demo.yaml``, and stores the
logits of every network: the network of a split, and R x 5 networks of a cross-fitting. It resumes. `show`
calibrates what is stored and prints the NLL above that of the true posterior, the error of the posterior,
and what the prediction sets and plausible ranges do. No setting is chosen by the test scans.

With `--dicom` the scans are written as PET DICOM, ingested by `taucal ingest` and read from its derivatives;
refused scans are left out. Each cohort is made once and stored as 8 mm volumes.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from models.calibrators import build_calibrator, softmax
from models.ensemble import pooled_logits
from models.networks import run
from models.preprocessing import Preprocessing
from pipeline.config import SHIPPED, PhantomSettings, PreprocessingSettings, Study, load_study
from pipeline.files import written_whole
from pipeline.learning.cross_fitting import assign_folds, study_of
from pipeline.learning.loading import LabelledVolumes, load_volumes
from pipeline.learning.split import assign_parts, development
from pipeline.learning.training import train
from pipeline.phantom import write_cohort
from pipeline.phantom.anatomy import draw_uptake, render
from pipeline.phantom.cohort import draw_latents
from pipeline.phantom.population import PRESETS, posterior, sample_classes
from pipeline.scan import Cohort, Split

PRESET = PRESETS["three_class"]
SPACING_MM = 8.0
TEST_SCANS = 1050
LOSSES = {"ce": ("ce", {}), "gce05": ("gce", {"weight": 0.5}), "gce1": ("gce", {})}
SIGMA = 1 / 2.3548 / 2.0
"""Voxels of 2 mm for each mm of FWHM."""


def paint(number: int, seed: int, stage: float, typical: bool) -> np.ndarray:
    """Return one SUVR volume at 8 mm."""
    return np.asarray(Preprocessing(SPACING_MM, 4.0)(paint_suvr(number, seed, stage, typical)))


def paint_suvr(number: int, seed: int, stage: float, typical: bool) -> np.ndarray:
    """Return one SUVR volume in template space, 2 mm."""
    rng = np.random.default_rng([seed, number, 7])
    latents = draw_latents((stage, typical), rng)
    suvr = render(draw_uptake(latents, [seed, number, 1], [seed, number, 2])).suvr
    blurred = ndimage.gaussian_filter(suvr, rng.uniform(5, 8) * SIGMA, truncate=3.0)
    noise = ndimage.gaussian_filter(
        rng.standard_normal(suvr.shape, dtype=np.float32), 4.2 * SIGMA, mode="wrap"
    )
    noise *= np.float32(rng.uniform(0.15, 0.2)) / noise.std()
    blurred += noise * np.sqrt((blurred + np.float32(0.05)) / np.float32(1.05))
    gain = np.float32(rng.normal(1.0, 0.03))
    return np.maximum(blurred, 0) * gain


def scans_of(kind: str, scans: int, seed: int, folder: Path) -> tuple[LabelledVolumes, np.ndarray]:
    """Return scans, one a subject, and their true posterior; made once, then read from `folder`."""
    stored = folder / f"scans-{kind}{scans}-{seed}.npz"
    if not stored.is_file():
        made = ingest(scans, seed) if kind else paint_all(scans, seed)
        with written_whole(stored) as beside, beside.open("wb") as stream:
            np.savez(stream, **made)
    found = np.load(stored)
    volumes = LabelledVolumes(
        tuple(found["ids"].tolist()),
        tuple(found["subjects"].tolist()),
        found["volumes"],
        found["labels"],
        PRESET.class_names,
        Preprocessing(SPACING_MM, 4.0),
        hashlib.sha256(found["volumes"].tobytes() + found["labels"].tobytes()).hexdigest(),
    )
    return volumes, found["truth"]


def ingest(scans: int, seed: int) -> dict[str, Any]:
    """Return accepted scans that went through DICOM and ingest."""
    with tempfile.TemporaryDirectory() as place:
        settings = PhantomSettings(subjects=scans, scans=scans, spoiled=0.0)
        source = write_cohort(settings, Path(place) / "adni", seed=seed)
        bids = Path(place) / "bids"
        command = ["ingest", str(source), "--out", str(bids), "--workers", "1", "--quiet"]
        subprocess.run([sys.executable, "-m", "flows.cli", *command], check=True)
        derivatives = bids / "derivatives" / "taucal"
        cohort = Cohort.read_tsv(derivatives / "cohort.tsv", PRESET.class_names)
        table = pd.read_csv(derivatives / "cohort.tsv", sep="\t").set_index("scan_id")
        truth = table.loc[list(cohort.scan_ids), [f"posterior_{name}" for name in PRESET.class_names]]
        settings_of = PreprocessingSettings(spacing_mm=SPACING_MM, suvr_max=4.0)
        made = load_volumes(cohort, settings_of, Path(place) / "cache")
        return {
            "ids": made.scan_ids,
            "subjects": made.subjects,
            "volumes": np.array(made.volumes),
            "labels": made.labels,
            "truth": truth.to_numpy(),
        }


def paint_all(scans: int, seed: int) -> dict[str, Any]:
    """Return painted scans."""
    rng = np.random.default_rng([seed, 99])
    labels, stages, typical = sample_classes(PRESET, scans, rng)
    ids = [f"sub-{seed:03d}{n:05d}_ses-M0" for n in range(scans)]
    return {
        "ids": ids,
        "subjects": [i.split("_")[0] for i in ids],
        "volumes": np.stack([paint(n, seed, float(stages[n]), bool(typical[n])) for n in range(scans)]),
        "labels": labels,
        "truth": posterior(PRESET, stages, typical),
    }


def demo_study(loss: str, seed: int, repeats: int) -> Study:
    """Return the demo's study with another loss."""
    study = load_study(SHIPPED / "demo.yaml")
    name, options = LOSSES[loss]
    named = study.training.loss.model_copy(update={"name": name, "options": options})
    return study.model_copy(
        update={
            "seed": seed,
            "training": study.training.model_copy(update={"loss": named}),
            "calibration": study.calibration.model_copy(update={"folds": 5, "repeats": repeats}),
        }
    )


def draw(folder: Path, number: int, scans: str, asked: argparse.Namespace) -> None:
    """Train and store all networks of one draw; `scans` is their number, after ``dicom-`` where ingested."""
    wanted = [(loss, folder / f"{scans}-{number}-{loss}.npz") for loss in asked.losses]
    wanted = [(loss, path) for loss, path in wanted if not path.is_file()]
    if not wanted:
        return
    kind = "dicom-" if scans.startswith("dicom-") else ""
    volumes, truth = scans_of(kind, int(scans.removeprefix(kind)), 1000 + number, folder)
    test, test_truth = scans_of(kind, asked.test, 5000, folder)
    names = dict(zip(volumes.scan_ids, (PRESET.class_names[k] for k in volumes.labels), strict=True))
    subject_of = dict(zip(volumes.scan_ids, volumes.subjects, strict=True))
    class_of = {subject_of[i]: c for i, c in names.items()}
    part_of = assign_parts(class_of, {"validation": 0.1, "calibration": 0.32}, seed=number)
    parts = {
        p: tuple(i for i in volumes.scan_ids if part_of[subject_of[i]] == p)
        for p in ("train", "validation", "calibration")
    }
    split = Split(**parts, test=(), subject_of=subject_of)
    for loss, path in wanted:
        study = demo_study(loss, number, asked.repeats)
        stored: dict[str, np.ndarray] = {"labels": volumes.labels, "truth": truth}
        stored |= {"test_labels": test.labels, "test_truth": test_truth}
        with tempfile.TemporaryDirectory() as place:
            single = train(volumes, split, study, Path(place) / "split")
            calibration = volumes.subset(split.calibration)
            rows = [volumes.scan_ids.index(i) for i in split.calibration]
            stored |= {"split_rows": np.array(rows)}
            stored["split_calibration"] = run(single.network, calibration.volumes)[0]
            stored["split_test"] = run(single.network, test.volumes)[0]
            assigned = assign_folds(development(split), names, study.calibration, 0.1, number)
            held_out = np.full((asked.repeats, len(volumes), 3), np.nan)
            fold_of = np.zeros((asked.repeats, len(volumes)), dtype=int)
            tested = []
            for place_of, network in enumerate(assigned):
                trained = train(volumes, network.split, study_of(study, network), Path(place) / f"{place_of}")
                own = [volumes.scan_ids.index(i) for i in network.split.calibration]
                held_out[network.repeat, own] = run(trained.network, volumes.volumes[own])[0]
                fold_of[network.repeat, own] = network.fold
                tested.append(run(trained.network, test.volumes)[0])
        stored |= {"held_out": held_out, "fold_of": fold_of, "members_test": np.stack(tested)}
        np.savez(path, **stored)
        print(f"draw {number}, {scans} scans, {loss}: stored", flush=True)


def shown(path: Path) -> dict[str, tuple[float, float]]:
    """Return NLL above the true posterior's and mean error of the posterior of each scheme of one draw."""
    stored = np.load(path)
    y, test_y, truth = stored["labels"], stored["test_labels"], stored["test_truth"]
    repeats = len(stored["held_out"])
    schemes = {"split": (stored["split_calibration"], y[stored["split_rows"]], stored["split_test"])}
    for r in range(1, repeats + 1):
        members = stored["members_test"][: 5 * r]
        held_out = pooled_logits(stored["held_out"][:r])
        schemes[f"cross-fit, R = {r}"] = (held_out, y, pooled_logits(members))
        if r == 1:
            pooled_p = np.log(softmax(members.reshape(-1, 3)).reshape(members.shape).mean(axis=0))
            schemes["cross-fit, R = 1, mean of probabilities"] = (held_out, y, pooled_p)
    found = {}
    for scheme, (logits, labels, test) in schemes.items():
        for name, calibrator in (
            ("uncalibrated", build_calibrator("identity")),
            ("T", build_calibrator("temperature", prior=None)),
            ("ATS", build_calibrator("adaptive_temperature", offsets=False)),
            ("ATS, offsets", build_calibrator("adaptive_temperature")),
        ):
            p = calibrator.fit(logits, labels).transform(test)
            found[f"{scheme}: {name}"] = judged(p, test_y, truth)
            if scheme == "cross-fit, R = 1":
                sharp = sharpened(p, logits, labels, stored["members_test"][:5])
                found[f"{scheme}: {name}, sharpened"] = judged(sharp, test_y, truth)
    return found


def judged(p: np.ndarray, labels: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the NLL of probabilities above that of the true posterior, and their mean error."""
    nll, least = (-np.log(np.maximum(q[np.arange(len(labels)), labels], 1e-12)).mean() for q in (p, truth))
    return float(nll - least), float(np.abs(p - truth).mean())


def sharpened(p: np.ndarray, held_out: np.ndarray, labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return probabilities of the average of networks with the evidence that averaging adds: tried, not used.

    They are calibrated on logits of single networks. If the logits of each class were normal, and the
    networks differed by noise, the evidence p / pi of the average would be that to the power c =
    V / (V - (1 - 1/M) S), with V the variance of single logits within classes and S that between M networks.
    """
    centred = held_out - held_out.mean(axis=1, keepdims=True)
    means = np.stack([centred[labels == k].mean(axis=0) for k in range(centred.shape[1])])
    within = ((centred - means[labels]) ** 2).sum() / (len(centred) - len(means))
    between = (members - members.mean(axis=2, keepdims=True)).var(axis=0, ddof=1).sum(axis=1).mean()
    power = within / (within - (1 - 1 / len(members)) * min(between, 0.9 * within))
    shares = np.bincount(labels, minlength=len(means)) / len(labels)
    sharp = p**power * shares ** (1 - power)
    return np.asarray(sharp / sharp.sum(axis=1, keepdims=True))


def show(folder: Path, scans: str) -> None:
    """Print a table over draws: mean and standard error; then paired differences to the split."""
    found = {loss: [shown(path) for path in sorted(folder.glob(f"{scans}-*-{loss}.npz"))] for loss in LOSSES}
    print("| scheme | " + " | ".join(f"{loss} (n = {len(draws)})" for loss, draws in found.items()) + " |")
    print("|---|" + "---|" * len(found))
    every = max((draws[0] for draws in found.values() if draws), key=len)
    for scheme in every:
        cells = []
        for draws in found.values():
            if not draws or scheme not in draws[0]:
                cells.append("")
                continue
            nll, error = np.array([d[scheme] for d in draws]).T
            first = np.array([d["split: uncalibrated"][0] for d in draws])
            paired = nll - first
            se = nll.std(ddof=1) / np.sqrt(len(nll)), paired.std(ddof=1) / np.sqrt(len(nll))
            cells.append(
                f"{nll.mean():.3f} ± {se[0]:.3f} / {error.mean():.3f} ({paired.mean():+.3f} ± {se[1]:.3f})"
            )
        print(f"| {scheme} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("action", choices=["train", "show"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--scans", type=int, default=150)
    parser.add_argument("--test", type=int, default=TEST_SCANS, help="test scans, before refusals")
    parser.add_argument("--dicom", action="store_true", help="write the scans as DICOM and ingest them")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    scans = f"dicom-{asked.scans}" if asked.dicom else str(asked.scans)
    if asked.action == "show":
        show(asked.folder, scans)
        return
    torch.set_num_threads(1)
    for number in range(asked.first, asked.first + asked.draws):
        draw(asked.folder, number, scans, asked)


if __name__ == "__main__":
    main()
