"""The folders of losses and calibrators work in another project: each imports nothing else of this one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "models"

LOSSES = """
import sys, torch
from my_losses import LOSSES, build_loss

logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
target = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
for name in LOSSES:
    step = torch.optim.SGD([logits], lr=0.1)
    step.zero_grad()
    loss = build_loss(name, 3, [3, 3, 2])
    before = loss(logits, target)
    before.backward()
    step.step()
    assert logits.isfinite().all() and logits.grad.abs().sum() > 0, name
try:
    build_loss("focall", 3)
except ValueError as error:
    assert "Did you mean 'focal'?" in str(error)
"""
CALIBRATORS = """
import json, sys
import numpy as np
from my_calibrators import CALIBRATORS, Calibrator, build_calibrator

source = np.random.default_rng(0)
labels = source.integers(0, 3, 200)
logits = 2 * np.eye(3)[labels] + source.normal(size=(200, 3))
for name in CALIBRATORS:
    calibrator = build_calibrator(name).fit(logits, labels)
    probabilities = calibrator.transform(logits)
    assert np.allclose(probabilities.sum(axis=1), 1), name
    again = Calibrator.from_dict(json.loads(json.dumps(calibrator.to_dict())))
    assert np.array_equal(again.transform(logits), probabilities), name
"""
NOTHING_ELSE = """
assert not {name.partition(".")[0] for name in sys.modules} & {"models", "pipeline", "flows"}
print("fine")
"""


@pytest.mark.parametrize(("folder", "script"), [("losses", LOSSES), ("calibrators", CALIBRATORS)])
def test_a_copied_folder_works_alone(tmp_path, folder, script):
    shutil.copytree(MODELS / folder, tmp_path / f"my_{folder}")
    (tmp_path / "use.py").write_text(script + NOTHING_ELSE)
    call = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import use"]
    ran = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.stdout == "fine\n", ran.stderr
