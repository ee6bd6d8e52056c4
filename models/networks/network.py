"""A network with penultimate features, and how it is run over an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.arrays import Floats

Arrays = NDArray[np.floating[Any]] | NDArray[np.uint8]


class Network(nn.Module):
    """A body that makes features and a linear head that makes logits of them.

    Parameters
    ----------
    body : nn.Module
        Maps volumes ``(N, 1, X, Y, Z)`` or images ``(N, C, H, W)`` to features ``(N, F)``.
    head : nn.Module
        Maps features ``(N, F)`` to logits ``(N, K)``.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Return penultimate activations, shape (N, F), of volumes (N, 1, X, Y, Z) or images (N, C, H, W)."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (N, K), of volumes (N, 1, X, Y, Z) or images (N, C, H, W)."""
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
            raise ValueError(
                "Logits can be rescaled only in a network whose head ends in a linear layer with a bias."
            )
        with torch.no_grad():
            last[0].weight.mul_(scale.to(last[0].weight)[:, None])
            last[0].bias.mul_(scale.to(last[0].bias)).add_(offset.to(last[0].bias))

    @property
    def spatial_dims(self) -> int:
        """Number of axes the convolutions run along: 3 in a network of volumes, 2 in one of images."""
        return self._first_kernel.ndim - 2

    @property
    def channels(self) -> int:
        """Number of channels the network takes; 1 in a network of volumes."""
        return self._first_kernel.shape[1]

    @property
    def _first_kernel(self) -> Tensor:
        return next(p for p in self.body.parameters() if p.ndim > 3)

    @property
    def batch_statistics(self) -> tuple[str, ...]:
        """Names of layers whose output for one scan depends on the other scans of a training batch."""
        return tuple(n for n, m in self.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


@torch.no_grad()
def run(
    network: Network,
    volumes: Arrays,
    *,
    batch_size: int = 16,
    normalise: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Floats, NDArray[np.float32]]:
    """Run a network in evaluation mode, on the device its weights are on.

    Parameters
    ----------
    volumes : ndarray
        Preprocessed volumes, shape (N, X, Y, Z), or images, shape (N, C, H, W).
    batch_size : int
        Scans or images in memory at once.
    normalise : callable, optional
        `ImagePreprocessing.normalise` where images are still bytes: called batch by batch, on the device.

    Returns
    -------
    logits : ndarray of float64, shape (N, K)
    features : ndarray of float32, shape (N, F)

    Raises
    ------
    ValueError
        If type or shape of the array do not fit the network.
    """
    _check_input(network, volumes, normalised=normalise is not None or volumes.dtype != np.uint8)
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    logits, features = [], []
    for start in range(0, len(volumes), batch_size):
        block = torch.from_numpy(np.ascontiguousarray(volumes[start : start + batch_size])).to(device)
        block = block if normalise is None else normalise(block)
        block = block.float() if network.spatial_dims == 2 else block.float().unsqueeze(1)
        penultimate = network.features(block)
        logits.append(network.head(penultimate).double().cpu().numpy())
        features.append(penultimate.float().cpu().numpy())
    network.train(was_training)
    return np.concatenate(logits), np.concatenate(features)


def _check_input(network: Network, volumes: Arrays, *, normalised: bool) -> None:
    images = network.spatial_dims == 2
    expected = f"images (N, {network.channels}, H, W)" if images else "float volumes (N, X, Y, Z)"
    fits = volumes.ndim == 4 and (
        volumes.shape[1] == network.channels if images else volumes.dtype != np.uint8
    )
    if not fits:
        raise ValueError(
            f"The input is {volumes.dtype} of shape {volumes.shape}. "
            f"A network of {network.spatial_dims} dimensions takes {expected}."
        )
    if not normalised:
        raise ValueError(
            "The images are bytes (uint8). Normalise them first, or pass ImagePreprocessing.normalise."
        )
