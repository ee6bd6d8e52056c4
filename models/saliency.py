"""Which voxels a network's output depends on, and how that is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from models.networks import Network
from models.preprocessing import Preprocessing

_SIGMA_MM = 4.0


def saliency(
    network: Network, volume: NDArray[np.floating[Any]], class_index: int | None = None
) -> NDArray[np.float32]:
    """Return gradient times input of a class's log-probability, in absolute value.

    It shows what the network uses, not what is diseased.

    Parameters
    ----------
    volume : ndarray, shape (X, Y, Z)
        Preprocessed.
    class_index : int, optional
        The likeliest class where not given.

    Returns
    -------
    ndarray of float32, shape (X, Y, Z)

    References
    ----------
    Shrikumar et al., Learning Important Features Through Propagating Activation Differences, ICML 2017.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    x = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
    x = x.to(device).requires_grad_()
    scores = torch.log_softmax(network(x)[0], dim=0)
    chosen = int(scores.argmax()) if class_index is None else class_index
    (gradient,) = torch.autograd.grad(scores[chosen], x)
    network.train(was_training)
    shown: NDArray[np.float32] = (gradient * x).detach()[0, 0].abs().cpu().numpy()
    return shown


def to_picture(coarse: NDArray[np.float32], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return a saliency smoothed on the template grid, between 0 and 1 (the largest value)."""
    sigma = _SIGMA_MM / preprocessing.grid_spacing_mm
    smooth = ndimage.gaussian_filter(preprocessing.to_grid(coarse), sigma)
    return np.asarray(smooth / max(float(smooth.max()), np.finfo(np.float32).tiny), dtype=np.float32)
