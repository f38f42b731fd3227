"""What the locked networks say of the pairs, computed once: latents' posteriors and text features.

Chance stays out of it: latents are kept as mean and log-variance and drawn afresh every time, and a dropped prompt
is the empty prompt's features put in place of the kept ones.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from maquette.base import Base
from maquette.foundation.images import to_signed


@dataclass(frozen=True)
class Cache:
    moments: Tensor  # (N, 2C, h, w) half precision: mean and log-variance, before scaling
    states: Tensor  # (U, L, D) features of the U different captions
    caption_of: Tensor  # (N,) row of `states`
    empty: Tensor  # (1, L, D)
    scale: float  # of latents
    shift: float

    @staticmethod
    @torch.no_grad()
    def build(base: Base, images: NDArray[np.uint8], captions: list[str], batch_size: int = 64) -> "Cache":
        moments = []
        for start in tqdm(range(0, len(images), batch_size), desc="encoding pictures", unit_scale=batch_size):
            pixels = torch.stack([to_signed(Image.fromarray(one)) for one in images[start : start + batch_size]])
            posterior = base.autoencoder.encode(pixels.to(base.device, base.autoencoder.dtype)).latent_dist
            moments.append(posterior.parameters.half().cpu())
        words = sorted(set(captions))
        number = {caption: row for row, caption in enumerate(words)}
        starts = tqdm(range(0, len(words), batch_size), desc="encoding captions", unit_scale=batch_size)
        states = [base.encode_text(words[start : start + batch_size]).states.cpu() for start in starts]
        return Cache(
            torch.cat(moments),
            torch.cat(states),
            torch.tensor([number[caption] for caption in captions]),
            base.encode_text([""]).states.cpu(),
            base.autoencoder.config.scaling_factor,
            base.autoencoder.config.get("shift_factor") or 0.0,
        )

    def latents(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A fresh draw of the latents of some rows, scaled as the backbone takes them."""
        return (draw(self.moments[rows], generator) - self.shift) * self.scale

    def text(self, rows: Tensor, drop: float, generator: torch.Generator) -> Tensor:
        """Text features of some rows, a share `drop` of them the empty prompt's."""
        dropped = torch.rand(len(rows), generator=generator) < drop
        return torch.where(dropped[:, None, None], self.empty, self.states[self.caption_of[rows]])


def draw(moments: Tensor, generator: torch.Generator) -> Tensor:
    """A draw from posteriors (B, 2C, h, w): mean and log-variance along the channels."""
    mean, logvar = moments.float().chunk(2, dim=1)
    deviation = torch.exp(0.5 * logvar.clamp(-30, 20))
    return mean + deviation * torch.randn(mean.shape, generator=generator, device=generator.device)
