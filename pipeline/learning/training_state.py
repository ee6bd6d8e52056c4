"""The state of a training between two epochs, and its checkpoint."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.losses import Loss, build_loss
from models.networks import Network, build_network
from pipeline.config import LossSettings, Study, TrainingSettings
from pipeline.errors import ConfigError
from pipeline.files import written_whole
from pipeline.learning.devices import keep_thin_volumes_exact, memory_order, prepared, ranks
from pipeline.learning.given_weights import load_given
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


def check_losses(losses: Sequence[LossSettings], where: str = "training.loss") -> None:
    """Refuse losses with an option whose value is wrong: before a cohort is read and anything is trained.

    Parameters
    ----------
    where : str
        The settings that hold the losses.

    Raises
    ------
    ConfigError
        Naming the value and what is expected.
    """
    for loss in losses:
        _loss(loss, 2, (1, 1), where)


def _loss(settings: LossSettings, classes: int, counts: Sequence[float], where: str) -> Loss:
    try:
        loss = build_loss(settings.name, classes, counts, **settings.options)
    except ValueError as error:
        raise ConfigError(str(error), where=where) from error
    if loss.reduction != "mean":
        raise ConfigError(
            f"The reduction is {loss.reduction!r}, but training needs the mean over the batch",
            where=f"{where}.options.reduction",
            hint="Remove it",
        )
    return loss


def initial_state(training: LabelledVolumes, study: Study, device: torch.device) -> TrainingState:
    """Return the state before the first epoch; the study's seed decides the weights.

    Raises
    ------
    ConfigError
        If the network, the loss or an option is unknown, the loss does not return a mean, or `micro_batch` is
        set, or several ranks train, a network with batch statistics.
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
    if study.network.weights is not None:
        load_given(network, study.network)
    loss = _loss(settings.loss, classes, training.class_counts, "training.loss")
    check_batch_statistics(network, study)
    network.to(device)
    if device.type == "cuda":
        network.to(memory_format=memory_order(network.spatial_dims))  # type: ignore[call-overload]
    elif settings.precision == "bfloat16":
        keep_thin_volumes_exact(network)
    averaged = None
    if settings.ema_decay is not None:
        averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay))  # type: ignore[no-untyped-call]
    step = prepared(network, settings.micro_batch, device, compiled=settings.compile)
    optimizer = _optimizer(network, settings, device)
    return TrainingState(network, step, averaged, loss.to(device), optimizer, device, [])


def check_batch_statistics(network: Network, study: Study) -> None:
    """Refuse a network whose batch statistics would be those of a part of the batch.

    Raises
    ------
    ConfigError
        If `micro_batch` is set, or several ranks train, a network with such layers.
    """
    found = len(network.batch_statistics)
    if study.training.micro_batch and found:
        raise ConfigError(
            f"{study.network.name} has {found} layers with batch statistics, "
            "which would differ between micro-batches",
            where="training.micro_batch",
            hint="Remove micro_batch, or use a network without such layers, as small_cnn or segresnet",
        )
    if ranks().number > 1 and found:
        raise ConfigError(
            f"{study.network.name} has {found} layers with batch statistics, "
            "which would differ between the processes that share a batch",
            where="network",
            hint="Train it in one process, or use a network without such layers, as small_cnn or segresnet",
        )


def _optimizer(network: nn.Module, settings: TrainingSettings, device: torch.device) -> Optimizer:
    # Biases and norms are not decayed: shrinking them does not regularise the function.
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    fused = device.type == "cuda" if settings.fused is None else settings.fused
    if settings.optimizer == "sgd":
        momentum = settings.momentum
        rate = settings.learning_rate
        return SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=fused)
    return AdamW(groups, lr=settings.learning_rate, fused=fused)
