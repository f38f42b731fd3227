"""What all that computes on a transformer of Stable Diffusion 3 shares: the tokens of images and texts."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette.text.conditioning import Conditioning


@dataclass(frozen=True)
class SD3State:
    """What precedes the first block."""

    x: Tensor  # (B, L, D) the image's tokens
    time: Tensor  # (B, D) time and pooled text
    context: Tensor | None  # (B, T, D) the text's tokens
    grid: tuple[int, int]  # rows and columns of the image's tokens


def embed(
    of: Any, patches: nn.Module, downscale: int, latents: Tensor, timestep: Tensor | int, text: Conditioning
) -> SD3State:
    """Embed latents (B, C, h, w), timestep (B,) or an int, and text with the embedders of a base or a copy."""
    assert text.pooled is not None, "this transformer takes pooled text"
    steps = torch.as_tensor(timestep, device=latents.device).expand(len(latents))
    grid = grid_of(patches, latents, downscale)
    time = of.time_text_embed(steps, text.pooled)
    context = None if of.context_embedder is None else of.context_embedder(text.hidden_states)
    return SD3State(patches(latents).contiguous(), time, context, grid)


def grid_of(patches: Any, latents: Tensor, downscale: int) -> tuple[int, int]:
    """Rows and columns of tokens of latents (B, C, h, w).

    Raises `MaquetteError` for a size that does not divide into patches, or is larger than the positions.
    """
    side, most = patches.patch_size, patches.pos_embed_max_size
    height, width = latents.shape[2:]
    if height % side or width % side or max(height, width) > most * side:
        step = side * downscale
        raise MaquetteError(
            f"This base takes images whose sides are multiples of {step} up to {most * step} pixels, not "
            f"{width * downscale}×{height * downscale}; choose another size."
        )
    return height // side, width // side
