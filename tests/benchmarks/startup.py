"""Processor time of commands over that of the imports they cannot do without: `tests/benchmarks/startup.py`.

Each command and the bare imports run in turn, `--tries` times; the least of each counts, since other work on
the machine only adds to both. Wrong calls are among them, and what an operator asks of a study. What is
imported before a wrong call is answered is a test: `tests/flows/test_startup.py`.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.config import shipped_study

_BARE = "import typer, rich, pydantic, yaml"
_OPERATOR = f"{_BARE}, numpy, safetensors.numpy"
_ATLAS = "from pipeline.atlas import load_atlas; load_atlas()"
_IMPORTS_OF_ATLAS = "import nibabel, numpy, scipy.ndimage"


def least_seconds(commands: list[list[str]], folder: Path, tries: int) -> list[float]:
    """Return the least processor time of each command, all in turn."""
    least = [float("inf")] * len(commands)
    for _ in range(tries):
        for number, call in enumerate(commands):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(call, capture_output=True, check=False, cwd=folder)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            least[number] = min(least[number], spent)
    return least


def main() -> None:
    """Print a table of seconds and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, help="an output folder, as that of the demo")
    parser.add_argument("--tries", type=int, default=5)
    asked = parser.parse_args()
    demo = str(shipped_study("demo"))
    cases = [
        (("--help",), _BARE), (("compare", "--help"), _BARE), (("train", demo, "--epochs", "3"), _BARE),
        (("train", "nowhere.yaml"), _BARE), (("train", demo, "--set", "training.epoch=3"), _BARE),
        (("compare", demo, "--set", "training.loss.name=gcee"), _BARE),
    ]  # fmt: skip
    if asked.study:
        place = str(asked.study.resolve())
        cases += [((name, "--study", place), _OPERATOR) for name in ("audit", "doctor", "status")]
    taucal = str(Path(sys.executable).with_name("taucal"))
    print("| command | s | over its imports |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for arguments, imports in cases:
            pair = [[taucal, *arguments], [sys.executable, "-c", imports]]
            own, bare = least_seconds(pair, Path(folder), asked.tries)
            shown = " ".join("CONFIG" if a == demo else "STUDY" if "/" in a else a for a in arguments)
            print(f"| `taucal {shown}` | {own:.2f} | {own / bare:.1f} |")
        pair = [
            [sys.executable, "-c", _ATLAS],
            [sys.executable, "-c", "import nibabel, numpy, scipy.ndimage"],
        ]
        own, bare = least_seconds(pair, Path(folder), asked.tries)
        print(f"| the atlas, built | {own:.2f} | {own / bare:.1f} |")


if __name__ == "__main__":
    main()
