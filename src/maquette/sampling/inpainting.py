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
    """A start image, and the area that may change."""

    image: Image.Image
    kept: Tensor  # (1, C, h, w) the image's mean latents, for the area that is kept
    free: Tensor | None  # (1, 1, h, w), true where it may change; None: everywhere

    @staticmethod
    def of(base: Base, image: Image.Image, mask: Image.Image | None, size: tuple[int, int]) -> "Masked":
        """Fit the image and the mask to `size` (width, height) in pixels, and encode the image."""
        image = fit(image, size)
        kept = base.encode_images([image]).float()
        if mask is None:
            return Masked(image, kept, None)
        white = to_unit(fit(mask, size)).mean(dim=0)[None, None]
        touched = (
            torch.nn.functional.max_pool2d(white, base.backbone.downscale) > 0.5
        )  # latents under any white pixel may change
        return Masked(image, kept, touched.to(kept.device))

    def latents(self, base: Base, sources: list[torch.Generator]) -> Tensor:
        """Initial latents of a batch, (B, C, h, w): the image's posterior sampled with each row's generator."""
        return base.encode_images([self.image] * len(sources), sources).float()


@dataclass(frozen=True)
class Start:
    """The start of one batch: noise alone, or a noised start image.

    Args:
        noise: (B, C, h, w), float32.
        x0: (B, C, h, w), the start image's latents, if any.
    """

    noise: Tensor
    x0: Tensor | None = None
    masked: Masked | None = None

    def latents(self, sampler: Sampler) -> Tensor:
        """Latents (B, C, h, w) for the first network evaluation."""
        return sampler.start(self.noise, self.x0)

    def restore(self, x: Tensor, sampler: Sampler, run: int) -> Tensor:
        """Replace the kept area of x (B, C, h, w) with the start image, at the noise level of evaluation `run` + 1."""
        if self.masked is None or self.masked.free is None:
            return x
        return torch.where(self.masked.free, x, sampler.noised(self.masked.kept, self.noise, run + 1))
