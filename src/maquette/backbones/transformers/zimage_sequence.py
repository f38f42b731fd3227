"""Z-Image's one sequence of tokens, an image's and then a text's, and what is added to it.

Both are filled up to multiples of 32 tokens by tokens of padding, which take part like others. Where the texts of a
batch differ in length, the image lies at another position in each row, and what is behind the shorter ones is masked.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maquette.backbones.residuals import Residuals, with_length
from maquette.backbones.transformers.blocks import run
from maquette.backbones.transformers.packing import packed_grid, patches, tokens_of
from maquette.errors import MaquetteError
from maquette.formats.transformers.zimage import PATCH
from maquette.text.conditioning import Conditioning

FILLED = 32
"""Image and text have multiples of so many tokens."""


@dataclass(frozen=True)
class ZImageState:
    """What precedes the refiner of the image's tokens."""

    x: Tensor  # (B, X, D) the image's tokens, filled up
    time: Tensor  # (B, E)
    context: Tensor  # (B, T, D) the text's tokens, refined and filled up
    image_rotary: Tensor  # complex (B, X, head / 2), of the image's positions
    rotary: Tensor  # complex (B, X + T, head / 2), of all positions
    mask: Tensor | None  # (B, X + T) bool, False behind texts that end before the longest; None where none does
    grid: tuple[int, int]  # rows and columns of the image's tokens

    @property
    def tokens(self) -> int:
        """Of the image alone, without padding."""
        return self.grid[0] * self.grid[1]


def embed(network: Any, downscale: int, latents: Tensor, timestep: Tensor | int, text: Conditioning) -> ZImageState:
    """Embed latents (B, C, h, w), timestep (B,) or an int, and text, which its own refiner reads at once.

    Raises `MaquetteError` for sizes and texts that positions do not reach.
    """
    grid, states = packed_grid(latents, downscale), text.hidden_states
    steps = torch.as_tensor(timestep, device=latents.device).expand(len(latents))
    time = network.t_embedder((1000 - steps) / 1000 * network.t_scale).to(latents.dtype)
    x = filled(network.all_x_embedder[PATCH](tokens_of(patches(latents))), network.x_pad_token)
    counts = torch.full((len(states),), states.shape[1]) if text.mask is None else text.mask.sum(dim=1)
    ends = (counts.to(latents.device) + FILLED - 1) // FILLED * FILLED
    length = int(ends.max())
    _check_reach(network, grid, length, downscale)
    places = torch.arange(length, device=latents.device)
    mask = places < ends[:, None] if bool((ends < length).any()) else None
    image_rotary, text_rotary = _rotary(network, grid, x.shape[1], ends, places + 1)
    context = F.pad(network.cap_embedder(states), (0, 0, 0, length - states.shape[1]))
    context = torch.where((places < counts.to(latents.device)[:, None])[..., None], context, network.cap_pad_token)
    for block in network.context_refiner:
        context = run(network, block, context, mask, text_rotary)
    whole = None if mask is None else torch.cat([mask.new_ones(x.shape[:2]), mask], dim=1)
    return ZImageState(x, time, context, image_rotary, torch.cat([image_rotary, text_rotary], dim=1), whole, grid)


def _rotary(
    network: Any, grid: tuple[int, int], count: int, ends: Tensor, text_places: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the positions of `count` tokens of an image, complex (B, X, head / 2), and of a text, (B, T, head / 2).

    A text's tokens are numbered from 1 along the first axis, and all of an image stand at the number behind its end;
    the image's padding stands at 0.

    Args:
        ends: (B,) tokens of each text, filled up.
        text_places: (T,) numbers of a text's tokens.
    """
    rows, columns = (torch.arange(side, device=ends.device) for side in grid)
    cells = F.pad(torch.cartesian_prod(rows, columns), (1, 0))
    image = cells.repeat(len(ends), 1, 1)
    image[..., 0] = ends[:, None] + 1
    image = F.pad(image, (0, 0, 0, count - len(cells)))
    text = F.pad(text_places[:, None], (0, 2))
    rotary: Tensor = network.rope_embedder(torch.cat([image.flatten(0, 1), text]))
    of_image, of_text = rotary.split([len(ends) * count, len(text)])
    return of_image.unflatten(0, (len(ends), count)), of_text.expand(len(ends), -1, -1)


def _check_reach(network: Any, grid: tuple[int, int], length: int, downscale: int) -> None:
    """Positions are numbers of tables.

    Args:
        length: tokens of the longest text, filled up.
    """
    most_text, *most = network.rope_embedder.axes_lens
    if grid[0] > most[0] or grid[1] > most[1]:
        side = 2 * downscale
        raise MaquetteError(
            f"This base takes images of up to {most[1] * side}×{most[0] * side} pixels, not {grid[1] * side}×"
            f"{grid[0] * side}; choose another size."
        )
    if length + 1 >= most_text:
        raise MaquetteError(f"This base takes texts of up to {most_text - FILLED} tokens; give a shorter one.")


def filled(tokens: Tensor, padding: Tensor) -> Tensor:
    """(B, L, D) with the token of padding (1, D) behind, up to a multiple of 32 tokens."""
    missing = -tokens.shape[1] % FILLED
    return torch.cat([tokens, padding.expand(len(tokens), missing, -1).to(tokens)], dim=1)


def refined(network: Any, state: ZImageState, residuals: Residuals | None) -> Tensor:
    """The image's tokens (B, X, D) behind their refiner, whose blocks are the first slots."""
    x = state.x
    for slot, block in enumerate(network.noise_refiner):
        x = added(run(network, block, x, None, state.image_rotary, state.time), state, residuals, slot)
    return x


def added(x: Tensor, state: ZImageState, residuals: Residuals | None, slot: int) -> Tensor:
    """Tokens (B, L, D), the image's first, with what is added at a slot."""
    value = None if residuals is None else residuals[slot]
    if residuals is None or value is None:
        return x
    image, beside = tokens_of(value).expand(-1, state.tokens, -1), residuals.beside[slot]
    rest = image[:, :0] if beside is None else beside
    return x + torch.cat([image, with_length(rest, x.shape[1] - state.tokens)], dim=1)
