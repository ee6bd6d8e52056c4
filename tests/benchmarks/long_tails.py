"""Where generative cross-entropy helps on long tails, and what a prior correction does beside it.

    python tests/benchmarks/long_tails.py              # tables, and tests/benchmarks/figures/long_tails.png
    python tests/benchmarks/long_tails.py --medmnist breastmnist.npz adrenalmnist3d.npz --skip digits phantom

Data that everybody has: scikit-learn's digits (10 classes) and scans of the phantom's population read by ten
noisy regions (3 classes), and files of MedMNIST, cut to imbalance 10, 50 and 100. 20 seeds draw training
part, initial weights and batches, the same for every loss. All networks of a setting are trained at once, as
one batched network; that the losses are those of `models.losses` is checked first. Every batch size has the
same number of steps.

Balanced accuracy is that of a balanced test part. "Corrected" divides by the class shares of training, which
is what a test at equal shares asks for; logit adjustment (and balanced softmax, the same loss up to a
constant that cancels) does so in training.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent))

from long_tail_data import DIGITS, PHANTOM, SEEDS, Part, draw, medmnist

from models.losses import build_loss
from pipeline.reporting.page import charts

STEPS = 300
LEARNING_RATE = 3e-3
LOSSES = {"CE": (0.0, 0.0), "GCE, w = .5": (0.5, 0.0), "GCE, w = 1": (1.0, 0.0), "logit adjusted": (0.0, 1.0)}
"""Weight of the generative term, and of the logarithm of the class shares added to the logits."""
BATCHES = (32, 128, 0)
"""0 is the full batch."""
KINDS = ("perceptron", "convolution")
FIGURE = (("digits", "perceptron"), ("digits", "convolution"), ("phantom", "perceptron"))
"""What is drawn, at an imbalance of 100."""


class Networks(torch.nn.Module):
    """R small networks, each with its own weights: perceptrons, or convolutions over pictures or volumes."""

    def __init__(self, kind: str, shape: tuple[int, ...], classes: int, losses: int) -> None:
        super().__init__()
        self.kind, self.shape, self.runs = kind, shape, SEEDS * losses
        generator = torch.Generator().manual_seed(0)

        def weights(*sizes: int, fan: int) -> torch.nn.Parameter:
            drawn = torch.randn(SEEDS, *sizes, generator=generator) * (2 / fan) ** 0.5
            return torch.nn.Parameter(drawn.repeat(losses, *[1] * len(sizes)))

        hidden, inputs, kernel = 64, math.prod(shape), (3,) * len(shape)
        if kind == "perceptron":
            self.first = weights(inputs, hidden, fan=inputs)
        else:
            self.first = weights(8, 1, *kernel, fan=math.prod(kernel))
            self.second = weights(8, 8, *kernel, fan=8 * math.prod(kernel))
            hidden = 8 * math.prod((side + 1) // 2 for side in shape)
        self.bias = torch.nn.Parameter(torch.zeros(self.runs, 1, hidden))
        self.last = weights(hidden, classes, fan=2 * hidden)
        self.offset = torch.nn.Parameter(torch.zeros(self.runs, 1, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (R, B, K) of features (R, B, D)."""
        if self.kind == "perceptron":
            found = functional.relu(torch.bmm(x, self.first) + self.bias)
        else:
            runs = zip(x, self.first, self.second, strict=True)
            found = torch.stack([self._convolved(*run) for run in runs]) + self.bias
        return torch.bmm(found, self.last) + self.offset

    def _convolved(self, x: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        # Run by run: a large batch of all runs at once falls out of the processor's cache (2.3 times slower).
        convolve = functional.conv2d if len(self.shape) == 2 else functional.conv3d
        found = functional.relu(convolve(x.reshape(-1, 1, *self.shape), first, padding=1))
        return functional.relu(convolve(found, second, padding=1, stride=2)).flatten(1)


def losses_of(logits: torch.Tensor, y: torch.Tensor, generative: torch.Tensor) -> torch.Tensor:
    """Return the loss of each run (R,) of logits (R, B, K) and labels (R, B)."""
    log_p = functional.log_softmax(logits, dim=2)
    own = log_p.gather(2, y[:, :, None])[:, :, 0]
    log_mean = torch.logsumexp(log_p, dim=1) - np.log(y.shape[1])
    return (-own + generative[:, None] * log_mean.gather(1, y)).mean(dim=1)


def check_losses() -> None:
    """Compare with `models.losses` on one batch."""
    z, y = torch.randn(1, 12, 4), torch.arange(12).remainder(4)[None]
    counts = [40, 20, 10, 5]
    log_share = torch.log(torch.tensor(counts) / sum(counts))
    pairs = (
        (losses_of(z, y, torch.tensor([0.5])), build_loss("gce", 4, weight=0.5)),
        (losses_of(z, y, torch.tensor([1.0])), build_loss("gce", 4)),
        (losses_of(z + log_share, y, torch.tensor([0.0])), build_loss("logit_adjusted", 4, counts)),
        (losses_of(z + log_share, y, torch.tensor([0.0])), build_loss("balanced_softmax", 4, counts)),
    )
    for mine, loss in pairs:
        torch.testing.assert_close(mine[0], loss(z[0], y[0]))


def train(
    kind: str, shape: tuple[int, ...], part: Part, batch: int, device: torch.device | None = None
) -> torch.Tensor:
    """Return logits of the test scans (losses, S, N, K); draws are the same on every device."""
    number, classes = len(LOSSES), len(part.shares)
    networks = Networks(kind, shape, classes, number).to(device)
    part = Part(*(getattr(part, name.name).to(device) for name in fields(Part)))
    generative, adjusted = (
        torch.tensor([options[i] for options in LOSSES.values()], device=device).repeat_interleave(SEEDS)
        for i in (0, 1)
    )
    optimiser = torch.optim.Adam(networks.parameters(), lr=LEARNING_RATE)
    log_share = torch.log(part.shares)
    generator = torch.Generator().manual_seed(1)
    every, scans = torch.arange(SEEDS, device=device)[:, None], part.y.shape[1]
    for _ in range(STEPS):
        rows = torch.rand(SEEDS, scans, generator=generator).argsort(dim=1)[:, : batch or scans].to(device)
        x, y = part.x[every, rows].repeat(number, 1, 1), part.y[every, rows].repeat(number, 1)
        logits = networks(x) + adjusted[:, None, None] * log_share
        optimiser.zero_grad()
        losses_of(logits, y, generative).sum().backward()
        optimiser.step()
    with torch.no_grad():
        return networks(part.test_x.repeat(number, 1, 1)).unflatten(0, (number, SEEDS)).cpu()


def measures(logits: torch.Tensor, part: Part) -> dict[str, np.ndarray]:
    """Return measures by loss, per seed, in percent (NLL in nats)."""
    found = {}
    log_share = torch.log(part.shares)
    for name, z in zip(LOSSES, logits, strict=True):
        at_training = z + log_share if name == "logit adjusted" else z
        at_balance = at_training - log_share
        right = [(s.argmax(2) == part.test_y).float() for s in (z, at_balance, at_training)]
        weights = part.shares[part.test_y] * len(part.shares)
        nll = -functional.log_softmax(at_balance, 2).gather(2, part.test_y[:, :, None])[:, :, 0].mean(1)
        found[name] = np.stack(
            [
                100 * right[0].mean(1).numpy(),
                100 * right[1].mean(1).numpy(),
                100 * (right[2] * weights).mean(1).numpy(),
                nll.numpy(),
            ]
        )
    return found


TITLES = (
    "balanced accuracy",
    "balanced accuracy, corrected",
    "accuracy at training shares",
    "NLL, balanced, corrected",
)


def summary(found: dict[str, np.ndarray]) -> dict[str, str]:
    """Return each measure of CE, and the paired differences of the others to it, with standard errors."""
    return {
        title: "; ".join(f"{name} {cell}" for name, cell in zip(found, _cells(found, row), strict=True))
        for row, title in enumerate(TITLES)
    }


def _cells(found: dict[str, np.ndarray], row: int) -> list[str]:
    base, cells = found["CE"][row], []
    digits = 3 if TITLES[row].startswith("NLL") else 1
    for name, values in found.items():
        gap = values[row] - base
        error = gap.std(ddof=1) / SEEDS**0.5
        shown = f"{gap.mean():+.{digits}f} ± {error:.{digits}f}"
        cells.append(f"{base.mean():.{digits}f}" if name == "CE" else shown)
    return cells


def show(what: str, batch: str, found: dict[str, np.ndarray]) -> None:
    """Print the rows of one batch size."""
    for row, title in enumerate(TITLES):
        start = ["", ""] if row else [what, batch]
        print(f"| {' | '.join([*start, title, *_cells(found, row)])} |", flush=True)


def draw_figure(results: dict[tuple[str, str, float, int], dict[str, np.ndarray]], out: Path) -> None:
    """Draw the gain over cross-entropy by batch size, before and after the prior correction."""
    figure = Figure(figsize=(9.5, 5.4), layout="constrained")
    grid = figure.subplots(2, 3, sharex=True, sharey="row")
    colours = (charts.AMBER, charts.BLUE, charts.MUTED)
    for column, (data, kind) in enumerate(FIGURE):
        for row, title in enumerate(TITLES[:2]):
            axes = grid[row][column]
            for name, colour in zip(list(LOSSES)[1:], colours, strict=True):
                points = [
                    results[key][name][row] - results[key]["CE"][row]
                    for batch in BATCHES
                    if (key := (data, kind, 100.0, batch)) in results
                ]
                means = [p.mean() for p in points]
                errors = [1.96 * p.std(ddof=1) / SEEDS**0.5 for p in points]
                axes.errorbar(range(len(means)), means, errors, color=colour, marker="o", ms=3, label=name)
            axes.axhline(0, color="grey", lw=0.6)
            if row == 0:
                axes.set_title(f"{data}, {kind}", fontsize=9)
            if column == 0:
                axes.set_ylabel(f"{title}\nminus CE (points)", fontsize=8)
            axes.set_xticks(range(len(BATCHES)), ["32", "128", "full"])
        grid[1][column].set_xlabel("batch size")
    # Beside the axes: inside, it would cover points of some results.
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    figure.suptitle("Imbalance 100, 20 paired seeds, 95 % intervals", fontsize=10)
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out, dpi=120)


def main() -> None:
    """Print the tables and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imbalance", type=float, nargs="+", default=[100.0, 10.0, 50.0])
    parser.add_argument("--medmnist", type=Path, nargs="+", default=[], help="files with two classes")
    parser.add_argument("--skip", nargs="+", default=[], choices=["digits", "phantom"])
    parser.add_argument("--networks", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="0: the full batch")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    check_losses()
    sources = {"digits": DIGITS, "phantom": PHANTOM} | {file.stem: medmnist(file) for file in asked.medmnist}
    cells = [
        (data, kind)
        for kind in asked.networks
        for data, source in sources.items()
        if data not in asked.skip and not (kind == "convolution" and len(source.shape) == 1)
    ]
    results = {}
    print(f"| data, network, imbalance | batch | measure | {' | '.join(LOSSES)} |")
    print("|---|---|---|" + "---|" * len(LOSSES))
    for imbalance in asked.imbalance:
        for data, kind in cells:
            source = sources[data]
            part = draw(source, imbalance)
            for batch in asked.batches:
                start = time.process_time()
                logits = train(kind, source.shape, part, batch)
                print(f"{time.process_time() - start:.0f} s", file=sys.stderr)
                found = results[data, kind, imbalance, batch] = measures(logits, part)
                show(f"{data}, {kind}, {imbalance:g}", str(batch or f"full ({part.y.shape[1]})"), found)
        if imbalance == 100 and {(data, kind, 100.0, 0) for data, kind in FIGURE} <= results.keys():
            draw_figure(results, Path(__file__).parent / "figures" / "long_tails.png")


if __name__ == "__main__":
    main()
