"""Bases: the bundled one, a folder in diffusers' format, or one from the Hub."""

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from maquette.backbones.unet import UNetBackbone
from maquette.base import Base
from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown
from maquette.text import Clip

BUNDLED = {"diorama": "weights/diorama/base"}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

T = TypeVar("T")


def load_base(name: str | Path, device: str = "cpu", dtype: str | torch.dtype = "float32") -> Base:
    """Load a base: "diorama", which is bundled, or a folder in diffusers' format (SD 1.x, 2.x, XL).

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
    autoencoder = _part(folder, "vae", AutoencoderKL, torch_dtype=precision).to(place)
    unet = _part(folder, "unet", UNet2DConditionModel, torch_dtype=precision).to(place).eval()
    schedule = _settings(folder, "scheduler", DDIMScheduler.load_config)
    downscale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    backbone = UNetBackbone(unet, schedule.get("prediction_type", "epsilon"), downscale)
    first, second = _clip(folder, "", CLIPTextModel, place, precision), None
    if backbone.text.pooled_width is not None:
        second = _clip(folder, "_2", CLIPTextModelWithProjection, place, precision)
    index = json.loads((folder / "model_index.json").read_text())
    return Base(
        str(name),
        backbone,
        autoencoder,
        first.encoder,
        first.tokenizer,
        schedule,
        unet.config.sample_size * downscale,
        second,
        blank_is_zero=second is not None and index.get("force_zeros_for_empty_prompt", False),
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


def _clip(folder: Path, number: str, kind: Any, place: torch.device, precision: torch.dtype) -> Clip:
    encoder = _part(folder, f"text_encoder{number}", kind, dtype=precision).to(place)
    return Clip(encoder, _settings(folder, f"tokenizer{number}", CLIPTokenizer.from_pretrained))


def _part(folder: Path, of: str, kind: Any, **settings: Any) -> Any:
    """One network of a base; in the fp16 variant where that is all there is."""
    names = [path.name for path in (folder / of).glob("*.safetensors*")]
    if names and all(".fp16." in name for name in names):
        settings["variant"] = "fp16"
    return _settings(folder, of, kind.from_pretrained, **settings)


def _settings(folder: Path, of: str, read: Callable[..., T], **settings: Any) -> T:
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
