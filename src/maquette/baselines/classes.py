"""Class maps as numbers, for methods that take nothing else."""

import torch
import torch.nn.functional as F
from torch import Tensor

from maquette.conditions.drawing.class_maps import PALETTES
from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown


def count_of(palette: str) -> int:
    """The number K of classes of a palette. Raises `MaquetteError` for an unknown one."""
    if palette not in PALETTES:
        raise MaquetteError(unknown("palette", palette, PALETTES))
    return len(PALETTES[palette])


def class_numbers(maps: Tensor, palette: str) -> Tensor:
    """The classes (B, H, W), int64, of class maps (B, 3, H, W) in [0, 1]; of two in one colour the first.

    Raises `MaquetteError` for a colour that the palette does not have.
    """
    colours = torch.from_numpy(PALETTES[palette].copy()).to(maps.device).long()
    place = torch.tensor([65536, 256, 1], device=maps.device)
    codes = ((maps * 255).round().long() * place.view(3, 1, 1)).sum(dim=1)
    equal = codes[..., None] == (colours * place).sum(dim=1)
    if not (known := equal.any(dim=-1)).all():
        share = 1 - known.float().mean().item()
        raise MaquetteError(
            f"A class map has the colours of the palette {palette!r} alone, and {share:.2%} of these pixels have "
            "others; draw it with `maquette detect segmentation`, or name its palette."
        )
    return equal.long().argmax(dim=-1)


def one_hot(maps: Tensor, palette: str) -> Tensor:
    """The classes of maps (B, 3, H, W) in [0, 1] as channels (B, K, H, W) of 0 and 1. Raises as `class_numbers`."""
    return F.one_hot(class_numbers(maps, palette), count_of(palette)).permute(0, 3, 1, 2).float()
