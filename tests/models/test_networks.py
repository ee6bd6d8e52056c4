"""Every network makes logits of features, and the pieces of the small one do what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.networks import NETWORKS, MeanPooling, PlaceWeightedPooling, build_network, run

SHAPE = (32, 32, 32)


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_the_head_of_the_features(name):
    network = build_network(name, 3, SHAPE).eval()
    x = torch.rand(2, 1, *SHAPE)
    with torch.no_grad():
        features = network.features(x)
        logits = network(x)
    assert features.ndim == 2
    assert logits.shape == (2, 3)
    torch.testing.assert_close(network.head(features), logits)


@pytest.mark.parametrize("name", ["densenet121", "resnet10", "seresnet50", "efficientnet_b0"])
def test_networks_with_batch_statistics_say_so(name):
    assert build_network(name, 2, SHAPE).batch_statistics


def test_networks_can_do_without_batch_statistics():
    assert build_network("small_cnn", 2, SHAPE).batch_statistics == ()
    assert build_network("densenet121", 2, SHAPE, norm="instance").batch_statistics == ()


def test_the_seed_decides_the_weights():
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(torch.cat([p.flatten() for p in build_network("small_cnn", 3, SHAPE).parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_place_weighted_pooling_starts_as_the_mean():
    x = torch.rand(2, 5, 3, 4, 3)
    torch.testing.assert_close(PlaceWeightedPooling(5, (3, 4, 3))(x), MeanPooling()(x))


def test_place_weighted_pooling_can_tell_places_apart():
    pooling = PlaceWeightedPooling(1, (2, 1, 1))
    with torch.no_grad():
        pooling.weight.copy_(torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1))
    here, there = torch.zeros(2, 1, 1, 2, 1, 1).unbind()
    here[..., 0, :, :], there[..., 1, :, :] = 1, 1
    assert pooling(here).item() == -pooling(there).item() == 1


def test_rescaled_logits_are_the_logits_times_the_scale_plus_the_offset():
    network = build_network("small_cnn", 3, SHAPE).eval()
    x, offset = torch.rand(2, 1, *SHAPE), torch.tensor([0.5, -1.0, 2.0])
    scale = torch.tensor([1.0, 2.0, 0.5])
    with torch.no_grad():
        before = network(x)
        network.rescale_logits(scale, offset)
        torch.testing.assert_close(network(x), before * scale + offset)


def test_a_run_gives_the_same_in_batches_of_any_size(rng):
    network = build_network("small_cnn", 3, SHAPE).train()
    volumes = rng.random((5, *SHAPE)).astype(np.float32)
    logits, features = run(network, volumes, batch_size=2)
    single, _ = run(network, volumes, batch_size=1)
    np.testing.assert_allclose(single, logits, atol=1e-5)
    assert logits.dtype == np.float64
    assert features.shape == (5, 48)
    assert network.training


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(ValueError, match=r"named 'densnet121'\. Did you mean 'densenet121'"):
        build_network("densnet121", 3, SHAPE)


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match=r"small_cnn does not accept the options.*'widht'"):
        build_network("small_cnn", 3, SHAPE, widht=3)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"num_classes is 1 for small_cnn\. A network needs at least 2"):
        build_network("small_cnn", 1, SHAPE)


def test_another_pooling_is_refused():
    with pytest.raises(
        ValueError, match=r"pooling='max' is not valid for small_cnn\. Expected 'place' or 'mean'"
    ):
        build_network("small_cnn", 3, SHAPE, pooling="max")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cpu_and_cuda_agree(rng):
    network = build_network("small_cnn", 3, SHAPE)
    volumes = rng.random((4, *SHAPE)).astype(np.float32)
    on_cpu, _ = run(network, volumes)
    on_gpu, _ = run(network.cuda(), volumes)
    np.testing.assert_allclose(on_gpu, on_cpu, atol=5e-3)
