"""What would stop a training once the cohort is read, refused before: losses, device, network, weights."""

from __future__ import annotations

from typing import Any

import torch

from models.networks import Network, build_network
from models.preprocessing import Preprocessing
from pipeline.config import NetworkSettings, Study
from pipeline.errors import ConfigError
from pipeline.learning.devices import choose_device
from pipeline.learning.given_weights import check_given
from pipeline.learning.training_state import check_batch_statistics, check_losses

Shape = tuple[int, ...]
_IMAGES: dict[str, Shape] = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "tiny_imagenet": (3, 64, 64)}
_STAND_IN: dict[int, Shape] = {2: (3, 28, 28), 3: (28, 28, 28)}
"""By dimensions: what a network is built for, but not run on, where the size is not known before the data."""
_LONGEST_REASON = 200


def check_learning(study: Study) -> None:
    """Refuse what would stop a training of a study, before a cohort is read or a scan is ingested.

    Raises
    ------
    ConfigError
        Naming the key, the value and its fix: if an option of the loss or of the network is wrong, the
        network cannot take volumes of the study's size or needs whole batches where the study has none, its
        weights are not there or not its own, or there is no GPU where the study asks for one.
    """
    check_losses([study.training.loss])
    choose_device(study.training.device)
    _check_network(study)


def check_comparison(study: Study, where: str = "compare.losses") -> None:
    """Refuse what would stop the trainings of a comparison, as `check_learning` does.

    Parameters
    ----------
    where : str
        The settings that hold the losses.

    Raises
    ------
    ConfigError
        As `check_learning`.
    """
    check_losses(study.compare.losses, where)
    cluster = study.dask.address is not None or study.dask.jobqueue is not None
    if not (cluster and study.compare.runner == "dask"):  # whose GPUs are not known here
        choose_device(study.training.device)
    _check_network(study)


def _check_network(study: Study) -> None:
    """Build the network, run two volumes through it, and compare its weights, all on torch's meta device.

    Tensors have shapes there and no values, so nothing is computed and no memory is taken.
    """
    try:
        network = _tried(study, study.network, _shape(study))
    except Exception as error:  # whatever MONAI and torch raise where a value is wrong
        if "meta tensor" in str(error):
            return  # a network that reads values while it runs cannot be tried so: training shows the rest
        raise _explained(study, error) from error
    check_batch_statistics(network, study)
    if study.network.weights is not None:
        check_given(network, study.network)


def _shape(study: Study, spacing_mm: float | None = None) -> Shape | None:
    """Return the shape of what the network sees, (X, Y, Z) or (C, H, W); None if the data alone know it."""
    if study.cohort.kind == "bids":
        settings = study.preprocessing
        return Preprocessing(spacing_mm or settings.spacing_mm, settings.suvr_max).in_shape
    side = study.cohort.image_size
    return (3, side, side) if side is not None else _IMAGES.get(study.cohort.kind)


def _tried(study: Study, settings: NetworkSettings, shape: Shape | None) -> Network:
    dims = settings.spatial_dims
    classes = max(2, len(study.cohort.classes))
    network = _on_meta(settings, classes, shape or _STAND_IN[dims])
    if shape is not None:
        # In training mode, as norms take fewer sizes there; two, the fewest scans of a step.
        channels = (1,) if dims == 3 else ()
        network.train()(torch.empty(2, *channels, *shape, device="meta"))
    return network


def _on_meta(settings: NetworkSettings, classes: int, shape: Shape) -> Network:
    def build() -> Network:
        return build_network(settings.name, classes, shape, settings.spatial_dims, **settings.options)

    try:
        with torch.device("meta"):
            return build()
    except RuntimeError as error:
        if "meta tensors" not in str(error):
            raise
        return build().to("meta")  # SwinUNETR reads numbers from tensors while it is built


def _explained(study: Study, error: Exception) -> ConfigError:
    settings, reason = study.network, " ".join(str(error).split()).rstrip(".")[:_LONGEST_REASON]
    wrong = _wrong_options(study)
    finer = [mm for mm in (4, 2) if mm < study.preprocessing.spacing_mm and _fits(study, spacing_mm=mm)]
    advice = f"set preprocessing.spacing_mm to {finer[0]}" if finer and study.cohort.kind == "bids" else ""
    if wrong:
        values = ", ".join(f"{name}: {settings.options[name]!r}" for name in wrong)
        where = f"network.options.{wrong[0]}" if len(wrong) == 1 else "network.options"
        problem = f"{settings.name} cannot be trained with {values}{_on(study)}: {reason}"
        hint = f"correct it or remove it, or {advice}" if advice else "correct it or remove it"
        return ConfigError(problem, where=where, hint=hint)
    problem = f"{settings.name} cannot be trained{_on(study)}: {reason}"
    other = "name another network, as small_cnn"
    return ConfigError(problem, where="network", hint=f"{advice}, or {other}" if advice else other)


def _on(study: Study) -> str:
    shape = _shape(study)
    if shape is None:
        return ""
    what = "volumes" if study.network.spatial_dims == 3 else "images"
    return f" on {what} of {' x '.join(map(str, shape))}"


def _wrong_options(study: Study) -> list[str]:
    """Return the options without any one of which the network works, or else all, if it works without all."""
    options = study.network.options
    alone = [name for name in options if _fits(study, {n: v for n, v in options.items() if n != name})]
    return alone or (list(options) if options and _fits(study, {}) else [])


def _fits(study: Study, options: dict[str, Any] | None = None, spacing_mm: float | None = None) -> bool:
    settings = study.network
    if options is not None:
        settings = settings.model_copy(update={"options": options})
    try:
        _tried(study, settings, _shape(study, spacing_mm))
    except Exception:  # noqa: BLE001 - as above
        return False
    return True
