"""Equation 2 of the paper, for any block.

y_c = F(x; Θ) + Z(F(x + Z(c; Θz1); Θc); Θz2): the locked block plus a trainable
copy of it, between two layers that start at zero. Before the first optimizer
step y_c = y for any c. At zero ∂Z/∂B = 1, ∂Z/∂W = I ≠ 0 and ∂Z/∂I = W = 0:
the first step moves the zero layers; from the second step on the copy learns.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from maquette.backbones.zero import zero_convolution, zero_linear
from maquette.errors import MaquetteError


class ControlledBlock(nn.Module):
    """Equation 2 for any block: `forward(x, c, ...)`; further arguments go to both the block and its copy.

    Args:
        block: gets locked; its mode (train or eval) and its running statistics stay as they are.
        condition_channels: channels of c, whose shape is otherwise that of x.
        channels: of x; by default read from the block's first layer.
        out_channels: of the block's output; by default found by running the block on the meta device.

    Shapes: x and c are (B, C, H, W) for a block whose first layer is a convolution or its norm, (B, L, C) for one
    that starts with a linear layer, a layer norm or attention.

    Raises `MaquetteError` if the channels of x are neither given nor found.
    """

    def __init__(
        self, block: nn.Module, condition_channels: int, channels: int | None = None, out_channels: int | None = None
    ) -> None:
        super().__init__()
        layer, found = _entrance(block)
        channels = channels or found
        if channels is None:
            raise MaquetteError(
                f"The channels of {type(block).__name__}'s input cannot be read off it; give channels=."
            )
        like = next(block.parameters(), torch.empty(0))
        out_channels = out_channels or _out_channels(block, channels, layer)
        self.trainable_copy = copy.deepcopy(block).requires_grad_(True)
        self.block = block.requires_grad_(False)
        self.zero_in = layer(condition_channels, channels).to(like.device, like.dtype)
        self.zero_out = layer(out_channels, out_channels).to(like.device, like.dtype)

    def forward(self, x: Tensor, c: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        changed: Tensor = self.zero_out(self.trainable_copy(x + self.zero_in(c), *args, **kwargs))
        return self._locked(x, *args, **kwargs) + changed

    def _locked(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """F(x; Θ); a norm in training mode updates copies of its running statistics, not the originals."""
        buffers = {name: buffer.clone() for name, buffer in self.block.named_buffers()} if self.block.training else {}
        result: Tensor = torch.func.functional_call(self.block, buffers, (x, *args), kwargs)
        return result

    def train(self, mode: bool = True) -> "ControlledBlock":
        """Set the mode of all trainable parts; the locked block keeps its mode."""
        self.training = mode
        for part in (self.trainable_copy, self.zero_in, self.zero_out):
            part.train(mode)
        return self


_TOKENS: dict[type[nn.Module], str] = {nn.MultiheadAttention: "embed_dim", nn.Linear: "in_features"}
_PLANES = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)

ZeroLayer = Callable[[int, int], nn.Module]


def _entrance(block: nn.Module) -> tuple[ZeroLayer, int | None]:
    """The zero layer for a block's first layer with weights, and that layer's input channels if known."""
    for module in block.modules():
        if isinstance(module, nn.LayerNorm):
            return zero_linear, module.normalized_shape[-1]
        for kind, name in _TOKENS.items():
            if isinstance(module, kind):
                return zero_linear, getattr(module, name)
        if isinstance(module, _PLANES):
            names = ("in_channels", "num_features", "num_channels")
            return zero_convolution, next(int(getattr(module, name)) for name in names if hasattr(module, name))
    return zero_convolution, None


def _out_channels(block: nn.Module, channels: int, layer: ZeroLayer) -> int:
    """Output channels for `channels` input channels, found on the meta device, where nothing is computed.

    A block that needs more inputs than x cannot be run this way; then the width of its last such layer is used.
    """
    tokens = layer is zero_linear
    shape = (2, 8, channels) if tokens else (2, channels, 16, 16)
    meta = {name: value.to("meta") for name, value in (*block.named_parameters(), *block.named_buffers())}
    try:
        with torch.no_grad():
            result = torch.func.functional_call(block, meta, (torch.empty(shape, device="meta"),))
        return int(result.shape[-1 if tokens else 1])
    except (RuntimeError, TypeError, AttributeError, NotImplementedError):
        last = [module for module in block.modules() if isinstance(module, nn.Linear if tokens else nn.Conv2d)]
        widths = [module.out_features if isinstance(module, nn.Linear) else module.out_channels for module in last]
        return int(widths[-1]) if widths else channels
