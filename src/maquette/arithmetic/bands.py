"""An autoencoder's decoder in bands of rows: the same image up to rounding, in less memory and more time.

Convolutions see one row beyond a band, so a band is computed from one row more at either side. Group norms see the
whole map, so their statistics are gathered band by band before the first band is normalised; what a norm reads is
computed for that once more, unless it is stored. The coarse half, with the attention over all cells, is computed whole.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UpDecoderBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from maquette.foundation.memory import return_freed

BAND = 2**24
"""Bytes of a band of what a layer computes, about; a band has two rows at least."""


class Map(Protocol):
    """A feature map (B, C, h, w) whose rows are computed when they are asked for."""

    height: int

    def rows(self, first: int, end: int) -> Tensor:
        """The rows from `first` to before `end`, (B, C, end - first, w)."""


def suits(autoencoder: AutoencoderKL) -> bool:
    """Whether a decoder consists of what can be computed in bands, as Stable Diffusion's and Flux.1's do."""
    blocks = autoencoder.decoder.up_blocks
    resnets = [resnet for block in blocks for resnet in getattr(block, "resnets", ())]
    ups = [up for block in blocks for up in getattr(block, "upsamplers", None) or ()]
    return (
        all(type(block) is UpDecoderBlock2D for block in blocks)
        and all(isinstance(resnet.norm1, nn.GroupNorm) and resnet.upsample is None for resnet in resnets)
        and all(isinstance(up, Upsample2D) and up.norm is None and up.interpolate for up in ups)
        and isinstance(autoencoder.decoder.conv_norm_out, nn.GroupNorm)
    )


def decoded(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:
    """What `autoencoder.decode` makes of latents (B, C, h, w): images (B, 3, H, W), for an autoencoder that `suits`.

    At most two and a half of the largest maps of the last block's width exist at a time.
    """
    decoder: Any = autoencoder.decoder
    if autoencoder.post_quant_conv is not None:
        latents = autoencoder.post_quant_conv(latents)
    x: Map = Stored(decoder.mid_block(decoder.conv_in(latents)))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = _added(resnet, x)
            return_freed()  # what smaller bands leave is of no use to larger ones
        for up in block.upsamplers or ():
            x = Convolved(x, up, larger=2)
    return _stored(Convolved(Normed(x, decoder.conv_norm_out, decoder.conv_act), decoder.conv_out)).values


def _added(resnet: ResnetBlock2D, x: Map) -> "Stored":
    """A residual block of a map; where it keeps the width, the result takes the place of a map that is stored."""
    inner = _stored(Convolved(Normed(x, resnet.norm1, resnet.nonlinearity), resnet.conv1))
    change = Convolved(Normed(inner, resnet.norm2, resnet.nonlinearity), resnet.conv2)
    place = x.values if isinstance(x, Stored) and resnet.conv_shortcut is None else None
    return _stored(Added(x, change, resnet), place)


class Stored:
    """One that is there: values (B, C, h, w)."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.height = values, values.shape[2]

    def rows(self, first: int, end: int) -> Tensor:
        """See `Map`; a view of its values, (B, C, end - first, w)."""
        return self.values[:, :, first:end]


class Convolved:
    """One by a convolution of 3 × 3 on another, which may have its cells doubled first."""

    def __init__(self, source: Map, layer: nn.Module, larger: int = 1) -> None:
        self.source, self.layer, self.larger = source, layer, larger
        self.height = larger * source.height

    def rows(self, first: int, end: int) -> Tensor:
        """See `Map`, (B, C, end - first, w)."""
        start, stop = max(0, first // self.larger - 1), min(self.source.height, -(-end // self.larger) + 1)
        found: Tensor = self.layer(self.source.rows(start, stop))
        skipped = first - self.larger * start
        return found[:, :, skipped : skipped + end - first]


class Normed:
    """One by a group norm of another and an activation."""

    def __init__(self, source: Map, norm: nn.GroupNorm, activation: nn.Module) -> None:
        self.source, self.activation, self.height = source, activation, source.height
        self.factor, self.shift = _affine(source, norm)

    def rows(self, first: int, end: int) -> Tensor:
        """See `Map`, (B, C, end - first, w)."""
        x = self.source.rows(first, end)
        found: Tensor = self.activation(torch.addcmul(self.shift, x.float(), self.factor).to(x.dtype))
        return found


class Added:
    """One by what a residual block adds to another, which is mapped to its width where they differ."""

    def __init__(self, source: Map, change: Map, resnet: ResnetBlock2D) -> None:
        self.source, self.change, self.height = source, change, change.height
        self.shortcut, self.divisor = resnet.conv_shortcut, resnet.output_scale_factor

    def rows(self, first: int, end: int) -> Tensor:
        """See `Map`, (B, C, end - first, w)."""
        x = self.source.rows(first, end)
        x = x if self.shortcut is None else self.shortcut(x)
        return (x + self.change.rows(first, end)) / self.divisor


def _stored(source: Map, place: Tensor | None = None) -> Stored:
    """All rows of a map, in a new tensor or in a place (B, C, h, w)."""
    for first, rows in _bands(source):
        if place is None:
            place = rows.new_empty((*rows.shape[:2], source.height, rows.shape[3]))
        place[:, :, first : first + rows.shape[2]] = rows
    assert place is not None, "a map has a row at least"
    return Stored(place)


def _affine(source: Map, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """By what a group norm multiplies each channel of a map, and what it adds then: (B, C, 1, 1) in float32."""
    seen, mean, squares = 0, torch.zeros(()), torch.zeros(())  # of (B, G): the squares are of distances to the mean
    for _, rows in _bands(source):
        group = rows.float().unflatten(1, (norm.num_groups, -1)).flatten(2)
        variance, centre = torch.var_mean(group, dim=2, correction=0)
        more = group.shape[2]
        mean, squares = (value.to(centre) for value in (mean, squares))
        apart, total = centre - mean, seen + more
        squares = squares + variance * more + apart.square() * (seen * more / total)
        mean, seen = mean + apart * (more / total), total
    factor = (squares / seen + norm.eps).rsqrt()
    each = norm.num_channels // norm.num_groups
    factor, mean = (value.repeat_interleave(each, dim=1)[:, :, None, None] for value in (factor, mean))
    factor = factor * norm.weight.float().view(-1, 1, 1)
    return factor, norm.bias.float().view(-1, 1, 1) - mean * factor


def _bands(source: Map) -> Iterator[tuple[int, Tensor]]:
    """The number of the first row and the rows (B, C, n, w) of one band after the other."""
    first, count = 0, 2
    while first < source.height:
        rows = source.rows(first, min(first + count, source.height))
        yield first, rows
        first += count
        count = max(2, BAND // (rows.nbytes // rows.shape[2]) // 2 * 2)
