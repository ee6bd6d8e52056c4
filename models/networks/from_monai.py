"""Networks of MONAI, split into features and head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from models.networks.network import Network

Build = Callable[..., Network]


def _from_monai(name: str) -> Any:
    """Return a network of MONAI, which takes seconds to import and which the small network does without."""
    from monai.networks import nets

    return getattr(nets, name)


def densenet(name: str) -> Build:
    """Return a builder of a DenseNet."""

    def build(num_classes: int, channels: int, grid: tuple[int, ...], **options: Any) -> Network:
        net: Any = _from_monai(name)(
            spatial_dims=len(grid), in_channels=channels, out_channels=num_classes, **options
        )
        head = net.class_layers.out
        net.class_layers.out = nn.Identity()
        return Network(net, head)

    return build


def resnet(name: str, **defaults: Any) -> Build:
    """Return a builder of a ResNet; `defaults` are options that a caller may override."""

    def build(num_classes: int, channels: int, grid: tuple[int, ...], **options: Any) -> Network:
        net: Any = _from_monai(name)(
            spatial_dims=len(grid), n_input_channels=channels, num_classes=num_classes, **defaults | options
        )
        head, net.fc = net.fc, nn.Identity()
        return Network(net, head)

    return build


def small_image_resnet(name: str) -> Build:
    """Return a builder of a ResNet for images of 28 to 64 pixels, as the calibration literature uses it.

    Its first convolution is 3 x 3 with stride 1 and no pooling follows; shortcuts have no bias.
    """
    return resnet(name, conv1_t_size=3, conv1_t_stride=1, no_max_pool=True, bias_downsample=False)


def seresnet(num_classes: int, channels: int, grid: tuple[int, ...], **options: Any) -> Network:
    """Build SE-ResNet-50."""
    net: Any = _from_monai("SEResNet50")(
        spatial_dims=len(grid), in_channels=channels, num_classes=num_classes, **options
    )
    head, net.last_linear = net.last_linear, nn.Identity()
    return Network(net, head)


def efficientnet(num_classes: int, channels: int, grid: tuple[int, ...], **options: Any) -> Network:
    """Build EfficientNet-B0."""
    options = {"pretrained": False, **options}
    net: Any = _from_monai("EfficientNetBN")(
        "efficientnet-b0", spatial_dims=len(grid), in_channels=channels, num_classes=num_classes, **options
    )
    head, net._fc = net._fc, nn.Identity()
    return Network(net, head)
