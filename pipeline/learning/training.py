"""The training loop for volumes and images: all there is between loss and gradient.

Killed at any point and started again, it ends with the same weights, byte for byte on the CPU with the same
number of threads: every random number of an epoch follows from (seed, epoch), the state at its end is written
atomically, and nothing else passes from one epoch to the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import Ints
from models.calibrators.temperature import best_log_temperature
from models.networks import Network, run
from pipeline.config import Study, TrainingSettings
from pipeline.errors import TrainingError
from pipeline.files import fingerprint, read_json
from pipeline.learning.batches import Batch, Batches
from pipeline.learning.devices import (
    arithmetic,
    batch_threads,
    choose_device,
    memory_named,
    mixed_precision,
    ranks,
    to_device,
)
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.prior_correction import PriorCorrection
from pipeline.learning.rank_group import (
    check_same_epoch,
    from_rank_zero,
    mean_over_ranks,
    shared_with_ranks,
)
from pipeline.learning.trained import RECORD, Metrics, TrainedNetwork
from pipeline.learning.training_checks import check_classes, check_dimensions, check_ranks
from pipeline.learning.training_state import CHECKPOINT, TrainingState, initial_state
from pipeline.scan import Split

# Raised whenever a change of code changes the weights: files of an older program are then not used.
_REVISION = 3
# The epoch with the least of it is used where there is early stopping: the validation NLL after the best
# temperature of these scans (Berta et al. 2025: calibration and refinement are best in different epochs).
_JUDGED_BY = "validation_nll_at_best_temperature"

Progress = Callable[[int, int, Metrics], None]


def train(
    volumes: LabelledVolumes,
    split: Split,
    study: Study,
    folder: Path,
    progress: Progress | None = None,
) -> TrainedNetwork:
    """Train a network, resuming where an earlier call in `folder` was stopped.

    Parameters
    ----------
    volumes : LabelledVolumes
        At least the scans of the training and the validation part.
    study : Study
        Its seed, augmentation, network and training sections apply.
    folder : Path
        Contains ``checkpoint.pt`` during training, ``network.safetensors`` and ``training.json`` afterwards.
        Files of other data or settings are not used.
    progress : callable, optional
        Called after each epoch with its number (from 1), the number of epochs, and the epoch's metrics.

    Returns
    -------
    TrainedNetwork
        Weights of the last epoch; with ``training.patience``, of the epoch of least validation NLL after the
        best temperature for the validation scans.

    Raises
    ------
    TrainingError
        If loss or gradient are not finite (it names the scans), a rank is lost, or the memory is too small.
    ConfigError
        If the network, the loss or an option is unknown, the network or the augmentation does not fit the
        data, `micro_batch` is set for a network with batch statistics, or `deterministic` for a layer that is
        not.
    CohortError
        If the training part has no scan of a class.
    """
    made_of = _made_of(volumes, split, study)
    if (folder / RECORD).is_file() and read_json(folder / RECORD).get("made_of") == made_of:
        return TrainedNetwork.load(folder)
    numbers = arithmetic(tf32=study.training.tf32, deterministic=study.training.deterministic)
    with shared_with_ranks((volumes, split, study, folder)), numbers, memory_named(study.training):
        return _train(volumes, split, study, folder, made_of, progress)


def _train(
    volumes: LabelledVolumes,
    split: Split,
    study: Study,
    folder: Path,
    made_of: str,
    progress: Progress | None,
) -> TrainedNetwork:
    training, validation = volumes.subset(split.train), volumes.subset(split.validation)
    check_classes(training)
    check_dimensions(training, study)
    settings, process = study.training, ranks()
    device = choose_device(settings.device)
    batches = _batches(training, study, device)
    check_ranks(batches, settings)
    state = initial_state(training, study, device)
    prior_correction = PriorCorrection.of(state.loss, training.class_counts, settings.sampling)
    state.resume(folder, made_of)
    check_same_epoch(len(state.history))
    while len(state.history) < settings.epochs and not _is_over(state, settings):
        started = time.perf_counter()
        metrics = _train_epoch(state, batches, settings)
        metrics |= _validate(state, validation, prior_correction, settings)
        state.history.append(metrics | {"seconds": time.perf_counter() - started})
        if process.rank == 0:
            state.save(folder, made_of)
            if progress is not None:
                progress(len(state.history), settings.epochs, state.history[-1])
    trained = _finish(state, training, prior_correction, study, made_of)
    if process.rank == 0:
        trained.save(folder)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return trained


def _batches(training: LabelledVolumes, study: Study, device: torch.device) -> Batches:
    """Return the batches of this rank."""
    settings, process = study.training, ranks()
    return Batches(
        training,
        study.augmentation,
        settings.batch_size,
        settings.sampling,
        study.seed,
        rank=process.rank,
        ranks=process.number,
        workers=batch_threads(device),
        device=device,
    )


def learning_rate_at(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up to the peak, then half a cosine towards zero.

    Examples
    --------
    >>> [round(learning_rate_at(s, steps=10, warmup=2, peak=1.0), 2) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _made_of(volumes: LabelledVolumes, split: Split, study: Study) -> str:
    sections = study.model_dump(mode="json", include={"seed", "augmentation", "training"})
    sections["network"] = study.network.learned()
    for unrelated_to_weights in ("device", "compile", "fused", "deterministic"):
        sections["training"].pop(unrelated_to_weights, None)
    sections["training"]["loss"].pop("label")
    return fingerprint(_REVISION, volumes.content, split.train, split.validation, sections)


def _is_over(state: TrainingState, settings: TrainingSettings) -> bool:
    waited = len(state.history) - 1 - state.best_epoch
    return settings.patience is not None and bool(state.history) and waited >= settings.patience


def _train_epoch(state: TrainingState, batches: Batches, settings: TrainingSettings) -> Metrics:
    epoch, steps = len(state.history), len(batches)
    # Of dropout; each rank drops its own features.
    drawn_by = (batches.seed, epoch, *[batches.rank] * (batches.rank > 0))
    torch.manual_seed(int(np.random.SeedSequence(drawn_by).generate_state(1)[0]))
    state.step.train()
    state.loss.train()
    state.loss.start_epoch(epoch, settings.epochs)
    values, rate = [], 0.0
    for number, batch in enumerate(batches.epoch(epoch)):
        rate = learning_rate_at(
            epoch * steps + number,
            settings.epochs * steps,
            settings.warmup_epochs * steps,
            settings.learning_rate,
        )
        value, norm = _step(state, batch, rate, settings)
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise _not_finite(value, norm, [batches.volumes.scan_ids[row] for row in batch.rows], epoch)
        values.append(value)
    return {"epoch": epoch, "learning_rate": rate, "loss": float(np.mean(values))}


def _step(state: TrainingState, batch: Batch, rate: float, settings: TrainingSettings) -> tuple[float, float]:
    """Take one optimiser step if loss and gradient are finite; return both, the gradient as its norm."""
    state.optimizer.zero_grad(set_to_none=True)
    with mixed_precision(state.device, settings.precision):
        logits = state.step(to_device(batch.volumes, state.device))
    loss: Tensor = state.loss(logits.float(), batch.labels.to(state.device, non_blocking=True))
    if batch.weight != 1 and not state.loss.couples_batch:
        loss = loss * batch.weight  # ranks may have different numbers of scans, and gradients are averaged
    loss.backward()  # type: ignore[no-untyped-call]
    limit = math.inf if settings.gradient_clip is None else settings.gradient_clip
    norm = float(nn.utils.clip_grad_norm_(state.network.parameters(), limit))
    value = mean_over_ranks(loss)
    if math.isfinite(value) and math.isfinite(norm):
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        if state.averaged is not None:
            state.averaged.update_parameters(state.network)
    return value, norm


def _not_finite(value: float, norm: float, scan_ids: Sequence[str], epoch: int) -> TrainingError:
    return TrainingError(
        f"The loss is {value} and the gradient norm {norm} in epoch {epoch + 1}",
        where=f"batch of {', '.join(scan_ids)}",
        hint="Check these scans, lower training.learning_rate or set training.gradient_clip. "
        "The next run resumes after the last finished epoch",
    )


def _validate(
    state: TrainingState,
    validation: LabelledVolumes,
    prior_correction: PriorCorrection,
    settings: TrainingSettings,
) -> Metrics:
    # Or one rank may stop early where another goes on, and wait for it for ever.
    logits = from_rank_zero(_logits(state.evaluated, validation, settings.batch_size))
    labels = torch.from_numpy(validation.labels)
    state.loss.eval()
    state.loss.end_epoch(logits.to(state.device), labels.to(state.device))
    logits = prior_correction.apply(logits)
    nll = float(nn.functional.cross_entropy(logits, labels))
    # Calibration follows training, so an epoch is judged by what it will be worth afterwards.
    scores = logits.double().numpy()
    temperature = math.exp(best_log_temperature(scores, validation.labels))
    tempered = float(nn.functional.cross_entropy(logits / temperature, labels))
    least = min((past[_JUDGED_BY] for past in state.history), default=math.inf)
    if settings.patience is not None and tempered < least:
        state.best = {name: w.detach().clone() for name, w in state.evaluated.state_dict().items()}
        state.best_epoch = len(state.history)
    recall = _balanced_accuracy(logits.argmax(1).numpy(), validation.labels)
    return {"validation_nll": nll, _JUDGED_BY: tempered, "validation_balanced_accuracy": recall}


def _logits(network: Network, volumes: LabelledVolumes, batch_size: int) -> Tensor:
    normalise, stored = volumes.preprocessing.normalise, cast(Any, volumes.volumes)
    return torch.from_numpy(run(network, stored, batch_size=batch_size, normalise=normalise)[0])


def _balanced_accuracy(predicted: Ints, labels: Ints) -> float:
    return float(np.mean([(predicted[labels == k] == k).mean() for k in np.unique(labels)]))


def _finish(
    state: TrainingState,
    training: LabelledVolumes,
    prior_correction: PriorCorrection,
    study: Study,
    made_of: str,
) -> TrainedNetwork:
    network = state.evaluated
    if state.best is not None:
        network.load_state_dict(state.best)
    network.rescale_logits(prior_correction.scale, prior_correction.offset)
    return TrainedNetwork(
        network.cpu().eval(),
        study.network.name,
        study.network.options,
        training.preprocessing,
        training.class_names,
        training.class_counts,
        study.training.sampling,
        prior_correction,
        state.best_epoch if state.best is not None else len(state.history) - 1,
        tuple(state.history),
        made_of,
    )
