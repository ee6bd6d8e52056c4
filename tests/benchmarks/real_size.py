"""A small study at real size on two cores: 24 scans of 2 mm, DenseNet121, two folds, killed and resumed.

    python tests/benchmarks/real_size.py [--folder FOLDER]

Through the command line: phantom, ingest, then `taucal train` of two epochs twice with the same settings. The
second is killed outright after the first epoch that it has stored, then started again. Both must leave the
same bytes.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
WEIGHTS = "network/member-*/network.safetensors"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *arguments]


def run(*arguments: str) -> float:
    """Run a command and return its seconds."""
    started = time.perf_counter()
    subprocess.run(command(*arguments), env=ENVIRONMENT, check=True)
    return time.perf_counter() - started


def written(folder: Path, name: str) -> Path:
    """Write the study and return its file."""
    study = {
        "name": "real-size",
        "output": str(folder / name),
        "cohort": {
            "kind": "bids",
            "path": str(folder / "bids"),
            "classes": ["CN", "impaired"],
            "merge": {"impaired": ["MCI", "AD"]},
            "min_subjects_per_class": 4,
        },
        "preprocessing": {"spacing_mm": 2, "suvr_max": 4},
        "network": {"name": "densenet121", "options": {"norm": "instance"}},
        "training": {
            "loss": {"name": "gce"},
            "epochs": 2,
            "warmup_epochs": 0,
            "batch_size": 4,
            "micro_batch": 1,
        },
        "calibration": {"scheme": "cross_fit", "folds": 2},
        "decision": {"coverage": 0.7, "max_risk": 0.4},
        "evaluation": {"draws": 200},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def kill_after_first_epoch(study: Path, output: Path) -> float:
    """Start training, kill it and all it started once an epoch is stored, and return its seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(command("train", str(study)), env=ENVIRONMENT)
    while not list(output.glob("training/member-*/checkpoint.pt")):
        if process.poll() is not None:
            raise RuntimeError("the training ended before it was killed")
        time.sleep(0.05)
    everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in everyone:
        one.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(everyone)
    return time.perf_counter() - started


def main() -> None:
    """Run all and print the times, and whether the bytes agree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=None)
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="real-size-"))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "bids").is_dir():
        seconds = run("phantom", str(folder / "adni"), "--subjects", "24", "--scans", "24", "--seed", "20")
        print(f"phantom: {seconds:.0f} s")
        print(f"ingest: {run('ingest', str(folder / 'adni'), '--out', str(folder / 'bids')):.0f} s")
    print(f"whole: {run('train', str(written(folder, 'whole'))):.0f} s", flush=True)
    study = written(folder, "killed")
    print(f"killed after {kill_after_first_epoch(study, folder / 'killed'):.0f} s", flush=True)
    print(f"resumed: {run('train', str(study)):.0f} s")
    names = sorted(path.relative_to(folder / "whole") for path in (folder / "whole").glob(WEIGHTS))
    names += [Path(f"predictions_{part}.npz") for part in ("calibration", "test")]
    for name in names:
        same = (folder / "whole" / name).read_bytes() == (folder / "killed" / name).read_bytes()
        print(f"{name}: {'the same bytes' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
