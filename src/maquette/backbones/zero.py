"""Zero layers: between a trainable copy and the backbone it steers, so that initially nothing changes."""

from typing import TypeVar

from torch import nn


def zero_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Z for features (B, C, H, W): a 1×1 convolution, with weight and bias zero."""
    return _zeroed(nn.Conv2d(in_channels, out_channels, kernel_size=1))


def zero_linear(in_features: int, out_features: int) -> nn.Linear:
    """Z for tokens (B, L, C): a linear layer, with weight and bias zero."""
    return _zeroed(nn.Linear(in_features, out_features))


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def _zeroed(layer: Layer) -> Layer:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
