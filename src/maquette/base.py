"""The locked base model: backbone, autoencoder, text encoder and noise schedule."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from torch import Tensor, nn

from maquette.arithmetic import bands
from maquette.arithmetic.fast import fast
from maquette.backbones.frames import FrameAutoencoder
from maquette.backbones.protocol import Backbone
from maquette.backbones.residuals import Residuals
from maquette.backbones.tiny_decoder import TinyDecoder
from maquette.errors import MaquetteError
from maquette.formats import lora
from maquette.formats.lora_file import LoraFile
from maquette.formats.module_hash import ends, module_hash
from maquette.foundation.files import text_hash
from maquette.foundation.pixels import from_signed, to_signed
from maquette.foundation.weights import open_weights
from maquette.noise.config import noise_process
from maquette.noise.process import image_tokens
from maquette.text.conditioning import Conditioning, TextEncoder

Autoencoder: TypeAlias = AutoencoderKL | FrameAutoencoder


@dataclass(frozen=True)
class Defaults:
    """A base's recommended settings for sampling; initially those that v3 §4 uses for Stable Diffusion."""

    steps: int = 20
    guidance: float = 9.0  # scale of classifier-free guidance
    sampler: str = "ddim"


class Base:
    """A base model, locked: nothing in it requires gradients.

    Shapes: latents (B, C, h, w), scaled for the backbone; text (B, L, D); images RGB.

    In low-memory mode images are decoded one by one, in bands. `execution_device` may be set then: each part is moved
    there while it computes, and back afterwards.

    Args:
        name: for messages.
        autoencoder, text: None if the weights came without one.
        scheduler_config: a diffusers scheduler's configuration.
        size: side of the images it was trained on, pixels.

    Raises `MaquetteError` if the text encoder does not match the backbone, or the schedule is not supported.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        autoencoder: Autoencoder | None,
        text: TextEncoder | None,
        scheduler_config: dict[str, Any],
        size: int,
        defaults: Defaults | None = None,
    ) -> None:
        self.name = name
        self.execution_device: torch.device | None = None
        self.low_memory = False
        self.backbone = backbone
        self.text_encoder = text
        self.noise = noise_process(scheduler_config, getattr(backbone, "whole_steps", None))
        self.defaults = defaults or Defaults(sampler=self.noise.samplers[0])
        self.size = size
        if text is not None:
            self._check_text(text)
        self._autoencoder = autoencoder and autoencoder.requires_grad_(False).eval()
        self.tiny_decoder: TinyDecoder | None = None  # see `load_tiny_decoder`; its weights are not part of `hash`
        self.requested_prediction: str | None = None  # of a file that does not say it, see `load_base`
        self.loras: list[LoraFile] = []  # that were added, in this order
        self._before_loras: tuple[list[float], str] | None = None  # some of its numbers since, and its hash before

    def _check_text(self, text: TextEncoder) -> None:
        """The text encoder's widths must match the backbone's."""
        expected, width = self.backbone.text, text.outputs.width
        pooled = text.outputs.pooled_width if expected.pooled_width is not None else None
        if (width, pooled) != (expected.width, expected.pooled_width):
            raise MaquetteError(
                f"The text encoder of the base {self.name!r} is {width} wide, its backbone takes {expected.width}"
                + (
                    f" and pooled text {expected.pooled_width} wide, not {pooled}"
                    if pooled != expected.pooled_width
                    else ""
                )
                + "; use the text encoder it was trained with."
            )

    @property
    def text(self) -> TextEncoder:
        """The text encoder. Raises `MaquetteError` if there is none."""
        if self.text_encoder is None:
            raise MaquetteError(f"The base {self.name!r} came without a text encoder; load one that has it.")
        return self.text_encoder

    @property
    def autoencoder(self) -> Autoencoder:
        """Raises `MaquetteError` if there is none."""
        if self._autoencoder is None:
            raise MaquetteError(f"The base {self.name!r} came without an autoencoder; load one that has it.")
        return self._autoencoder

    @property
    def device(self) -> torch.device:
        """Where computation happens and latents live."""
        return self.execution_device or self.offload_device

    @property
    def offload_device(self) -> torch.device:
        """Where the weights live between computations."""
        return next(self.backbone.network.parameters()).device

    def add_lora(self, path: str | Path, weight: float = 1.0) -> None:
        """Add a LoRA to the weights of backbone and text encoders, in place; several add up.

        ControlNets that are loaded already keep their weights, as in diffusers and web UIs: load them first.

        Args:
            path: a file of kohya's sd-scripts, of diffusers or of peft (`formats.lora`).
            weight: a factor on the LoRA; 1 is as trained, below 0 does the opposite.

        Raises `MaquetteError` for a file that is missing or holds no LoRA, a LoRA for another base, and a weight that
        is not a number.
        """
        file, before = LoraFile(str(path), weight).hashed(), self.hash()
        parts = {part: network.state_dict() for part, network in zip(lora.PARTS, self._steered(), strict=False)}
        lora.add_lora(open_weights(Path(path)), parts, weight)
        self.loras.append(file)
        self._before_loras = self._ends(), before

    def hash(self) -> str:
        """SHA-256 of all that it adds to a generation: weights, tokenizers and noise schedule.

        With LoRAs it is that from before they were added, as long as nothing else changes the weights: the last bits of
        a sum differ between machines. `loras` holds the hashes of their files.
        """
        if self._before_loras is not None and self._before_loras[0] == self._ends():
            return self._before_loras[1]
        network, *text_encoders = self._steered()
        parts = [network, *([self._autoencoder] if self._autoencoder else []), *text_encoders]
        schedule = sorted((name, str(value)) for name, value in self.scheduler_config.items() if name[0] != "_")
        vocabulary = self.text_encoder and self.text_encoder.vocabulary
        return text_hash(repr([*map(module_hash, parts), vocabulary, schedule]))

    def _steered(self) -> list[nn.Module]:
        """The networks that a LoRA can change, in the order of `lora.PARTS`."""
        return [self.backbone.network, *(self.text_encoder.modules if self.text_encoder else ())]

    def _ends(self) -> list[float]:
        """A few numbers of every tensor that a LoRA can change, which tell whether anything else did."""
        return [value for network in self._steered() for value in ends(network.state_dict().values())]

    @contextmanager
    def on_device(self, *parts: nn.Module) -> Iterator[None]:
        """While parts compute without gradients: `fast`; in low-memory mode on the execution device, then back."""
        offload_device = self.offload_device
        try:
            for part in parts if self.execution_device else ():
                part.to(self.execution_device)
            with fast(*parts):
                yield
        finally:
            for part in parts if self.execution_device else ():
                part.to(offload_device)

    def _as_loaded(self) -> torch.autocast:
        """Compute in a part's own dtype, even inside a training loop's autocast."""
        return torch.autocast(self.device.type, enabled=False)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.backbone.network.parameters()).dtype

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """Configuration of the noise schedule, with diffusers' keys."""
        return self.noise.config

    @property
    def size_multiple(self) -> int:
        """Width and height of images must be multiples of this, pixels."""
        return self.backbone.downscale * max(slot.downscale for slot in self.backbone.slots)

    def image_tokens(self, size: tuple[int, int]) -> int:
        """Tokens of one image of a size (width, height): the cells of the backbone's coarsest level."""
        return image_tokens(size, self.size_multiple)

    def predict(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        residuals: Residuals | None = None,
    ) -> Tensor:
        """The backbone's prediction (of what `noise.prediction` says), in the shape of the latents."""
        if residuals is not None and residuals.alone is not None:
            return residuals.alone
        return self.backbone.finish(self.backbone.prepare(latents, timestep, text), residuals)

    def encode_text(self, prompts: list[str], size: tuple[int, int] | None = None) -> Conditioning:
        """`text.encode` on the right device and in the encoder's dtype; warns about prompts that get truncated.

        Args:
            size: (width, height) of the images, an input of XL; by default the size it was trained on.
        """
        text = self.text
        for prompt in dict.fromkeys(prompts):
            text.warn_of_cut(prompt)
            text.warn_of_unknown(prompt)
        with self.on_device(*text.modules), self._as_loaded():
            return text.encode(prompts, size or (self.size, self.size))

    def encode_negative(self, prompt: str, size: tuple[int, int] | None = None) -> Conditioning:
        """One row: the negative prompt, which guidance steers away from."""
        text = self.text
        text.warn_of_cut(prompt)
        with self.on_device(*text.modules), self._as_loaded():
            return text.encode_negative(prompt, size or (self.size, self.size))

    @torch.no_grad()
    def posterior(self, pixels: Tensor) -> Tensor:
        """The autoencoder's posterior for images (B, 3, H, W) in [-1, 1]: mean and log-variance, (B, 2C, h, w)."""
        pixels = pixels.to(self.device, self.autoencoder.dtype)
        with self.on_device(self.autoencoder), self._as_loaded():
            moments: Tensor = self.autoencoder.encode(pixels).latent_dist.parameters
        return moments

    def sample_latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w), sampled from posteriors (B, 2C, h, w) with standard normal noise."""
        return self.scale_latents(sample_posterior(moments, noise))

    @torch.no_grad()
    def encode_images(self, images: list[Image.Image], generators: list[torch.Generator] | None = None) -> Tensor:
        """Scaled latents (B, C, h, w): samples of the posterior with one generator per image, or its mean without."""
        moments = self.posterior(torch.stack([to_signed(image) for image in images]))
        posterior = DiagonalGaussianDistribution(moments)
        return self.scale_latents(posterior.mode() if generators is None else posterior.sample(generator=generators))

    def encode_maps(self, maps: Tensor, shifted: bool = True) -> Tensor:
        """Condition maps (B, 3, H, W) in [0, 1] as scaled latents (B, C, h, w), the posterior's mean.

        Args:
            shifted: whether the autoencoder's shift is taken off, as it is from an image's latents.
        """
        latents = self.scale_latents(self.posterior(2 * maps - 1).chunk(2, dim=1)[0])
        shift, scale = self._statistics(latents)
        return latents if shifted else latents + shift * scale

    def scale_latents(self, samples: Tensor) -> Tensor:
        """Samples (B, C, h, w) of the autoencoder's posterior, shifted and scaled for the backbone."""
        shift, scale = self._statistics(samples)
        return (samples - shift) * scale

    @torch.no_grad()
    def decode_latents(self, latents: Tensor, tiny: bool = False) -> list[Image.Image]:
        """Images from scaled latents (B, C, h, w), by the autoencoder or by the tiny decoder.

        Raises `MaquetteError` for the tiny decoder of a base that has none.
        """
        parts = latents.split(1) if self.low_memory else [latents]
        with self.on_device(self.require_tiny_decoder() if tiny else self.autoencoder), self._as_loaded():
            return [image for part in parts for image in from_signed(self.decoded(part, tiny, self.low_memory))]

    def decoded(self, latents: Tensor, tiny: bool, in_bands: bool) -> Tensor:
        """Images (B, 3, H, W), about in [-1, 1], from scaled latents (B, C, h, w).

        Args:
            in_bands: whether with less memory, where the decoder allows it (`arithmetic.bands`).

        Raises `MaquetteError` for the tiny decoder of a base that has none.
        """
        if tiny:
            pixels: Tensor = self.require_tiny_decoder()(latents.to(self.dtype))
            return pixels
        shift, scale = self._statistics(latents := latents.to(self.autoencoder.dtype))
        scaled, autoencoder = latents / scale + shift, self.autoencoder
        if in_bands and isinstance(autoencoder, AutoencoderKL) and bands.suits(autoencoder):
            return bands.decoded(autoencoder, scaled)
        return autoencoder.decode(scaled).sample

    def require_tiny_decoder(self) -> TinyDecoder:
        """Raises `MaquetteError` if there is none."""
        if self.tiny_decoder is None:
            raise MaquetteError(
                f"The base {self.name!r} has no tiny decoder; give it one with mq.load_tiny_decoder(base, folder) or "
                "--tiny-decoder FOLDER, or take decoder='full'."
            )
        return self.tiny_decoder

    def _statistics(self, latents: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """What is taken off latents (B, C, h, w), and what they are then multiplied by: numbers, or (C, 1, 1)."""
        config = self.autoencoder.config
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is None or deviation is None:
            return config.get("shift_factor") or 0.0, config.get("scaling_factor") or 1.0
        shift, scale = (torch.tensor(values).view(-1, 1, 1) for values in (mean, deviation))
        return shift.to(latents), (1.0 / scale).to(latents)


def sample_posterior(moments: Tensor, noise: Tensor) -> Tensor:
    """Samples (B, C, h, w) of posteriors (B, 2C, h, w), mean and log-variance, with standard normal noise."""
    mean, logvar = moments.float().chunk(2, dim=1)
    return mean + torch.exp(0.5 * logvar.clamp(-30, 20)) * noise
