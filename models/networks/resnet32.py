"""The ResNet-32 for CIFAR, the usual network of the long-tail literature."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from models.networks.network import Network

_WIDTHS = (16, 32, 64)
_BLOCKS = 5


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters (option A).

    Where a stage begins, the shortcut takes every second pixel and fills the new channels with zeros, half of
    them on either side.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = outputs // inputs
        self.new_channels = outputs - inputs
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=self.stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) of (N, inputs, H, W)."""
        shortcut = x
        if self.new_channels:
            half = self.new_channels // 2
            shortcut = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return nn.functional.relu(self.residual(x) + shortcut)


def resnet32(num_classes: int, channels: int, _grid: tuple[int, ...]) -> Network:
    """Build three stages of five blocks with 16, 32 and 64 channels: 464,154 parameters for CIFAR-10.

    References
    ----------
    He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2. Long-tailed:
    Cao, Wei, Gaidon, Arechiga, Ma, Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
    NeurIPS 2019, whose initial weights (He, normal, by fan-in) these are.
    """
    widths = [_WIDTHS[0], *(width for width in _WIDTHS for _ in range(_BLOCKS))]
    body = nn.Sequential(
        nn.Conv2d(channels, widths[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(inplace=True),
        *(Block(inputs, outputs) for inputs, outputs in pairwise(widths)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    head = nn.Linear(widths[-1], num_classes)
    for layer in (*body.modules(), head):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    return Network(body, head)
