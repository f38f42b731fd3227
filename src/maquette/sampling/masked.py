"""Start from a picture, and masked diffusion: only the masked area is diffused (v3 §3.4)."""

from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.foundation.images import fit
from maquette.foundation.pixels import to_unit
from maquette.sampling.schedule import Scheduler


@dataclass(frozen=True)
class Masked:
    """A start picture, and where it may change."""

    picture: Image.Image
    kept: Tensor  # (1, C, h, w) the mean of the picture's latents: what stays of it
    free: Tensor | None  # (1, 1, h, w), true where it may change; None everywhere
    begun: Tensor | None = None  # (B, C, h, w) a draw of the picture's latents for each picture of a batch

    @staticmethod
    def of(base: Base, image: Image.Image, mask: Image.Image | None, size: tuple[int, int]) -> "Masked":
        picture = fit(image, size)
        kept = base.encode_pictures([picture]).float()
        if mask is None:
            return Masked(picture, kept, None)
        white = to_unit(fit(mask, size)).mean(dim=0)[None, None]
        touched = torch.nn.functional.max_pool2d(white, base.backbone.downscale) > 0.5  # a touched cell may change
        return Masked(picture, kept, touched.to(kept.device))

    def drawn(self, base: Base, sources: list[torch.Generator]) -> "Masked":
        """For a batch: what it starts from, drawn from each picture's own source before its noise is."""
        return replace(self, begun=base.encode_pictures([self.picture] * len(sources), sources).float())

    def start(self, scheduler: Scheduler, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The picture under the noise of the first timestep."""
        assert self.begun is not None, "drawn() comes first"
        return _noised(self.begun, scheduler, noise, timesteps[0])

    def restore(self, scheduler: Scheduler, latents: Tensor, noise: Tensor, timesteps: Tensor, number: int) -> Tensor:
        """After step `number`, put back what must not change, under the noise of the next step."""
        if self.free is None:
            return latents
        last = number + 1 == len(timesteps)
        kept = self.kept if last else _noised(self.kept, scheduler, noise, timesteps[number + 1])
        return torch.where(self.free, latents, kept)


def _noised(latents: Tensor, scheduler: Scheduler, noise: Tensor, timestep: Tensor) -> Tensor:
    return scheduler.add_noise(latents.expand_as(noise), noise, timestep.expand(len(noise)))
