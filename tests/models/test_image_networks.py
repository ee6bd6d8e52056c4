"""Networks of images are those the literature compares by, and refuse what they are not made for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.networks import IMAGE_NETWORKS, NETWORKS, build_network, run
from models.networks.resnet32 import Block
from models.preprocessing import ImagePreprocessing

COLOUR = (3, 32, 32)


@pytest.mark.parametrize("shape", [COLOUR, (1, 28, 28), (3, 64, 64)], ids=str)
@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_logits_of_images_are_the_head_of_the_features(name, shape):
    network = build_network(name, 4, shape, 2).eval()
    x = torch.rand(2, *shape)
    with torch.no_grad():
        features, logits = network.features(x), network(x)
    assert logits.shape == (2, 4)
    torch.testing.assert_close(network.head(features), logits)
    assert (network.spatial_dims, network.channels) == (2, shape[0])


# Counted by others: He 2016 table 6 and the LDAM code (0.46 M); kuangliu/pytorch-cifar and the code of
# Mukhoti 2020 (11.17 M, 23.52 M).
@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("resnet32", 10, 464_154),
        ("resnet32", 100, 470_004),
        ("resnet18", 10, 11_173_962),
        ("resnet50", 10, 23_520_842),
        ("resnet50", 100, 23_705_252),
    ],
)
def test_they_have_as_many_parameters_as_in_the_literature(name, classes, parameters):
    network = build_network(name, classes, COLOUR, 2)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "resnet32"])
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    network = build_network(name, 3, COLOUR, 2)
    torch.nn.functional.cross_entropy(network(torch.rand(6, *COLOUR)), torch.arange(6) % 3).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_small_stem_keeps_every_pixel_until_the_second_stage():
    network = build_network("resnet18", 10, COLOUR, 2).eval()
    sizes = []
    for stage in (network.body.layer1, network.body.layer2, network.body.layer3, network.body.layer4):
        stage.register_forward_hook(lambda module, given, made: sizes.append(tuple(made.shape[1:])))
    network(torch.rand(1, *COLOUR))
    assert sizes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_the_shortcut_of_a_new_stage_has_no_parameters():
    # With the residual silenced, every second pixel passes between zeros, and its gradient comes back.
    block = Block(4, 8).eval()
    torch.nn.init.zeros_(block.residual[-1].weight)
    x = torch.rand(2, 4, 6, 6, requires_grad=True)
    out = block(x)
    assert torch.equal(out[:, 2:6], x[:, :, ::2, ::2])
    assert not out[:, :2].any()
    assert not out[:, 6:].any()
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.sum() == x[:, :, ::2, ::2].numel()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_volumes_know_their_dimensions(name):
    network = build_network(name, 2, (32, 32, 32))
    assert (network.spatial_dims, network.channels) == (3, 1)


@pytest.mark.parametrize(
    ("name", "shape", "dims", "message"),
    [
        ("resnet32", (32, 32, 32), 3, "'resnet32' does not take volumes. For volumes there are small_cnn"),
        ("densenet121", COLOUR, 2, "'densenet121' does not take images. For images there are small_cnn"),
        ("resnt32", COLOUR, 2, "No network of images is named 'resnt32'. Did you mean 'resnet32'"),
        ("small_cnn", COLOUR, 4, "spatial_dims is 4. Expected 2 for images or 3 for volumes"),
        ("small_cnn", (32, 32), 2, r"in_shape is \(32, 32\) for small_cnn\. Expected \(C, H, W\)"),
        ("small_cnn", (32, 32), 3, r"in_shape is \(32, 32\) for small_cnn\. Expected \(X, Y, Z\)"),
    ],
)
def test_a_network_of_the_wrong_dimensions_is_refused(name, shape, dims, message):
    with pytest.raises(ValueError, match=message):
        build_network(name, 3, shape, dims)


def test_resnet32_takes_no_options():
    with pytest.raises(ValueError, match=r"resnet32 does not accept the options.*'width'"):
        build_network("resnet32", 3, COLOUR, 2, width=3)


def test_a_run_normalises_bytes_batch_by_batch(rng):
    images = rng.integers(0, 256, (5, *COLOUR), dtype=np.uint8)
    preprocessing = ImagePreprocessing(COLOUR, (0.5, 0.4, 0.3), (0.2, 0.3, 0.2))
    network = build_network("resnet32", 3, COLOUR, 2).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    logits, features = run(network, images, batch_size=2, normalise=preprocessing.normalise)
    at_once, _ = run(network, preprocessing(images))
    np.testing.assert_allclose(logits, at_once, rtol=1e-5)
    assert features.shape == (5, 64)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("dims", "array", "message"),
    [
        (2, np.zeros((2, *COLOUR), np.uint8), r"The images are bytes \(uint8\)\. Normalise them first"),
        (
            2,
            np.zeros((2, 1, 32, 32), np.float32),
            r"float32 of shape \(2, 1, 32, 32\)\. .* takes images \(N, 3, H, W\)",
        ),
        (
            2,
            np.zeros((2, 32, 32), np.float32),
            r"float32 of shape \(2, 32, 32\)\. .* takes images \(N, 3, H, W\)",
        ),
        (3, np.zeros((2, *COLOUR), np.uint8), r"is uint8 .* takes float volumes \(N, X, Y, Z\)"),
        (3, np.zeros((2, 1, 32, 32, 32), np.float32), r"A network of 3 dimensions takes float volumes"),
        (3, np.zeros((2, 24, 32, 32), np.float32), "built for volumes or images of another size"),
        (2, np.zeros((2, 3, 24, 24), np.float32), "built for volumes or images of another size"),
    ],
)
def test_an_array_the_network_does_not_take_is_refused(dims, array, message):
    network = build_network("small_cnn", 2, COLOUR if dims == 2 else (32, 32, 32), dims)
    with pytest.raises(ValueError, match=message):
        run(network, array)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cpu_and_cuda_agree_on_images(rng):
    images = rng.integers(0, 256, (4, *COLOUR), dtype=np.uint8)
    preprocessing = ImagePreprocessing(COLOUR, (0.5,) * 3, (0.25,) * 3)
    network = build_network("resnet32", 3, COLOUR, 2)
    on_cpu, _ = run(network, images, normalise=preprocessing.normalise)
    on_gpu, _ = run(network.cuda(), images, normalise=preprocessing.normalise)
    np.testing.assert_allclose(on_gpu, on_cpu, atol=2e-2 * np.abs(on_cpu).max())  # TF32
