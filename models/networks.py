"""3D classification networks by name, each with penultimate features."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.floating[Any]]


class Network(nn.Module):
    """A body that makes features and a linear head that makes logits of them.

    Parameters
    ----------
    body : nn.Module
        Maps ``(N, 1, X, Y, Z)`` to features ``(N, F)``.
    head : nn.Module
        Maps features ``(N, F)`` to logits ``(N, K)``.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Return penultimate activations, shape (N, F), of volumes, shape (N, 1, X, Y, Z)."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (N, K), of volumes, shape (N, 1, X, Y, Z)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def rescale_logits(self, scale: Tensor, offset: Tensor) -> None:
        """Make the logits of class k ``scale[k] * z_k + offset[k]``, by changing the last layer.

        Raises
        ------
        ValueError
            If the head does not end in a linear layer with a bias.
        """
        last = [m for m in self.head.modules() if isinstance(m, nn.Linear)][-1:]
        if not last or last[0].bias is None:
            raise ValueError("Logits can be rescaled only where the head ends in a linear layer with a bias")
        with torch.no_grad():
            last[0].weight.mul_(scale.to(last[0].weight)[:, None])
            last[0].bias.mul_(scale.to(last[0].bias)).add_(offset.to(last[0].bias))

    @property
    def batch_statistics(self) -> tuple[str, ...]:
        """Names of layers whose output for one scan depends on the other scans of a training batch."""
        return tuple(n for n, m in self.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


class PlaceWeightedPooling(nn.Module):
    """Average every channel over space with its own learned weight for each place.

    Scans lie in template space, so where something lights up is evidence; plain averaging would forget it.
    Starts as plain averaging.
    """

    def __init__(self, channels: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, *grid), 1.0 / math.prod(grid)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) of (N, C, *grid)."""
        return (x * self.weight).flatten(2).sum(2)


class MeanPooling(nn.Module):
    """Average every channel over space."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) of (N, C, *grid)."""
        return x.flatten(2).mean(2)


def _block(inputs: int, outputs: int, stride: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(groups, outputs),
        nn.ReLU(inplace=True),
    )


def _small_cnn(
    num_classes: int,
    in_shape: tuple[int, ...],
    *,
    width: int = 12,
    dropout: float = 0.2,
    pooling: str = "place",
) -> Network:
    """Five convolutions with group normalisation, learnt pooling and dropout; deterministic on CUDA too."""
    if pooling not in ("place", "mean"):
        raise ValueError(f"pooling must be 'place' or 'mean', got {pooling!r} in small_cnn")
    plan = [(1, width, 2), (width, 2 * width, 2), (2 * width, 2 * width, 1)]
    plan += [(2 * width, 4 * width, 2), (4 * width, 4 * width, 1)]
    grid = tuple(math.ceil(size / 8) for size in in_shape)
    channels = 4 * width
    pool = PlaceWeightedPooling(channels, grid) if pooling == "place" else MeanPooling()
    body = nn.Sequential(*[_block(i, o, s, groups=4) for i, o, s in plan], pool)
    return Network(body, nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes)))


def _from_monai(name: str) -> Any:
    """Return a network of MONAI, which takes seconds to import and which the small network does without."""
    from monai.networks import nets

    return getattr(nets, name)


def _densenet(name: str) -> Callable[..., Network]:
    def build(num_classes: int, in_shape: tuple[int, ...], **options: Any) -> Network:
        net: Any = _from_monai(name)(
            spatial_dims=len(in_shape), in_channels=1, out_channels=num_classes, **options
        )
        head = net.class_layers.out
        net.class_layers.out = nn.Identity()
        return Network(net, head)

    return build


def _resnet(name: str) -> Callable[..., Network]:
    def build(num_classes: int, in_shape: tuple[int, ...], **options: Any) -> Network:
        net: Any = _from_monai(name)(
            spatial_dims=len(in_shape), n_input_channels=1, num_classes=num_classes, **options
        )
        head, net.fc = net.fc, nn.Identity()
        return Network(net, head)

    return build


def _seresnet(num_classes: int, in_shape: tuple[int, ...], **options: Any) -> Network:
    net: Any = _from_monai("SEResNet50")(
        spatial_dims=len(in_shape), in_channels=1, num_classes=num_classes, **options
    )
    head, net.last_linear = net.last_linear, nn.Identity()
    return Network(net, head)


def _efficientnet(num_classes: int, in_shape: tuple[int, ...], **options: Any) -> Network:
    options = {"pretrained": False, **options}
    net: Any = _from_monai("EfficientNetBN")(
        "efficientnet-b0", spatial_dims=len(in_shape), in_channels=1, num_classes=num_classes, **options
    )
    head, net._fc = net._fc, nn.Identity()
    return Network(net, head)


NETWORKS: dict[str, Callable[..., Network]] = {
    "small_cnn": _small_cnn,
    "densenet121": _densenet("DenseNet121"),
    "densenet169": _densenet("DenseNet169"),
    "resnet10": _resnet("resnet10"),
    "resnet18": _resnet("resnet18"),
    "resnet50": _resnet("resnet50"),
    "seresnet50": _seresnet,
    "efficientnet_b0": _efficientnet,
}


def build_network(name: str, num_classes: int, in_shape: tuple[int, ...], **options: Any) -> Network:
    """Build a freshly initialised network; ``torch.manual_seed`` decides the weights.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`.
    num_classes : int
        K, at least 2.
    in_shape : tuple of int
        Voxels along each axis of one volume.
    **options
        Passed to the network; MONAI's networks take ``norm="instance"`` and the like where they do.

    Returns
    -------
    Network
        ``forward``: (N, 1, X, Y, Z) to logits (N, K); ``features``: to (N, F).

    Raises
    ------
    ValueError
        If the name or an option is unknown, or there are fewer than two classes.

    Examples
    --------
    >>> network = build_network("small_cnn", 3, (24, 28, 24), width=4)
    >>> network(torch.zeros(2, 1, 24, 28, 24)).shape
    torch.Size([2, 3])
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "it is spelt otherwise"
        raise ValueError(f"A network must be one of {', '.join(NETWORKS)}, got {name!r}: {hint}")
    if num_classes < 2:
        raise ValueError(f"A network must tell at least 2 classes apart, got {num_classes} in {name}")
    try:
        return NETWORKS[name](num_classes, tuple(in_shape), **options)
    except TypeError as error:
        raise ValueError(f"The options of {name} must be ones it takes, got {options}: {error}") from error


@torch.no_grad()
def run(
    network: Network, volumes: Floats, *, batch_size: int = 16
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Run a network in evaluation mode, on the device its weights are on.

    Parameters
    ----------
    network : Network
    volumes : ndarray, shape (N, X, Y, Z)
        Preprocessed volumes.
    batch_size : int
        Scans in memory at once.

    Returns
    -------
    logits : ndarray of float64, shape (N, K)
    features : ndarray of float32, shape (N, F)
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    logits, features = [], []
    for start in range(0, len(volumes), batch_size):
        block = np.ascontiguousarray(volumes[start : start + batch_size], dtype=np.float32)
        penultimate = network.features(torch.from_numpy(block).unsqueeze(1).to(device))
        logits.append(network.head(penultimate).double().cpu().numpy())
        features.append(penultimate.float().cpu().numpy())
    network.train(was_training)
    return np.concatenate(logits), np.concatenate(features)
