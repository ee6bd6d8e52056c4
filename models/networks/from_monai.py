"""Networks of MONAI, split into features and head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from models.networks.network import Network

Build = Callable[..., Network]
_SWIN_STEP = 32
"""Sides that a Swin encoder halves five times are multiples of this."""


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


class _Pooled(nn.Module):
    """The encoder of a segmentation network: its deepest output, averaged over the volume.

    Parameters
    ----------
    encoder : nn.Module
        Returns its outputs from fine to coarse.
    step : int
        Volumes are padded with zeros, on both sides, to sides that are multiples of this.
    """

    def __init__(self, encoder: nn.Module, step: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        lacking = [-size % self.step for size in x.shape[2:]]
        pad = [side for n in reversed(lacking) for side in (n // 2, n - n // 2)]
        deepest: Tensor = self.encoder(functional.pad(x, pad))[-1]
        return deepest.flatten(2).mean(dim=2)


def swin_encoder(
    num_classes: int, channels: int, grid: tuple[int, ...], *, feature_size: int = 24, **options: Any
) -> Network:
    """Build the encoder of SwinUNETR; MONAI's `use_checkpoint` saves memory and costs time.

    Raises
    ------
    TypeError
        If the inputs are no volumes.
    """
    if len(grid) != 3:
        raise TypeError("swin_encoder takes volumes")
    net: Any = _from_monai("SwinUNETR")(
        in_channels=channels, out_channels=num_classes, feature_size=feature_size, **options
    )
    return Network(_Pooled(net.swinViT, _SWIN_STEP), nn.Linear(16 * feature_size, num_classes))


def segresnet_encoder(
    num_classes: int,
    channels: int,
    grid: tuple[int, ...],
    *,
    init_filters: int = 16,
    blocks_down: tuple[int, ...] = (1, 2, 2, 4),
    norm: Any = "instance",
    **options: Any,
) -> Network:
    """Build the encoder of SegResNet; without batch statistics unless `norm` asks for them."""
    from monai.networks.nets.segresnet_ds import SegResEncoder

    net: Any = SegResEncoder(
        spatial_dims=len(grid), in_channels=channels, init_filters=init_filters,
        blocks_down=tuple(blocks_down), norm=norm, **options,
    )  # fmt: skip
    width = init_filters * 2 ** (len(blocks_down) - 1)
    return Network(_Pooled(net, 2 ** (len(blocks_down) - 1)), nn.Linear(width, num_classes))
