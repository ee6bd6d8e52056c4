"""How fast the training loop is, as ratios within one run: `python tests/benchmarks/training.py`.

Epochs of the rivals alternate, and medians are compared, so that a busy machine slows all alike. For a GPU
see ``gpu.py``. Goals: an epoch with GCE over one with CE at most 1.02; our loop over the bare one at most
1.03.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from models.losses import build_loss
from models.networks import build_network, run
from models.preprocessing import Preprocessing
from pipeline.config import AugmentationSettings, Study
from pipeline.learning.batches import Batches
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.training import _train_epoch
from pipeline.learning.training_state import TrainingState, initial_state
from pipeline.learning.transforms import build_augmentation

PARTS = ("reading and augmentation", "forward", "loss", "backward", "clipping, optimiser")


def make_volumes(scans: int, spacing_mm: int) -> LabelledVolumes:
    preprocessing = Preprocessing(spacing_mm, 4.0)
    rng = np.random.default_rng(0)
    voxels = rng.random((scans, *preprocessing.in_shape), dtype=np.float32)
    ids = tuple(f"{n:04d}" for n in range(scans))
    return LabelledVolumes(
        ids, ids, voxels, np.arange(scans) % 3, ("CN", "MCI", "AD"), preprocessing, "noise"
    )


def make_study(network: str, **training: object) -> Study:
    return Study.model_validate(
        {
            "name": "speed",
            "output": tempfile.gettempdir(),
            "cohort": {"path": "."},
            "network": {"name": network},
            "training": training,
        }
    )


def ours(volumes: LabelledVolumes, study: Study, device: torch.device) -> Callable[[], None]:
    state: TrainingState = initial_state(volumes, study, device)
    settings = study.training
    batches = Batches(
        volumes,
        study.augmentation,
        settings.batch_size,
        settings.sampling,
        study.seed,
        workers=1 if device.type == "cpu" else 8,
        device=device,
    )

    def epoch() -> None:
        metrics = _train_epoch(state, batches, settings)
        state.history.append(metrics | {"validation_nll": 0.0})
        if len(state.history) == settings.epochs:
            state.history.clear()

    return epoch


def bare(volumes: LabelledVolumes, study: Study, device: torch.device) -> Callable[[], None]:
    """Return an epoch as a tutorial would write it: MONAI transforms, a loader with one worker, AdamW."""
    torch.manual_seed(0)
    network = build_network(study.network.name, 3, volumes.in_shape).to(device)
    loss = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(network.parameters())
    augmentation = build_augmentation(AugmentationSettings(), volumes.preprocessing)

    class Scans(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(volumes)

        def __getitem__(self, n: int) -> tuple[torch.Tensor, int]:
            return augmentation(torch.from_numpy(volumes.volumes[n][None])), int(volumes.labels[n])

    loader = torch.utils.data.DataLoader(
        Scans(), study.training.batch_size, shuffle=True, num_workers=1, persistent_workers=True
    )

    def epoch() -> None:
        network.train()
        for x, y in loader:
            optimizer.zero_grad()
            value = loss(network(x.to(device)), y.to(device))
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            value.item()

    return epoch


def seconds(rivals: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Time epochs of the rivals in turn, after one of each to warm up."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for repeat in range(repeats + 1):
        for name, epoch in rivals.items():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            start = time.perf_counter()
            epoch()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return times


def tell(times: dict[str, list[float]], reference: str, scans: int) -> None:
    base = times[reference]
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, base, strict=True))
        rate = scans / statistics.median(values)
        print(f"{name:28} {rate:8.1f} scans/s   {ratio:.3f} x {reference}   n={len(values)}")


def on_cpu(asked: argparse.Namespace) -> None:
    device, scans, repeats = torch.device("cpu"), asked.scans, asked.repeats
    volumes = make_volumes(scans, asked.spacing)
    settings = {"device": "cpu", "batch_size": asked.batch}
    ce, gce = (make_study(asked.network, loss={"name": n}, **settings) for n in ("ce", "gce"))
    rivals = {
        "bare loop, ce": bare(volumes, ce, device),
        "ours, ce": ours(volumes, ce, device),
        "ours, gce": ours(volumes, gce, device),
    }
    times = seconds(rivals, repeats)
    tell(times, "bare loop, ce", scans)
    tell({k: v for k, v in times.items() if k.startswith("ours")}, "ours, ce", scans)


def profile(asked: argparse.Namespace) -> None:
    """Print where the time of a step goes: processor seconds of each part, the least of some repeats."""
    volumes = make_volumes(asked.batch, asked.spacing)
    study = make_study(asked.network, loss={"name": "gce"}, device="cpu", batch_size=asked.batch)
    state = initial_state(volumes, study, torch.device("cpu"))
    batches = Batches(volumes, study.augmentation, asked.batch, "natural", study.seed)
    parts: dict[str, list[float]] = {}
    for epoch in range(asked.repeats + 1):
        at = [time.process_time()]
        (batch,) = batches.epoch(epoch)
        at.append(time.process_time())
        logits = state.step(batch.volumes)
        at.append(time.process_time())
        loss = state.loss(logits, batch.labels)
        at.append(time.process_time())
        loss.backward()
        at.append(time.process_time())
        nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        at.append(time.process_time())
        for name, spent in zip(PARTS, np.diff(at), strict=True):
            parts.setdefault(name, []).append(float(spent))
    least = {name: min(values[1:]) for name, values in parts.items()}
    for name, spent in least.items():
        print(f"{name:28} {spent:8.3f} s   {spent / sum(least.values()):6.1%}")


def loss_alone(repeats: int) -> None:
    """Tell what GCE costs beside CE without the network: the part of an epoch that differs."""
    logits, y = torch.randn(16, 3, requires_grad=True), torch.arange(16) % 3
    for name in ("ce", "gce"):
        loss = build_loss(name, 3)
        start = time.perf_counter()
        for _ in range(100 * repeats):
            loss(logits, y).backward()
        print(f"{name:28} {1e6 * (time.perf_counter() - start) / (100 * repeats):8.1f} us a step of 16 x 3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scans", type=int, default=64)
    parser.add_argument("--network", default="small_cnn")
    parser.add_argument("--spacing", type=int, default=4, help="mm")
    parser.add_argument("--batch", type=int, default=16)
    asked = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, CUDA {torch.cuda.is_available()}")
    volumes = make_volumes(asked.scans, asked.spacing)
    network = build_network(asked.network, 3, volumes.in_shape)
    start = time.perf_counter()
    run(network, volumes.volumes, batch_size=asked.batch)
    print(f"{'prediction':28} {asked.scans / (time.perf_counter() - start):8.1f} scans/s")
    loss_alone(asked.repeats)
    profile(asked)
    on_cpu(asked)


if __name__ == "__main__":
    main()
