"""Classification networks of volumes and of images by name, each with penultimate features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.names import nearest
from models.networks.from_monai import (
    densenet,
    efficientnet,
    resnet,
    segresnet_encoder,
    seresnet,
    small_image_resnet,
    swin_encoder,
)
from models.networks.network import Network, run
from models.networks.resnet32 import resnet32
from models.networks.small_cnn import MeanPooling, PlaceWeightedPooling, small_cnn

__all__ = [
    "IMAGE_NETWORKS",
    "NETWORKS",
    "MeanPooling",
    "Network",
    "PlaceWeightedPooling",
    "build_network",
    "run",
]

NETWORKS: dict[str, Callable[..., Network]] = {
    "small_cnn": small_cnn,
    "densenet121": densenet("DenseNet121"),
    "densenet169": densenet("DenseNet169"),
    "resnet10": resnet("resnet10"),
    "resnet18": resnet("resnet18"),
    "resnet50": resnet("resnet50"),
    "seresnet50": seresnet,
    "efficientnet_b0": efficientnet,
    "segresnet": segresnet_encoder,
    "swinunetr": swin_encoder,
}
"""Networks of volumes."""

IMAGE_NETWORKS: dict[str, Callable[..., Network]] = {
    "small_cnn": small_cnn,
    "resnet18": small_image_resnet("resnet18"),
    "resnet32": resnet32,
    "resnet50": small_image_resnet("resnet50"),
}
"""Networks of images of 28 to 64 pixels."""


def build_network(
    name: str, num_classes: int, in_shape: tuple[int, ...], spatial_dims: int = 3, **options: Any
) -> Network:
    """Build a freshly initialised network; ``torch.manual_seed`` decides the weights.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`, of `IMAGE_NETWORKS` for images.
    num_classes : int
        K, at least 2.
    in_shape : tuple of int
        Voxels along each axis of one volume; channels, height and width of one image.
    spatial_dims : {3, 2}
        3 for volumes, 2 for images.
    **options
        Passed to the network; MONAI's networks take ``norm="instance"`` and the like where they do.

    Returns
    -------
    Network
        ``forward``: (N, 1, X, Y, Z) or (N, C, H, W) to logits (N, K); ``features``: to (N, F).

    Raises
    ------
    ValueError
        If the name or an option is unknown, the network does not exist for these dimensions, the shape does
        not have three numbers, or there are fewer than two classes.

    Examples
    --------
    >>> import torch
    >>> network = build_network("small_cnn", 3, (24, 28, 24), width=4)
    >>> network(torch.zeros(2, 1, 24, 28, 24)).shape
    torch.Size([2, 3])
    >>> network = build_network("resnet32", 10, (3, 32, 32), spatial_dims=2)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    known = _known(name, spatial_dims)
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes} for {name}. A network needs at least 2 classes.")
    shape = tuple(in_shape)
    if len(shape) != 3:
        axes = "(C, H, W)" if spatial_dims == 2 else "(X, Y, Z)"
        raise ValueError(f"in_shape is {shape} for {name}. Expected {axes}.")
    channels, grid = (shape[0], shape[1:]) if spatial_dims == 2 else (1, shape)
    try:
        return known[name](num_classes, channels, grid, **options)
    except TypeError as error:
        raise ValueError(f"{name} does not accept the options {options}: {error}.") from error


def _known(name: str, spatial_dims: int) -> dict[str, Callable[..., Network]]:
    tables = {2: IMAGE_NETWORKS, 3: NETWORKS}
    if spatial_dims not in tables:
        raise ValueError(f"spatial_dims is {spatial_dims}. Expected 2 for images or 3 for volumes.")
    known, data = tables[spatial_dims], "images" if spatial_dims == 2 else "volumes"
    if name in tables[5 - spatial_dims] and name not in known:
        raise ValueError(f"Network {name!r} does not take {data}. For {data} there are {', '.join(known)}.")
    if name not in known:
        raise ValueError(f"No network of {data} is named {name!r}. {nearest(name, known)}")
    return known
