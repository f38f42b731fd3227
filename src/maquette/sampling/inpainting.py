"""Start from an image, and masked diffusion: only the masked area is diffused (v3 §3.4)."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.foundation.images import fit
from maquette.foundation.pixels import to_unit
from maquette.noise.process import Sampler


@dataclass(frozen=True)
class Masked:
    """A start image, and where it may change."""

    image: Image.Image
    kept: Tensor  # (1, C, h, w) the mean of the image's latents: what stays of it
    free: Tensor | None  # (1, 1, h, w), true where it may change; None everywhere

    @staticmethod
    def of(base: Base, image: Image.Image, mask: Image.Image | None, size: tuple[int, int]) -> "Masked":
        image = fit(image, size)
        kept = base.encode_images([image]).float()
        if mask is None:
            return Masked(image, kept, None)
        white = to_unit(fit(mask, size)).mean(dim=0)[None, None]
        touched = torch.nn.functional.max_pool2d(white, base.backbone.downscale) > 0.5  # a touched cell may change
        return Masked(image, kept, touched.to(kept.device))

    def latents(self, base: Base, sources: list[torch.Generator]) -> Tensor:
        """What a batch starts from, (B, C, h, w): a draw of the image's latents from each row's own source."""
        return base.encode_images([self.image] * len(sources), sources).float()


@dataclass(frozen=True)
class Start:
    """What one batch is sampled from: noise alone, or a start image under it.

    Args:
        noise: (B, C, h, w), float32.
        x0: (B, C, h, w), the start image's latents where there is one.
    """

    noise: Tensor
    x0: Tensor | None = None
    masked: Masked | None = None

    def latents(self, sampler: Sampler) -> Tensor:
        """What the first run begins with, (B, C, h, w)."""
        return sampler.start(self.noise, self.x0)

    def restore(self, x: Tensor, sampler: Sampler, run: int) -> Tensor:
        """In x, (B, C, h, w), after a run: put back what must not change, under the noise of the next run."""
        if self.masked is None or self.masked.free is None:
            return x
        return torch.where(self.masked.free, x, sampler.noised(self.masked.kept, self.noise, run + 1))
