"""What the methods that diffuse have in common: noisy latents to learn from, and a plain loop over a base's sampler."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from maquette.backbones.unet import UNetBackbone
from maquette.base import Base
from maquette.baselines.protocol import runs_of_seeds
from maquette.errors import MaquetteError
from maquette.foundation.pixels import to_unit
from maquette.foundation.seeds import generators, noise

TOGETHER = 8  # pictures that are made at once

Predict = Callable[[Tensor, Tensor], Tensor]
"""A prediction (B, C, h, w), of what `base.noise.prediction` says, from latents (B, C, h, w) and times (B,)."""


def noisy(base: Base, posteriors: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents (B, C, h, w), their times (B,) and the target, like the latents, from posteriors (B, 2C, h, w)."""
    shape = (len(posteriors), posteriors.shape[1] // 2, *posteriors.shape[2:])
    of_posterior, added = (torch.randn(shape, generator=source).to(posteriors.device) for _ in range(2))
    latents = base.sample_latents(posteriors, of_posterior)
    times = base.noise.sample_times(len(latents), source, _tokens(base)).to(posteriors.device)
    return base.noise.noised(latents, added, times), times, base.noise.target(latents, added, times)


@torch.no_grad()
def sample(base: Base, seeds: Sequence[int], predict: Predict) -> Tensor:
    """Latents (B, C, h, w) by the base's sampler and number of steps, each from the noise of its seed."""
    sources, side = generators(list(seeds)), base.size // base.backbone.downscale
    sampler = base.noise.sampler(base.defaults.sampler, base.defaults.steps, _tokens(base), device=base.device)
    x = sampler.start(noise(sources, (base.backbone.latent_channels, side, side)).to(base.device))
    for time in sampler.times:
        x = sampler.step(predict(sampler.scale(x, time), time.expand(len(x))).float(), time, x, sources)
    return x


def in_batches(
    maps: Sequence[Image.Image], seeds: Sequence[int], make: Callable[[Tensor, Sequence[int], slice], list[Image.Image]]
) -> list[Image.Image]:
    """Pictures in batches of consecutive seeds.

    Args:
        make: the pictures of a batch, from its maps (B, 3, H, W) in [0, 1], its seeds and where it lies in the whole.
    """
    pictures: list[Image.Image] = []
    for rows in runs_of_seeds(seeds, TOGETHER):
        pictures += make(torch.stack([to_unit(one) for one in maps[rows]]), seeds[rows], rows)
    return pictures


def _tokens(base: Base) -> int:
    return base.image_tokens((base.size, base.size))


def plain_unet(base: Base, method: str) -> UNetBackbone:
    """A base's U-Net, with no input but latents, time and text. Raises `MaquetteError` for any other backbone."""
    backbone = base.backbone
    if not isinstance(backbone, UNetBackbone) or backbone.text.pooled_width is not None:
        raise MaquetteError(
            f"The method {method!r} is for U-Nets as in Stable Diffusion 1.x and 2.x, which {base.name!r} is not; use "
            "the diorama's, or one of theirs."
        )
    return backbone
