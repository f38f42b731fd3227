"""Equation 2 of the paper, for any block.

y_c = F(x; Θ) + Z(F(x + Z(c; Θz1); Θc); Θz2): the locked block plus a trainable
copy of it, between two layers that start at zero. Before the first optimizer
step y_c = y for any c. At zero ∂Z/∂B = 1, ∂Z/∂W = I ≠ 0 and ∂Z/∂I = W = 0:
the first step moves the zero layers; from the second step on the copy learns.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
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

    A block that returns several things, as attention its weights, is controlled in the first of them. Attention given
    x alone attends to x itself: keys and values of the copy are then controlled as its queries are.

    Shapes: x and c are (B, C, H, W) for a block whose first layer is a convolution or its norm, with as many dimensions
    behind C as its convolutions have (1 to 3); (B, L, C) for one that starts with a linear layer, a layer norm or
    attention, or (L, B, C) if that is how attention takes it.

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

    def forward(self, x: Tensor, c: Tensor, *args: Any, **kwargs: Any) -> Any:
        locked = self._locked(x, *args, **kwargs)
        changed: Tensor = self.zero_out(
            _features(self.trainable_copy(*_inputs(self.block, x + self.zero_in(c), args, kwargs), **kwargs))
        )
        return (locked[0] + changed, *locked[1:]) if isinstance(locked, tuple) else locked + changed

    def _locked(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """F(x; Θ); a norm in training mode updates copies of its running statistics, not the originals."""
        buffers = {name: buffer.clone() for name, buffer in self.block.named_buffers()} if self.block.training else {}
        return torch.func.functional_call(self.block, buffers, _inputs(self.block, x, args, kwargs), kwargs)

    def train(self, mode: bool = True) -> "ControlledBlock":
        """Set the mode of all trainable parts; the locked block keeps its mode."""
        self.training = mode
        for part in (self.trainable_copy, self.zero_in, self.zero_out):
            part.train(mode)
        return self


_TOKENS: dict[type[nn.Module], str] = {nn.MultiheadAttention: "embed_dim", nn.Linear: "in_features"}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FLAT = (nn.BatchNorm2d, nn.InstanceNorm2d)
_DEEP = (nn.BatchNorm3d, nn.InstanceNorm3d)
_PLANES = (*_CONVOLUTIONS, *_FLAT, *_DEEP, nn.GroupNorm)

ZeroLayer = Callable[[int, int], nn.Module]


def _inputs(block: nn.Module, x: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The positional arguments for a block: attention without keys and values takes x, of any shape, for them too."""
    alone = isinstance(block, nn.MultiheadAttention) and not args and not {"key", "value"} & kwargs.keys()
    return (x, x, x) if alone else (x, *args)


def _features(result: Any) -> Tensor:
    """What a block returns, or the first of it if it returns several things; of any shape."""
    features: Tensor = result[0] if isinstance(result, tuple) else result
    return features


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
            channels = next(int(getattr(module, name)) for name in names if hasattr(module, name))
            return partial(zero_convolution, dimensions=_dimensions(block)), channels
    return zero_convolution, None


def _dimensions(block: nn.Module) -> int:
    """Dimensions of a block's features behind batch and channels, by its first layer that tells."""
    for module in block.modules():
        if isinstance(module, _CONVOLUTIONS):
            return len(module.kernel_size)
        if isinstance(module, _FLAT + _DEEP):
            return 3 if isinstance(module, _DEEP) else 2
    return 2


def _out_channels(block: nn.Module, channels: int, layer: ZeroLayer) -> int:
    """Output channels for `channels` input channels, found on the meta device, where nothing is computed.

    A block that needs more inputs than x cannot be run this way; then the width of its last such layer is used.
    """
    tokens = layer is zero_linear
    x = torch.empty((2, 8, channels) if tokens else (2, channels, *[16] * _dimensions(block)), device="meta")
    meta = {name: value.to("meta") for name, value in (*block.named_parameters(), *block.named_buffers())}
    try:
        with torch.no_grad():
            result = _features(torch.func.functional_call(block, meta, _inputs(block, x, (), {})))
        return int(result.shape[-1 if tokens else 1])
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, AssertionError):  # whatever layers raise
        last = [module for module in block.modules() if isinstance(module, nn.Linear if tokens else _CONVOLUTIONS)]
        widths = [module.out_features if isinstance(module, nn.Linear) else module.out_channels for module in last]
        return int(widths[-1]) if widths else channels
