"""The state of a training between two epochs, and its checkpoint."""

from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.losses import Loss, build_loss
from models.networks import Network, build_network
from pipeline.config import Study, TrainingSettings
from pipeline.errors import ConfigError
from pipeline.files import written_whole
from pipeline.learning.devices import memory_order, prepared
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.trained import Metrics

CHECKPOINT = "checkpoint.pt"
log = logging.getLogger(__name__)


@dataclass(eq=False)
class TrainingState:
    """The state of a training between two epochs.

    Parameters
    ----------
    step : nn.Module
        The same network as the training step calls it: in micro-batches, compiled, on several ranks.
    averaged : AveragedModel or None
        Exponential moving average of the weights, if the study sets ``ema_decay``.
    history : list of dict
        Metrics of the finished epochs.
    best : dict or None
        Weights of the epoch of least validation NLL after its best temperature, with early stopping.
    """

    network: Network
    step: nn.Module
    averaged: AveragedModel | None
    loss: Loss
    optimizer: Optimizer
    device: torch.device
    history: list[Metrics]
    best: dict[str, Tensor] | None = None
    best_epoch: int = 0

    @property
    def evaluated(self) -> Network:
        """The network that is validated and stored: the averaged one if there is one."""
        if self.averaged is None:
            return self.network
        averaged: Network = self.averaged.module  # type: ignore[assignment]
        return averaged

    def save(self, folder: Path, made_of: str) -> None:
        """Write the state atomically."""
        state = {
            "made_of": made_of,
            "network": self.network.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
        }
        with written_whole(folder / CHECKPOINT) as beside:
            torch.save(state, beside)

    def resume(self, folder: Path, made_of: str) -> None:
        """Read what `save` wrote, if it is of the same data and settings; else stay at the start."""
        path = folder / CHECKPOINT
        if not path.is_file():
            return
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
            log.warning("%s cannot be read; training starts from the beginning", path)
            return
        if state["made_of"] != made_of:
            log.warning("%s is of other data or settings; training starts from the beginning", path)
            return
        self.network.load_state_dict(state["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.best, self.best_epoch = state["history"], state["best"], state["best_epoch"]


def initial_state(training: LabelledVolumes, study: Study, device: torch.device) -> TrainingState:
    """Return the state before the first epoch; the study's seed decides the weights.

    Raises
    ------
    ConfigError
        If the network, the loss or an option is unknown, the loss does not return a mean, or `micro_batch` is
        set for a network with batch statistics.
    """
    settings, classes = study.training, len(training.class_names)
    torch.manual_seed(study.seed)
    try:
        network = build_network(
            study.network.name,
            classes,
            training.in_shape,
            study.network.spatial_dims,
            **study.network.options,
        )
    except ValueError as error:
        raise ConfigError(str(error), where="network") from error
    counts = training.class_counts
    try:
        loss = build_loss(settings.loss.name, classes, counts, **settings.loss.options)
    except ValueError as error:
        raise ConfigError(str(error), where="training.loss") from error
    if loss.reduction != "mean":
        raise ConfigError(
            f"The reduction is {loss.reduction!r}, but training needs the mean over the batch",
            where="training.loss.options.reduction",
            hint="Remove it",
        )
    if settings.micro_batch and network.batch_statistics:
        raise ConfigError(
            f"{study.network.name} has {len(network.batch_statistics)} layers with batch statistics, "
            "which would differ between micro-batches",
            where="training.micro_batch",
            hint="Remove micro_batch, or use a network without such layers, as small_cnn",
        )
    network.to(device)
    if device.type == "cuda":
        network.to(memory_format=memory_order(network.spatial_dims))  # type: ignore[call-overload]
    averaged = None
    if settings.ema_decay is not None:
        averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay))  # type: ignore[no-untyped-call]
    step = prepared(network, settings.micro_batch, device, compiled=settings.compile)
    return TrainingState(network, step, averaged, loss.to(device), _optimizer(network, settings), device, [])


def _optimizer(network: nn.Module, settings: TrainingSettings) -> Optimizer:
    # Biases and norms are not decayed: shrinking them does not regularise the function.
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        momentum = settings.momentum
        return SGD(groups, lr=settings.learning_rate, momentum=momentum, nesterov=momentum > 0)
    return AdamW(groups, lr=settings.learning_rate)
