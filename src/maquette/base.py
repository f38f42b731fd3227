"""The locked model: backbone, autoencoder, text encoder and noise schedule."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from torch import Tensor, nn

from maquette.backbones.protocol import Backbone
from maquette.backbones.residuals import Residuals
from maquette.errors import MaquetteError
from maquette.foundation.pixels import from_signed, to_signed
from maquette.noise.config import noise_process
from maquette.noise.process import image_tokens
from maquette.text.conditioning import Conditioning, TextEncoder


@dataclass(frozen=True)
class Defaults:
    """What suits a base where a generation does not say it; without more, what v3 §4 takes for Stable Diffusion."""

    steps: int = 20
    guidance: float = 9.0  # scale of classifier-free guidance
    sampler: str = "ddim"


class Base:
    """A base model, locked: nothing in it requires gradients.

    Shapes: latents (B, C, h, w), scaled as the backbone takes them; text (B, L, D); images RGB.

    With low memory, `execution_device` names a device: each part is moved there while it computes, and back after.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        autoencoder: AutoencoderKL | None,
        text: TextEncoder | None,
        schedule: dict[str, Any],
        size: int,
        defaults: Defaults | None = None,
    ) -> None:
        self.name = name
        self.execution_device: torch.device | None = None
        self.backbone = backbone
        self.text_encoder = text  # None where the weights came without
        self.noise = noise_process(schedule)
        self.defaults = defaults or Defaults(sampler=self.noise.samplers[0])
        self.size = size  # side of the images it was trained on, pixels
        if text is not None:
            self._check_text(text)
        self._autoencoder = autoencoder and autoencoder.requires_grad_(False).eval()

    def _check_text(self, text: TextEncoder) -> None:
        """A text encoder must say what the backbone is made to read."""
        wanted, width = self.backbone.text, text.outputs.width
        pooled = text.outputs.pooled_width if wanted.pooled_width is not None else None
        if (width, pooled) != (wanted.width, wanted.pooled_width):
            raise MaquetteError(
                f"The text encoder of the base {self.name!r} is {width} wide, its U-Net reads text {wanted.width} wide"
                + (
                    f" and pooled text {wanted.pooled_width} wide, not {pooled}"
                    if pooled != wanted.pooled_width
                    else ""
                )
                + "; give the text encoder it was trained with."
            )

    @property
    def text(self) -> TextEncoder:
        if self.text_encoder is None:
            raise MaquetteError(f"The base {self.name!r} came without a text encoder; load one that has it.")
        return self.text_encoder

    @property
    def autoencoder(self) -> AutoencoderKL:
        if self._autoencoder is None:
            raise MaquetteError(f"The base {self.name!r} came without an autoencoder; load one that has it.")
        return self._autoencoder

    @property
    def device(self) -> torch.device:
        """Where latents and features are."""
        return self.execution_device or self.offload_device

    @property
    def offload_device(self) -> torch.device:
        """Where weights are while nothing is at work."""
        return next(self.backbone.network.parameters()).device

    @contextmanager
    def on_device(self, *parts: nn.Module) -> Iterator[None]:
        """With low memory, parts go to the device and back home; else they are there anyway."""
        home = self.offload_device
        try:
            for part in parts if self.execution_device else ():
                part.to(self.execution_device)
            yield
        finally:
            for part in parts if self.execution_device else ():
                part.to(home)

    def _as_loaded(self) -> torch.autocast:
        """In the dtype that a part has, whatever a training around it casts to."""
        return torch.autocast(self.device.type, enabled=False)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.backbone.network.parameters()).dtype

    @property
    def schedule(self) -> dict[str, Any]:
        """Configuration of the noise schedule, in diffusers' words."""
        return self.noise.config

    @property
    def size_multiple(self) -> int:
        """Width and height of an image are multiples of this many pixels."""
        return self.backbone.downscale * max(slot.downscale for slot in self.backbone.slots)

    def image_tokens(self, size: tuple[int, int]) -> int:
        """Of one image of a size (width, height): the cells of the backbone's coarsest level."""
        return image_tokens(size, self.size_multiple)

    def predict(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        residuals: Residuals | None = None,
    ) -> Tensor:
        """The backbone's prediction (what `noise.prediction` says), like latents in shape."""
        return self.backbone.finish(self.backbone.prepare(latents, timestep, text), residuals)

    def encode_text(self, prompts: list[str], size: tuple[int, int] | None = None) -> Conditioning:
        """`text.encode`, with the encoder on the device; warns and says what is cut of a prompt that is too long.

        Args:
            size: (width, height) of the images, which XL is told; the base's own without.
        """
        text = self.text
        for prompt in dict.fromkeys(prompts):
            text.warn_of_cut(prompt)
            text.warn_of_unknown(prompt)
        with self.on_device(*text.modules), self._as_loaded():
            return text.encode(prompts, size or (self.size, self.size))

    def encode_negative(self, prompt: str, size: tuple[int, int] | None = None) -> Conditioning:
        """One row: what guidance leads away from."""
        text = self.text
        text.warn_of_cut(prompt)
        with self.on_device(*text.modules), self._as_loaded():
            return text.encode_negative(prompt, size or (self.size, self.size))

    @torch.no_grad()
    def posterior(self, pixels: Tensor) -> Tensor:
        """The autoencoder's of images (B, 3, H, W) in [-1, 1]: mean and log-variance, (B, 2C, h, w)."""
        pixels = pixels.to(self.device, self.autoencoder.dtype)
        with self.on_device(self.autoencoder), self._as_loaded():
            moments: Tensor = self.autoencoder.encode(pixels).latent_dist.parameters
        return moments

    def sample_latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        """Latents (B, C, h, w) as the backbone takes them, from posteriors (B, 2C, h, w) by standard normal noise."""
        return self.scale_latents(sample_posterior(moments, noise))

    @torch.no_grad()
    def encode_images(self, images: list[Image.Image], sources: list[torch.Generator] | None = None) -> Tensor:
        """Latents of images: a draw from the posterior, one source an image, or its mean without sources."""
        moments = self.posterior(torch.stack([to_signed(image) for image in images]))
        posterior = DiagonalGaussianDistribution(moments)
        return self.scale_latents(posterior.mode() if sources is None else posterior.sample(generator=sources))

    def encode_maps(self, maps: Tensor) -> Tensor:
        """Condition maps (B, 3, H, W) in [0, 1] as latents (B, C, h, w), the posterior's mean: for ControlNets that
        take them so."""
        return self.scale_latents(self.posterior(2 * maps - 1).chunk(2, dim=1)[0])

    def scale_latents(self, draws: Tensor) -> Tensor:
        """TrainingDataset from the autoencoder's posterior as the backbone takes them."""
        latents: Tensor = (draws - self._shift) * self.autoencoder.config.scaling_factor
        return latents

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> list[Image.Image]:
        scaled = latents.to(self.autoencoder.dtype) / self.autoencoder.config.scaling_factor + self._shift
        with self.on_device(self.autoencoder), self._as_loaded():
            return from_signed(self.autoencoder.decode(scaled).sample)

    @property
    def _shift(self) -> float:
        return self.autoencoder.config.get("shift_factor") or 0.0


def sample_posterior(moments: Tensor, noise: Tensor) -> Tensor:
    """A draw (B, C, h, w) from posteriors (B, 2C, h, w), mean and log-variance, by standard normal noise."""
    mean, logvar = moments.float().chunk(2, dim=1)
    return mean + torch.exp(0.5 * logvar.clamp(-30, 20)) * noise
