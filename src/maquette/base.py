"""The locked model: backbone, autoencoder, text encoder and noise schedule."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from maquette.backbones.protocol import Backbone, Residuals, TextFeatures
from maquette.errors import MaquetteError
from maquette.foundation.pixels import from_signed, to_signed
from maquette.text import Clip, encode_one, encode_two, size_ids

DIORAMA_GUIDANCE = 4.0  # the scale of classifier-free guidance that suits the bundled base


class Base:
    """A base model, locked: nothing in it requires gradients.

    Shapes: latents (B, C, h, w), scaled as the backbone takes them; text (B, L, D); pictures RGB.

    With low memory, `work_on` names a device: every part rests where it was loaded, and is there while it is at work.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        autoencoder: AutoencoderKL | None,
        clips: Sequence[Clip],
        schedule: dict[str, Any],
        size: int,
        blank_is_zero: bool = False,
    ) -> None:
        self.name = name
        self.work_on: torch.device | None = None
        self.backbone = backbone
        self.clips = tuple(clips)  # one, XL's two, or none where the weights came without
        self.schedule = schedule  # configuration of the noise schedule, in diffusers' words
        self.size = size  # side of the pictures it was trained on, pixels
        self.blank_is_zero = blank_is_zero  # XL: a missing negative prompt is zeros, not the empty prompt's features
        self._check_text()
        self._autoencoder = autoencoder and autoencoder.requires_grad_(False).eval()

    def _check_text(self) -> None:
        """Text encoders must say what the backbone is made to read."""
        if not self.clips:
            return
        configs, wanted = [clip.encoder.config for clip in self.clips], self.backbone.text
        width = sum(config.hidden_size for config in configs)
        pooled = configs[-1].projection_dim if wanted.pooled_width is not None else None
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
    def autoencoder(self) -> AutoencoderKL:
        if self._autoencoder is None:
            raise MaquetteError(f"The base {self.name!r} came without an autoencoder; load one that has it.")
        return self._autoencoder

    @property
    def device(self) -> torch.device:
        """Where latents and features are."""
        return self.work_on or self.home

    @property
    def home(self) -> torch.device:
        """Where weights are while nothing is at work."""
        return next(self.backbone.network.parameters()).device

    @contextmanager
    def at_work(self, *parts: nn.Module) -> Iterator[None]:
        """With low memory, parts go to the device and back home; else they are there anyway."""
        home = self.home
        try:
            for part in parts if self.work_on else ():
                part.to(self.work_on)
            yield
        finally:
            for part in parts if self.work_on else ():
                part.to(home)

    def _as_loaded(self) -> torch.autocast:
        """In the dtype that a part has, whatever a training around it casts to."""
        return torch.autocast(self.device.type, enabled=False)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.backbone.network.parameters()).dtype

    @property
    def size_step(self) -> int:
        """Width and height of a picture are multiples of this many pixels."""
        return self.backbone.downscale * max(slot.downscale for slot in self.backbone.slots)

    def predict(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | TextFeatures,
        residuals: Residuals | None = None,
    ) -> Tensor:
        """The backbone's prediction (noise or velocity, as `backbone.prediction` says), like latents in shape."""
        return self.backbone.decode(self.backbone.encode(latents, timestep, text), residuals)

    def encode_text(self, prompts: list[str], size: tuple[int, int] | None = None) -> TextFeatures:
        """Prompts as (B, L, D); warns and says what is cut of a prompt that is too long.

        Args:
            size: (width, height) of the pictures, which XL is told; the base's own without.
        """
        if not self.clips:
            raise MaquetteError(f"The base {self.name!r} came without a text encoder; load one that has it.")
        for prompt in dict.fromkeys(prompts):
            self.clips[0].warn_of_cut(prompt)
            self.clips[0].warn_of_unknown(prompt)
        with self.at_work(*(clip.encoder for clip in self.clips)), self._as_loaded():
            if len(self.clips) == 1:
                return encode_one(self.clips[0], prompts)
            return encode_two(self.clips[0], self.clips[1], prompts, size or (self.size, self.size))

    def encode_negative(self, prompt: str, size: tuple[int, int] | None = None) -> TextFeatures:
        """The features (1, L, D) that guidance leads away from."""
        text = self.encode_text([prompt], size)
        if prompt or not self.blank_is_zero:
            return text
        assert text.pooled is not None, "only XL leaves its negative prompt blank"
        return TextFeatures(torch.zeros_like(text.states), torch.zeros_like(text.pooled), text.ids)

    def size_ids(self, count: int, size: tuple[int, int]) -> Tensor | None:
        """What XL is told of the size (width, height) of so many pictures, (count, 6); None for others."""
        return size_ids(count, size) if len(self.clips) == 2 else None

    @torch.no_grad()
    def encode_pictures(self, pictures: list[Image.Image], sources: list[torch.Generator] | None = None) -> Tensor:
        """Latents of pictures: a draw from the posterior, one source a picture, or its mean without sources."""
        pixels = torch.stack([to_signed(picture) for picture in pictures]).to(self.device, self.autoencoder.dtype)
        with self.at_work(self.autoencoder), self._as_loaded():
            posterior = self.autoencoder.encode(pixels).latent_dist
        draws = posterior.mode() if sources is None else posterior.sample(generator=sources)
        return self.scale_latents(draws)

    def scale_latents(self, draws: Tensor) -> Tensor:
        """Draws from the autoencoder's posterior as the backbone takes them."""
        latents: Tensor = (draws - self._shift) * self.autoencoder.config.scaling_factor
        return latents

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> list[Image.Image]:
        scaled = latents.to(self.autoencoder.dtype) / self.autoencoder.config.scaling_factor + self._shift
        with self.at_work(self.autoencoder), self._as_loaded():
            return from_signed(self.autoencoder.decode(scaled).sample)

    @property
    def _shift(self) -> float:
        return self.autoencoder.config.get("shift_factor") or 0.0
