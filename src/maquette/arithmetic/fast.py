"""Networks of diffusers that compute the same, up to rounding, in less time: while they generate, encode or decode."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from maquette.arithmetic.attention import OnceForText
from maquette.arithmetic.halves import once
from maquette.arithmetic.processor import has_tiles
from maquette.arithmetic.products import linear
from maquette.arithmetic.residual import is_plain, residual
from maquette.arithmetic.together import by_picture, rows_of_one
from maquette.arithmetic.upsampling import upsampled
from maquette.arithmetic.winograd import DOUBLED, convolved
from maquette.foundation.memory import LARGE, keep_freed, return_freed

CELLS = 1024  # of a batch, before they are doubled: from here on, leaving out products saves more than adding weights
TILED_CELLS, TILED_CHANNELS = 1024, 256
"""Cells of a result, and channels of it and of the input, from which on products that are left out outweigh sums."""


@contextmanager
def fast(*networks: nn.Module) -> Iterator[None]:
    """Compute fast in these networks, whose weights must stay the same meanwhile; no gradients reach the weights.

    On every device the keys and values of a text are computed once. On a CPU, moreover, so is what precedes the text
    in both branches of guidance; attention takes the faster way for its shape, feature maps have the layout that suits
    their size, convolutions and upsampling leave out products, and the memory of freed tensors is used again (for good:
    see `keep_freed`).

    On exit the networks are as before, unless another thread still computes in them. Attention of other kinds keeps its
    way, and so does one that was set by hand.
    """
    if any(value.device.type == "cpu" for network in networks for value in network.parameters()):
        keep_freed()
    with ExitStack() as ends:
        for network in networks:
            _begin(network)
            ends.callback(_end, network)
        yield


_changes: WeakKeyDictionary[nn.Module, tuple[int, ExitStack]] = WeakKeyDictionary()
"""How many threads compute fast in a network, and what undoes the changes to it."""
_lock = Lock()


def _begin(network: nn.Module) -> None:
    with _lock:
        users, changes = _changes.get(network) or (0, _changed(network))
        _changes[network] = users + 1, changes


def _end(network: nn.Module) -> None:
    with _lock:
        users, changes = _changes.pop(network)
        if users > 1:
            _changes[network] = users - 1, changes
        else:
            changes.close()


def _changed(network: nn.Module) -> ExitStack:
    """Change the modules of a network; what is returned undoes it when it is closed."""
    changes = ExitStack()
    for module in list(network.modules()):
        last = getattr(module, "conv_act", None)  # of a U-Net, an encoder or a decoder
        if isinstance(last, nn.SiLU) and isinstance(module.conv_norm_out, nn.GroupNorm):
            changes.enter_context(_replaced(last, _activated))
        if isinstance(module, Attention) and type(module.processor) is AttnProcessor2_0:
            changes.callback(module.set_processor, module.processor)
            module.set_processor(OnceForText())
        elif isinstance(module, Upsample2D) and _is_plain(module):
            changes.enter_context(_replaced(module, partial(_doubled, module.conv, module.forward)))
        elif isinstance(module, ResnetBlock2D):
            if isinstance(module.nonlinearity, nn.SiLU) and isinstance(module.norm1, nn.GroupNorm):
                changes.enter_context(_replaced(module.nonlinearity, _activated))
            if module.upsample is None:
                lean = partial(residual, module) if is_plain(module) else module.forward
                changes.enter_context(_replaced(module, partial(once, lean)))
        elif type(module) is nn.Linear:
            changes.enter_context(_replaced(module, partial(by_picture, partial(_mapped, module, module.forward))))
        elif isinstance(module, nn.Linear | nn.GroupNorm):
            changes.enter_context(_replaced(module, partial(by_picture, module.forward)))
        elif isinstance(module, nn.Conv2d):
            changes.callback(module.register_forward_pre_hook(_laid_out).remove)
            if _is_square(module) and _has_many_channels(module):
                changes.enter_context(_replaced(module, partial(_in_tiles, module, module.forward)))
    return changes


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Another `forward` for a while, on tensors of any shape."""
    previous = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if previous is None:
            del module.forward  # which brings back its class's
        else:
            module.forward = previous


def _is_plain(module: Upsample2D) -> bool:
    """Whether it doubles each cell and then convolves, 3 × 3, with no more to it."""
    conv = getattr(module, "conv", None)
    return isinstance(conv, nn.Conv2d) and module.norm is None and bool(module.interpolate) and _is_square(conv)


def _is_square(conv: nn.Conv2d) -> bool:
    """Whether it is a convolution of 3 × 3 that keeps the size, with no more to it."""
    rest = (conv.kernel_size, conv.padding, conv.stride, conv.dilation, conv.groups, conv.padding_mode)
    return rest == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")


def _doubled(
    conv: nn.Conv2d, plain: Callable[..., Tensor], x: Tensor, output_size: Sequence[int] | None = None, **more: Any
) -> Tensor:
    """What `plain` does to x (B, C, h, w), in less time where that is possible."""
    height, width = x.shape[2:]
    other_size = output_size is not None and tuple(output_size) != (2 * height, 2 * width)
    if other_size or x.device.type != "cpu" or rows_of_one(x) * height * width < CELLS:
        return plain(x, output_size, **more)
    if 4 * height * width * len(x) * conv.out_channels * x.element_size() >= LARGE:
        return_freed()  # since what smaller feature maps leave is of no use from here on
    if _has_many_channels(conv) and 4 * height * width >= TILED_CELLS and not _wants_gradients(x, conv.weight):
        return convolved(_innermost(x), conv.weight, conv.bias, DOUBLED)
    return upsampled(_innermost(x), conv.weight, conv.bias)


def _has_many_channels(conv: nn.Conv2d) -> bool:
    """Enough for the products that tiles leave out to cost more than their sums."""
    return min(conv.in_channels, conv.out_channels) >= TILED_CHANNELS


def _in_tiles(conv: nn.Conv2d, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What `plain` does to x (B, C, h, w), in less time where that is possible."""
    height, width = x.shape[-2:]
    if x.device.type != "cpu" or x.ndim != 4 or height % 2 or width % 2 or height * width < TILED_CELLS:
        return plain(x)
    if x.dtype == torch.bfloat16 and has_tiles():  # a product costs less there than the sums that would save it
        return plain(x)
    return plain(x) if _wants_gradients(x, conv.weight) else convolved(_innermost(x), conv.weight, conv.bias)


def _activated(x: Tensor) -> Tensor:
    """SiLU of times (B, T), and, in place, of feature maps (B, C, h, w), which a norm has just made."""
    return F.silu(x, inplace=x.ndim == 4 and not _wants_gradients(x))


def _mapped(layer: nn.Linear, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What `plain` does to x (..., C), in less time where that is possible."""
    return plain(x) if _wants_gradients(x, layer.weight) else linear(x, layer.weight, layer.bias)


def _wants_gradients(*values: Tensor) -> bool:
    """Whether gradients to values of any shape are wanted, as methods that steer by them do; tiles have none."""
    return torch.is_grad_enabled() and any(value.requires_grad for value in values)


def _laid_out(conv: nn.Conv2d, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The input (B, C, h, w) of a convolution in the layout that is faster on a CPU; what follows mostly keeps that.

    Channels innermost, unless there are more of them than cells: then the weights are the larger part, and they have
    theirs outermost.
    """
    (x,) = inputs
    if x.device.type != "cpu" or x.ndim != 4:
        return inputs
    many = conv.in_channels > rows_of_one(x) * x.shape[2] * x.shape[3]
    return (x.contiguous() if many else _innermost(x),)


def _innermost(x: Tensor) -> Tensor:
    """(B, C, h, w) with the channels innermost in memory."""
    return x.contiguous(memory_format=torch.channels_last)
