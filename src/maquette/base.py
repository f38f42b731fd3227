"""The locked model: backbone, autoencoder, text encoder and noise schedule."""

from typing import Any

import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from maquette.backbones.protocol import Backbone, Residuals, TextFeatures
from maquette.foundation.images import from_signed, to_signed
from maquette.text import Clip, encode_one, encode_two

DIORAMA_GUIDANCE = 4.0  # the scale of classifier-free guidance that suits the bundled base


class Base:
    """A base model, locked: nothing in it requires gradients.

    Shapes: latents (B, C, h, w), scaled as the backbone takes them; text (B, L, D); pictures RGB.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        autoencoder: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        schedule: dict[str, Any],
        size: int,
        second: Clip | None = None,
        blank_is_zero: bool = False,
    ) -> None:
        self.name = name
        self.backbone = backbone
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.clip = Clip(text_encoder, tokenizer)
        self.second = second  # XL's other text encoder
        self.schedule = schedule  # configuration of the noise schedule, in diffusers' words
        self.size = size  # side of the pictures it was trained on, pixels
        self.blank_is_zero = blank_is_zero  # XL: a missing negative prompt is zeros, not the empty prompt's features

    @property
    def text_encoder(self) -> CLIPTextModel:
        return self.clip.encoder

    @property
    def tokenizer(self) -> CLIPTokenizer:
        return self.clip.tokenizer

    @property
    def device(self) -> torch.device:
        device: torch.device = self.autoencoder.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.autoencoder.dtype
        return dtype

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
        for prompt in dict.fromkeys(prompts):
            self.clip.warn_of_cut(prompt)
        if self.second is None:
            return encode_one(self.clip, prompts)
        return encode_two(self.clip, self.second, prompts, size or (self.size, self.size))

    def encode_negative(self, prompt: str, size: tuple[int, int] | None = None) -> TextFeatures:
        """The features (1, L, D) that guidance leads away from."""
        text = self.encode_text([prompt], size)
        if prompt or not self.blank_is_zero:
            return text
        assert text.pooled is not None, "only XL leaves its negative prompt blank"
        return TextFeatures(torch.zeros_like(text.states), torch.zeros_like(text.pooled), text.ids)

    @torch.no_grad()
    def encode_pictures(self, pictures: list[Image.Image], sources: list[torch.Generator] | None = None) -> Tensor:
        """Latents of pictures: a draw from the posterior, one source a picture, or its mean without sources."""
        pixels = torch.stack([to_signed(picture) for picture in pictures]).to(self.device, self.dtype)
        posterior = self.autoencoder.encode(pixels).latent_dist
        draws = posterior.mode() if sources is None else posterior.sample(generator=sources)
        latents: Tensor = (draws - self._shift) * self.autoencoder.config.scaling_factor
        return latents

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> list[Image.Image]:
        scaled = latents.to(self.dtype) / self.autoencoder.config.scaling_factor + self._shift
        return from_signed(self.autoencoder.decode(scaled).sample)

    @property
    def _shift(self) -> float:
        return self.autoencoder.config.get("shift_factor") or 0.0
