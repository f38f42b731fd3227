"""Zero layers: between a trainable copy and the backbone it steers, so that initially nothing changes."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


def zero_convolution(in_channels: int, out_channels: int, dimensions: int = 2) -> nn.Module:
    """Z for features (B, C, H, W), or as many `dimensions` behind B and C: a kernel of 1, with weight and bias zero."""
    kind: Callable[..., nn.Module] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    return zeroed(kind(in_channels, out_channels, kernel_size=1))


def zero_linear(in_features: int, out_features: int) -> nn.Linear:
    """Z for tokens (B, L, C): a linear layer, with weight and bias zero."""
    return zeroed(nn.Linear(in_features, out_features))


class LinearOnMaps(nn.Linear):
    """A linear layer at every place of a map; its weight is a matrix, as published for tokens."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', h, w)."""
        tokens: Tensor = super().forward(maps.movedim(1, -1))
        return tokens.movedim(-1, 1)


def zero_linear_on_maps(channels: int) -> LinearOnMaps:
    """Z for tokens that travel as maps (B, C, h, w): a linear layer, with weight and bias zero."""
    return zeroed(LinearOnMaps(channels, channels))


def zeroed(layer: Layer) -> Layer:
    """A layer with parameters of any shape, all set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
