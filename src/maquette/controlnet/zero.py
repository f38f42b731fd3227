"""Zero layers, and equation 2 of the paper on any block.

y_c = F(x; Θ) + Z(F(x + Z(c; Θz1); Θc); Θz2): the locked block plus a trainable
copy of it, between two layers that start at zero. Before the first optimiser
step y_c = y whatever c is. At zero ∂Z/∂B = 1, ∂Z/∂W = I ≠ 0 and ∂Z/∂I = W = 0:
the first step moves the zero layers, from the second on the copy learns.
"""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from maquette.errors import MaquetteError


def zero_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Z for features (B, C, H, W): a 1×1 convolution, weight and bias zero."""
    return _zeroed(nn.Conv2d(in_channels, out_channels, kernel_size=1))


def zero_linear(in_features: int, out_features: int) -> nn.Linear:
    """Z for tokens (B, L, C): a linear layer, weight and bias zero."""
    return _zeroed(nn.Linear(in_features, out_features))


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def _zeroed(layer: Layer) -> Layer:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ControlledBlock(nn.Module):
    """Equation 2 on any block: `forward(x, c)`, further arguments go to the block and its copy alike.

    Args:
        block: locked from here on; its mode (train or eval) stays as it is, and its running statistics with it.
        condition_channels: channels of c, which has x's shape otherwise.
        channels: of x; read off the block's first layer when not given.
        out_channels: of the block's output; found by running the block on no data when not given.

    Shapes: x and c are (B, C, H, W) for a block whose first layer is a convolution or its norm, (B, L, C) for one
    that starts with a linear layer, a layer norm or attention.
    """

    def __init__(
        self, block: nn.Module, condition_channels: int, channels: int | None = None, out_channels: int | None = None
    ) -> None:
        super().__init__()
        found, tokens = _entrance(block)
        channels = channels or found
        if channels is None:
            raise MaquetteError(
                f"The channels of {type(block).__name__}'s input cannot be read off it; give channels=."
            )
        layer = zero_linear if tokens else zero_convolution
        self.copy = copy.deepcopy(block).requires_grad_(True)
        self.block = _lock(block)
        self.zero_in = layer(condition_channels, channels)
        self.zero_out = layer(*(out_channels or _out_channels(block, channels, tokens),) * 2)

    def forward(self, x: Tensor, c: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        locked: Tensor = self.block(x, *args, **kwargs)
        changed: Tensor = self.zero_out(self.copy(x + self.zero_in(c), *args, **kwargs))
        return locked + changed

    def train(self, mode: bool = True) -> "ControlledBlock":
        """Set the mode of everything that learns; the locked block keeps its own."""
        self.training = mode
        for part in (self.copy, self.zero_in, self.zero_out):
            part.train(mode)
        return self


def _lock(block: nn.Module) -> nn.Module:
    for module in block.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.momentum = 0.0  # running statistics stay where they are
    return block.requires_grad_(False)


_PLANES = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)


def _entrance(block: nn.Module) -> tuple[int | None, bool]:
    """Channels of the first layer with weights, and whether it takes tokens."""
    for module in block.modules():
        if isinstance(module, nn.MultiheadAttention):
            return module.embed_dim, True
        if isinstance(module, nn.Linear):
            return module.in_features, True
        if isinstance(module, nn.LayerNorm):
            return module.normalized_shape[-1], True
        if isinstance(module, _PLANES):
            return next(int(getattr(module, n)) for n in _CHANNEL_NAMES if hasattr(module, n)), False
    return None, False


_CHANNEL_NAMES = ("in_channels", "num_features", "num_channels")


def _out_channels(block: nn.Module, channels: int, tokens: bool) -> int:
    """Channels that come out when `channels` go in, found on the meta device, where nothing is computed."""
    shape = (2, 8, channels) if tokens else (2, channels, 16, 16)
    try:
        with torch.no_grad():
            result = copy.deepcopy(block).to("meta")(torch.empty(shape, device="meta"))
    except (RuntimeError, TypeError, NotImplementedError):
        return channels  # it wants more than x: most blocks keep their width, and out_channels= says otherwise
    return int(result.shape[-1 if tokens else 1])
