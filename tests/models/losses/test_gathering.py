"""Two processes with a part of the batch each equal one process with all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.losses import build_loss
from models.losses.gathering import gather_batch

LOSSES = {
    "gce": ("gce", {}),
    "gce, half weight": ("gce", {"weight": 0.5}),
    "gce_logit_adjusted": ("gce_logit_adjusted", {}),
    "mmce": ("mmce", {}),
    "mdca": ("mdca", {}),
}
CUTS = [4, 3, 7]  # scans of the first rank, of 8 in all
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def whole():
    source = torch.Generator().manual_seed(0)
    return {
        "x": 2 * torch.randn(8, 5, dtype=torch.float64, generator=source),
        "y": torch.tensor([0, 0, 0, 1, 2, 1, 2, 0]),
        "network": {
            "weight": torch.randn(3, 5, dtype=torch.float64, generator=source),
            "bias": torch.zeros(3, dtype=torch.float64),
        },
        "losses": LOSSES,
        "cuts": CUTS,
    }


@pytest.fixture(scope="module")
def ranks(whole, tmp_path_factory):
    """What each of two ranks computed."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(whole, folder / "batch.pt")
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    call = [sys.executable, str(Path(__file__).with_name("one_rank.py"))]
    processes = [
        subprocess.Popen([*call, str(rank), str(folder)], env=surroundings, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, f"exit code {process.returncode}: {errors}"
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("key", LOSSES)
def test_value_and_averaged_gradient_equal_one_process(whole, ranks, key, cut):
    name, options = LOSSES[key]
    network = torch.nn.Linear(5, 3, dtype=torch.float64)
    network.load_state_dict(whole["network"])
    expected = build_loss(name, 3, [9, 6, 3], **options)(network(whole["x"]), whole["y"])
    expected.backward()
    for rank in ranks:
        value, gradient, _ = rank[key, cut]
        torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, network.weight.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ranks[0][key, cut][2], expected.detach(), rtol=1e-12, atol=1e-12)


def test_halves_averaged_apart_would_not_do(whole):
    """The test above means something: without gathering the gradient is another."""
    network = torch.nn.Linear(5, 3, dtype=torch.float64)
    network.load_state_dict(whole["network"])
    loss = build_loss("gce", 3)
    logits = network(whole["x"])
    together = torch.autograd.grad(loss(logits, whole["y"]), network.weight, retain_graph=True)[0]
    halves = (loss(logits[:4], whole["y"][:4]) + loss(logits[4:], whole["y"][4:])) / 2
    assert (torch.autograd.grad(halves, network.weight)[0] - together).abs().max() > 1e-3


def test_one_process_gathers_nothing(batch):
    logits, target = batch()
    assert gather_batch(logits, target) == (logits, target)
