"""Latents packed into tokens, 2 × 2 cells to one, and where the tokens lie: Flux, Qwen-Image, Z-Image.

A token's channels are those of its cells, c · 4 + dy · 2 + dx; as a map it is latents (B, 4 C, h / 2, w / 2). Where a
cell's channels stand together instead, (dy · 2 + dx) · C + c, it is a patch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maquette.backbones.zero import LinearOnMaps, zeroed
from maquette.errors import MaquetteError

SIDE = 2  # cells per token, along a side


def pack(latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) as tokens (B, h w / 4, 4 C)."""
    return tokens_of(F.pixel_unshuffle(latents, SIDE))


def unpack(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (B, L, 4 C) of a grid (rows, columns) as latents (B, C, h, w)."""
    return F.pixel_shuffle(tokens.mT.unflatten(2, grid), SIDE)


def patches(latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) as a map of patches (B, 4 C, h / 2, w / 2)."""
    cells = F.pixel_unshuffle(latents, SIDE).unflatten(1, (latents.shape[1], SIDE**2))
    return cells.transpose(1, 2).flatten(1, 2)


def unpatched(tokens: Tensor, grid: tuple[int, int], side: int = SIDE) -> Tensor:
    """Patches (B, L, side² C) of a grid (rows, columns) as latents (B, C, h, w)."""
    cells = tokens.unflatten(1, grid).unflatten(3, (side, side, -1))
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def tokens_of(maps: Tensor) -> Tensor:
    """(B, D, h, w) to (B, h w, D)."""
    return maps.flatten(2).mT


def packed_grid(latents: Tensor, downscale: int) -> tuple[int, int]:
    """Rows and columns of tokens of latents (B, C, h, w).

    Args:
        downscale: pixels per latent cell, for the message.

    Raises `MaquetteError` for latents that do not divide into tokens.
    """
    height, width = latents.shape[2:]
    if height % SIDE or width % SIDE:
        raise MaquetteError(
            f"This base takes images whose sides are multiples of {SIDE * downscale} pixels, not "
            f"{width * downscale}×{height * downscale}; choose another size."
        )
    return height // SIDE, width // SIDE


def positions(grid: tuple[int, int], device: torch.device) -> Tensor:
    """Where the tokens of a grid (rows, columns) lie: float32 (L, 3), each 0, row, column."""
    rows, columns = (torch.arange(count, device=device, dtype=torch.float32) for count in grid)
    return torch.cartesian_prod(rows.new_zeros(1), rows, columns)


class PackedEncoder(nn.Module):
    """For conditions that enter as packed latents: a linear layer from 4 C to the tokens' width D."""

    def __init__(self, latent_channels: int, width: int) -> None:
        super().__init__()
        self.conv_out = zeroed(LinearOnMaps(latent_channels * SIDE**2, width))

    def forward(self, condition: Tensor) -> Tensor:
        """The condition's latents (B, C, h, w) to (B, D, h / 2, w / 2)."""
        result: Tensor = self.conv_out(F.pixel_unshuffle(condition, SIDE))
        return result
