"""The locked model: backbone, autoencoder, text encoder and noise schedule, from a diffusers folder."""

import json
import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from maquette.backbones.protocol import Backbone, Residuals, TextFeatures
from maquette.backbones.unet import UNetBackbone
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import from_signed, to_signed
from maquette.foundation.registry import unknown

BUNDLED = {"diorama": "weights/diorama/base"}
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
    ) -> None:
        self.name = name
        self.backbone = backbone
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.text_encoder = text_encoder.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.schedule = schedule  # configuration of the noise schedule, in diffusers' words

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

    @property
    def size(self) -> int:
        """Side of the pictures it was trained on, pixels."""
        side: int = self.autoencoder.config.sample_size
        return side

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
        for prompt in prompts:
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


def load_base(name: str | Path, device: str = "cpu", dtype: str = "float32") -> Base:
    """Load a base: "diorama", which is bundled, or a folder in diffusers' format.

    Args:
        device: where to put it, as torch names devices.
        dtype: "float32", "bfloat16" or "float16".

    Raises `MaquetteError` for an unknown name, a folder that is none or a missing part.
    """
    if dtype not in DTYPES:
        raise MaquetteError(unknown("dtype", dtype, list(DTYPES)))
    folder = _folder(str(name))

    def part(of: str, read: Callable[..., T]) -> T:
        return _part(folder, of, read, torch_dtype=DTYPES[dtype])

    autoencoder = part("vae", AutoencoderKL.from_pretrained).to(device)
    unet = part("unet", UNet2DConditionModel.from_pretrained).to(device).eval()
    text_encoder = _part(folder, "text_encoder", CLIPTextModel.from_pretrained, dtype=DTYPES[dtype]).to(device)
    schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    downscale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    return Base(
        name=str(name),
        backbone=UNetBackbone(unet, schedule.get("prediction_type", "epsilon"), downscale),
        autoencoder=autoencoder,
        text_encoder=text_encoder,
        tokenizer=_part(folder, "tokenizer", CLIPTokenizer.from_pretrained),
        schedule=schedule,
    )


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
    try:
        return read(str(folder / of), local_files_only=True, **settings)
    except OSError as error:
        first = str(error).splitlines()[0]
        raise MaquetteError(
            f"The base in {str(folder)!r} has no usable {of} ({first}); fetch the folder anew."
        ) from error
