"""Saliency: gradient times input of a class's log-probability."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from models.networks import Network, build_network
from models.saliency import saliency


def linear(weights: torch.Tensor) -> Network:
    """A network whose logits are sums of weighted voxels, shape (K, X, Y, Z)."""
    head = nn.Linear(weights[0].numel(), len(weights), bias=False)
    head.weight.data = weights.flatten(1)
    return Network(nn.Flatten(), head)


def test_it_is_gradient_times_input_of_the_log_probability(rng):
    weights = torch.from_numpy(rng.normal(size=(3, 2, 3, 2))).float()
    volume = rng.uniform(size=(2, 3, 2)).astype(np.float32)
    p = linear(weights)(torch.from_numpy(volume)[None, None]).softmax(1)[0].detach()
    expected = ((weights[1] - (p[:, None, None, None] * weights).sum(0)) * torch.from_numpy(volume)).abs()
    np.testing.assert_allclose(saliency(linear(weights), volume, 1), expected, rtol=1e-4, atol=1e-6)


def test_the_likeliest_class_is_shown_where_none_is_given(rng):
    network = build_network("small_cnn", 3, (16, 16, 16), width=4).train()
    volume = rng.uniform(size=(16, 16, 16))
    with torch.no_grad():
        x = torch.from_numpy(volume).float()[None, None]
        top = int(network.eval()(x).argmax())
    network.train()
    np.testing.assert_array_equal(saliency(network, volume), saliency(network, volume, top))
    assert network.training


def test_a_voxel_without_uptake_or_weight_is_dark():
    weights = torch.zeros(2, 2, 1, 1)
    weights[0] = 1.0
    shown = saliency(linear(weights), np.array([[[0.5]], [[0.0]]]), 0)
    assert shown[0, 0, 0] > 0 == shown[1, 0, 0]
