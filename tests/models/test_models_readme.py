"""The README of `models` names every loss, calibrator and network, with options and defaults of the code."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

from models.calibrators import CALIBRATORS
from models.losses import LOSSES
from models.networks import IMAGE_NETWORKS, NETWORKS

README = (Path(__file__).parents[2] / "models" / "README.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line[:3] == "| `"
]
TABLE = {row[0].strip("`"): row for row in ROWS}


def stated(options: dict[str, object]) -> str:
    words = (f'"{v}"' if isinstance(v, str) else str(v) for v in options.values())
    text = ", ".join(f"{name}={value}" for name, value in zip(options, words, strict=True))
    return f"`{text}`" if text else ""


def test_every_loss_has_its_options_and_needs():
    for name, loss in LOSSES.items():
        options = {key: option.default for key, option in loss.options().items() if key != "reduction"}
        needs = [
            word for word, true in (("batch", loss.couples_batch), ("counts", loss.needs_counts)) if true
        ]
        assert TABLE[name][2:4] == [stated(options), ", ".join(needs)], name
        assert all(TABLE[name][column] for column in (1, 4, 5)), name


def test_every_calibrator_has_its_options():
    for name, calibrator in CALIBRATORS.items():
        options = {f.name: f.default for f in fields(calibrator) if f.init and f.default is not MISSING}
        assert TABLE[name][2] == stated(options), name


def test_nothing_else_is_in_the_tables():
    assert TABLE.keys() == LOSSES.keys() | CALIBRATORS.keys()
    assert len(ROWS) == len(TABLE)


def test_every_network_is_named():
    part = README.partition("## Networks")[2].partition("## ")[0]
    assert set(re.findall(r"`(\w+)`", part)) == NETWORKS.keys() | IMAGE_NETWORKS.keys()
