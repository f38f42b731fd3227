"""Cheap images of latents: by a tiny decoder, or one linear map from a cell to a colour, found once for each base."""

from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.foundation.pixels import from_signed

CELLS = 32  # along a side, of the image whose colours are compared with its latents

_maps: "WeakKeyDictionary[Base, Tensor]" = WeakKeyDictionary()


def preview(base: Base, latents: Tensor, decoded: bool | None = None) -> list[Image.Image]:
    """Images of latents (B, C, h, w): (w, h) pixels by the linear map, or full size through a decoder.

    Args:
        decoded: by the autoencoder (True), the linear map (False), or the base's tiny decoder if it has one (None).
    """
    if decoded or (decoded is None and base.tiny_decoder is not None):
        return base.decode_latents(latents, tiny=decoded is None)
    if base not in _maps:
        _maps[base] = linear_map(base)
    return from_signed((_with_one(latents) @ _maps[base].to(latents.device)).movedim(-1, 1))


def linear_map(base: Base) -> Tensor:
    """The (C + 1, 3) matrix that predicts a cell's mean colour in [-1, 1] from its latents and 1, by least squares.

    It is fitted to an image with a random colour in each cell.
    """
    colours = torch.rand(1, 3, CELLS, CELLS, generator=torch.Generator().manual_seed(0))
    latents = base.encode_maps(F.interpolate(colours, scale_factor=base.backbone.downscale)).cpu()
    return torch.linalg.lstsq(_with_one(latents).flatten(0, 2), 2 * colours.movedim(1, -1).flatten(0, 2) - 1).solution


def _with_one(latents: Tensor) -> Tensor:
    """(B, C, h, w) as (B, h, w, C + 1), float32, with 1 behind."""
    return F.pad(latents.float().movedim(1, -1), (0, 1), value=1.0)
