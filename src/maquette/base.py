"""The locked model: backbone, autoencoder, text encoder and noise schedule, from a diffusers folder."""

import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from maquette.backbones.protocol import Backbone, Residuals, TextFeatures
from maquette.backbones.unet import UNetBackbone
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import from_signed, to_signed
from maquette.foundation.registry import unknown

BUNDLED = {"diorama": "weights/diorama/base"}
DIORAMA_GUIDANCE = 4.0  # the scale of classifier-free guidance that suits the bundled base
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

T = TypeVar("T")


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
    ) -> None:
        self.name = name
        self.backbone = backbone
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.text_encoder = text_encoder.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.schedule = schedule  # configuration of the noise schedule, in diffusers' words
        self.size = size  # side of the pictures it was trained on, pixels

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

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> TextFeatures:
        """Prompts as (B, L, D); warns and says what is cut of a prompt that is too long."""
        for prompt in dict.fromkeys(prompts):
            self._warn_of_cut(prompt)
        tokens = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return TextFeatures(self.text_encoder(tokens.to(self.device)).last_hidden_state)

    def _warn_of_cut(self, prompt: str) -> None:
        limit = self.tokenizer.model_max_length
        ids = self.tokenizer(prompt, truncation=False, verbose=False).input_ids
        if len(ids) > limit:
            cut = self.tokenizer.decode(ids[limit - 1 : -1]).strip()
            warnings.warn(
                f"The prompt has {len(ids)} tokens and the text encoder takes {limit}; cut off: {cut!r}.",
                MaquetteWarning,
                stacklevel=4,
            )

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


def load_base(name: str | Path, device: str = "cpu", dtype: str | torch.dtype = "float32") -> Base:
    """Load a base: "diorama", which is bundled, or a folder in diffusers' format.

    Args:
        device: where to put it, as torch names devices.
        dtype: "float32", "bfloat16" or "float16".

    Raises `MaquetteError` for an unknown name, a device that is not there, or a part that is missing or broken.
    """
    words = str(dtype).removeprefix("torch.")
    if words not in DTYPES:
        raise MaquetteError(unknown("dtype", words, list(DTYPES)))
    place, precision = find_device(device), DTYPES[words]
    folder = _folder(str(name))
    autoencoder = _part(folder, "vae", AutoencoderKL.from_pretrained, torch_dtype=precision).to(place)
    unet = _part(folder, "unet", UNet2DConditionModel.from_pretrained, torch_dtype=precision).to(place).eval()
    text_encoder = _part(folder, "text_encoder", CLIPTextModel.from_pretrained, dtype=precision).to(place)
    tokenizer = _part(folder, "tokenizer", CLIPTokenizer.from_pretrained)
    schedule = _part(folder, "scheduler", DDIMScheduler.load_config)
    downscale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    backbone = UNetBackbone(unet, schedule.get("prediction_type", "epsilon"), downscale)
    if backbone.text.pooled_width is not None:
        raise MaquetteError(
            f"The base in {str(folder)!r} is an SDXL, which load_base does not read; give an SD 1.x or 2.x."
        )
    return Base(
        str(name), backbone, autoencoder, text_encoder, tokenizer, schedule, unet.config.sample_size * downscale
    )


def find_device(name: str) -> torch.device:
    """A device by torch's name for it, if it is there."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise MaquetteError(
            f"There is no device {name!r} here ({reason}); give 'cpu', or 'cuda' or 'mps' where it is."
        ) from error
    return device


def _folder(name: str) -> Path:
    if name in BUNDLED:
        return Path(str(files("maquette"))) / BUNDLED[name]
    folder = Path(name)
    if not (folder / "model_index.json").is_file():
        hint = "is not a folder with a model_index.json" if folder.exists() else "does not exist"
        raise MaquetteError(
            f"There is no base {name!r}: it is not bundled ({', '.join(BUNDLED)}) and the folder {hint}; "
            "give 'diorama' or a folder in diffusers' format."
        )
    return folder


def _part(folder: Path, of: str, read: Callable[..., T], **settings: Any) -> T:
    """One part of a base; whatever its reader stumbles over becomes a sentence."""
    if not (folder / of).is_dir():
        raise MaquetteError(f"The base in {str(folder)!r} has no folder {of!r}; fetch it anew.")
    try:
        return read(str(folder / of), local_files_only=True, **settings)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise MaquetteError(
            f"The {of} of the base in {str(folder)!r} cannot be read ({reason}); fetch it anew."
        ) from error
