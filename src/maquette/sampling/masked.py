"""Start from a picture, and masked diffusion: only the masked area is diffused (v3 §3.4)."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.foundation.images import fit, to_unit
from maquette.sampling.schedule import Scheduler


@dataclass(frozen=True)
class Masked:
    """A start picture in latents, and where it may change."""

    original: Tensor  # (1, C, h, w)
    free: Tensor | None  # (1, 1, h, w), true where it may change; None everywhere

    @staticmethod
    def of(base: Base, image: Image.Image, mask: Image.Image | None, size: tuple[int, int]) -> "Masked":
        original = base.encode_pictures([fit(image, size)]).float()
        if mask is None:
            return Masked(original, None)
        white = to_unit(fit(mask, size)).mean(dim=0)[None, None]
        touched = torch.nn.functional.max_pool2d(white, base.backbone.downscale) > 0.5  # a touched cell may change
        return Masked(original, touched.to(original.device))

    def start(self, scheduler: Scheduler, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The picture under the noise of the first timestep."""
        return self._noised(scheduler, noise, timesteps[0])

    def restore(self, scheduler: Scheduler, latents: Tensor, noise: Tensor, timesteps: Tensor, number: int) -> Tensor:
        """After step `number`, put back what must not change, under the noise of the next step."""
        if self.free is None:
            return latents
        last = number + 1 == len(timesteps)
        kept = self.original if last else self._noised(scheduler, noise, timesteps[number + 1])
        return torch.where(self.free, latents, kept)

    def _noised(self, scheduler: Scheduler, noise: Tensor, timestep: Tensor) -> Tensor:
        return scheduler.add_noise(self.original.expand_as(noise), noise, timestep.expand(len(noise)))
