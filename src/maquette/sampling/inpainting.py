"""Start from an image, and masked diffusion: only the masked area is diffused (v3 §3.4).

The autoencoder changes every pixel of an image that goes through it, so a masked edit is composed with the original
in pixels: where the mask is black, the result is the original.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import as_rgb, fit
from maquette.noise.process import Sampler
from maquette.sampling.masks import framed_mask, free_cells, soft_edge

REACH = 1  # cells beyond the mask that are diffused too, see `Masked.of`
ALIKE = 0.02  # relative difference of two aspect ratios that rounding explains


@dataclass(frozen=True)
class Masked:
    """A start image, and the area that may change."""

    image: Image.Image
    kept: Tensor  # (1, C, h, w) the image's mean latents, for the area that is kept
    free: Tensor | None = None  # (1, 1, h, w), true where latents may change; None: everywhere
    share: Tensor | None = None  # (1, 1, H, W) in [0, 1], of what is generated in the result; None: all of it

    @staticmethod
    def of(
        base: Base, image: Image.Image, mask: Image.Image | None, size: tuple[int, int], feather: int | None
    ) -> "Masked":
        """Fit the image and the mask to `size` (width, height) in pixels, and encode the image.

        A decoded pixel depends on the latent cells around its own too: in the diorama's autoencoder a cell that changes
        by a standard deviation moves the pixels over it by 62 levels of 255 on average, those one cell further by 11,
        two by 2, three by 0.7. So the cells next to the mask are diffused as well, or what is to vanish at its edge
        would show through; what that changes outside the mask is dropped in `compose`.

        Args:
            feather: width of the mask's soft edge in pixels; None for one latent cell.

        Raises `MaquetteError` for a mask that is black everywhere.
        """
        image_size, image = as_rgb(image).size, fit(image, size)
        kept = base.encode_images([image]).float()
        if mask is None:
            return Masked(image, kept)
        _warn_of_shape(mask, image_size, size)
        white = framed_mask(mask, size)
        if not white.any():
            raise MaquetteError("The mask is black everywhere, so nothing may change; paint white what may.")
        cell = base.backbone.downscale
        free = free_cells(white, cell, REACH).to(kept.device)
        return Masked(image, kept, free, soft_edge(white, cell if feather is None else feather))

    def latents(self, base: Base, sources: list[torch.Generator]) -> Tensor:
        """Initial latents of a batch, (B, C, h, w): the image's posterior sampled with each row's generator."""
        return base.encode_images([self.image] * len(sources), sources).float()

    def compose(self, generated: list[Image.Image]) -> list[Image.Image]:
        """Generated images inside the mask, over the original: where the mask is black, no pixel differs from it."""
        if self.share is None:
            return generated
        share, original = self.share[0, 0, :, :, None].numpy(), np.asarray(self.image, np.float32)
        mixed = [original + share * (np.asarray(image, np.float32) - original) for image in generated]
        return [Image.fromarray(pixels.round().astype(np.uint8)) for pixels in mixed]


def _warn_of_shape(mask: Image.Image, image_size: tuple[int, int], size: tuple[int, int]) -> None:
    """Warn of a mask that is cropped otherwise than its image, unless it has the result's `size` (width, height)."""
    (width, height), (image_width, image_height) = mask.size, image_size
    if (width, height) != size and abs(width * image_height / (height * image_width) - 1) > ALIKE:
        warnings.warn(
            f"The mask is {width}×{height} pixels and its image {image_width}×{image_height}: each is cropped at its "
            f"centre to the shape of {size[0]}×{size[1]}, so they may not lie on each other; give a mask of the "
            "image's shape.",
            MaquetteWarning,
            stacklevel=4,
        )


@dataclass(frozen=True)
class Start:
    """The start of one batch: noise alone, or a noised start image.

    Args:
        first: number of the batch's first image.
        sources: one generator per row.
        noise: (B, C, h, w), float32.
        x0: (B, C, h, w), the start image's latents, if any.
    """

    first: int
    sources: list[torch.Generator]
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
