"""LDM (Rombach et al. 2022, arXiv:2112.10752): a latent diffusion of its own, from nothing, conditioned on class maps.

The class map, one channel a class, is halved to the size of the latents and passes a learned 1×1 convolution; the U-Net
takes it as further channels of its input (§3.3; the semantic synthesis of §4.3.2). There is no text, and no guidance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from PIL import Image
from torch import Tensor, nn

from maquette.baselines.batches import Batch
from maquette.baselines.classes import count_of, one_hot
from maquette.baselines.diffusion import in_batches, noisy, sample
from maquette.baselines.protocol import CLASS_MAPS, check_request
from maquette.baselines.trained import Stage, Trained, mixed
from maquette.foundation.declared import Declared, setting

WIDTHS = (24, 36, 48)  # channels of the U-Net's levels, times the setting


@dataclass(frozen=True)
class LDMSettings(Declared):
    """Sizes of the networks. Raises `MaquetteError` for values out of range."""

    width: int = setting(4, "of the U-Net: its levels have 24, 36 and 48 times as many channels", low=1)
    channels: int = setting(8, "of the rescaled class map", low=1)
    palette: str = setting("diorama", "of the class maps")


class Rescaler(nn.Module):
    """A class map at the size of the latents: halved again and again, then a learned 1×1 convolution."""

    def __init__(self, classes: int, channels: int, downscale: int) -> None:
        super().__init__()
        self.halvings = downscale.bit_length() - 1
        self.mapper = nn.Conv2d(classes, channels, 1, bias=False)

    def forward(self, classes: Tensor) -> Tensor:
        """Classes (B, K, H, W) to (B, channels, H / downscale, W / downscale)."""
        for _ in range(self.halvings):
            classes = F.interpolate(classes, scale_factor=0.5, mode="bilinear")
        features: Tensor = self.mapper(classes)
        return features


class LDM(Trained):
    """See the file."""

    name: ClassVar[str] = "ldm"
    takes_text: ClassVar[bool] = False
    conditions: ClassVar[tuple[str, ...] | None] = CLASS_MAPS
    Settings: ClassVar[type[Declared]] = LDMSettings

    def build(self) -> nn.ModuleDict:
        """Rescaler and U-Net."""
        backbone, settings = self.base.backbone, self.settings
        unet = UNet2DModel(
            sample_size=self.base.size // backbone.downscale,
            in_channels=backbone.latent_channels + settings.channels,
            out_channels=backbone.latent_channels,
            block_out_channels=tuple(width * settings.width for width in WIDTHS),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=12 * settings.width,
            norm_num_groups=4,
        )
        rescaler = Rescaler(count_of(settings.palette), settings.channels, backbone.downscale)
        return nn.ModuleDict({"rescaler": rescaler, "unet": unet})

    def stages(self) -> tuple[Stage, ...]:
        """One: rescaler and U-Net together."""
        return (Stage("ldm", 1.0, ("rescaler", "unet"), self._loss, 1e-3),)

    def _loss(self, batch: Batch, source: torch.Generator) -> Tensor:
        """Scalar: the error of the prediction (eq. 3)."""
        latents, times, target = noisy(self.base, batch.posteriors(), source)
        with mixed(latents.device):
            prediction = self._predict(latents, times, self._condition(batch.maps))
        return F.mse_loss(prediction.float(), target)

    def _condition(self, maps: Tensor) -> Tensor:
        """Class maps (B, 3, H, W) in [0, 1] as channels (B, C, h, w) of the U-Net's input."""
        features: Tensor = self.networks["rescaler"](one_hot(maps, self.settings.palette))
        return features

    def _predict(self, latents: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        """The prediction for latents, both (B, C, h, w), at times (B,), with condition (B, C, h, w)."""
        prediction: Tensor = self.networks["unet"](torch.cat([latents, condition], dim=1), times).sample
        return prediction

    def pictures(self, prompts: Sequence[str], maps: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        """See `Method`."""
        check_request(self, prompts, maps, seeds, self.base.size)
        return in_batches(maps, seeds, self._pictures)

    @torch.no_grad()
    def _pictures(self, maps: Tensor, seeds: Sequence[int], rows: slice) -> list[Image.Image]:
        """Of maps (B, 3, H, W)."""
        condition = self._condition(maps.to(self.base.device))
        return self.base.decode_latents(sample(self.base, seeds, lambda x, times: self._predict(x, times, condition)))
