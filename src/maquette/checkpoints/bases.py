"""Bases: the bundled one, a folder in diffusers' format, a file in the original layout, or one from the Hub."""

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from maquette.backbones.protocol import Prediction
from maquette.backbones.unet import UNetBackbone
from maquette.base import Base
from maquette.checkpoints.hub import is_hub_id, snapshot
from maquette.checkpoints.original import TOKENIZER, load_original_base, read_unet
from maquette.errors import MaquetteError
from maquette.formats.weights import Weights, open_weights
from maquette.foundation.devices import find_device, find_dtype
from maquette.text import Clip, read_tokenizer

BUNDLED = {"diorama": "weights/diorama/base"}
HUB_FILES = ("*.json", "*/*.json", "*/*.txt", "unet/*.safetensors", "vae/*.safetensors", "text_encoder*/*.safetensors")

T = TypeVar("T")


def load_base(
    name: str | Path,
    device: str = "cpu",
    dtype: str | torch.dtype = "float32",
    *,
    prediction: Prediction | None = None,
    tokenizer: str | Path = TOKENIZER,
    token: str | None = None,
) -> Base:
    """Load a base: SD 1.x, 2.x, XL, or the diorama's.

    Args:
        name: "diorama", which is bundled; a folder in diffusers' format; a .safetensors or .ckpt file in the original
            layout; or org/name[@revision] on the Hub.
        device: where to put it, as torch names devices; "auto" for the fastest there is.
        dtype: "float32", "bfloat16", "float16"; "auto" for bfloat16 where the hardware has it, else float32.
        prediction: of a file that does not say it: see `load_original_base`.
        tokenizer: of a file, which has none: its folder, or its name on the Hub.
        token: for what is not public on the Hub.

    Raises `MaquetteError` for an unknown name, a device that is not there, or a part that is missing or broken.
    """
    path = _path(str(name), token)
    if path.is_file():
        return load_original_base(path, None, prediction, tokenizer, device, dtype)
    place = find_device(device)
    return _load_folder(str(name), path, place, find_dtype(dtype, place))


def base_weights(name: str | Path, token: str | None = None) -> Weights:
    """The weights of a base's U-Net under diffusers' names, unread."""
    path = _path(str(name), token)
    if path.is_file():
        return read_unet(open_weights(path))
    for file in ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"):
        for found in (path / "unet" / f"{file}.index.json", path / "unet" / file):
            if found.is_file():
                return open_weights(found)
    raise MaquetteError(f"The base in {str(path)!r} has no weights in its folder 'unet'; fetch it anew.")


def _load_folder(name: str, folder: Path, place: torch.device, precision: torch.dtype) -> Base:
    autoencoder = _part(folder, "vae", AutoencoderKL, torch_dtype=precision).to(place)
    unet = _part(folder, "unet", UNet2DConditionModel, torch_dtype=precision).to(place).eval()
    schedule = _settings(folder, "scheduler", DDIMScheduler.load_config)
    downscale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    backbone = UNetBackbone(unet, schedule.get("prediction_type", "epsilon"), downscale)
    clips = [_clip(folder, "", CLIPTextModel, place, precision)]
    if backbone.text.pooled_width is not None:
        clips.append(_clip(folder, "_2", CLIPTextModelWithProjection, place, precision))
    index = json.loads((folder / "model_index.json").read_text())
    size = unet.config.sample_size * downscale
    blank_is_zero = len(clips) == 2 and index.get("force_zeros_for_empty_prompt", False)
    return Base(name, backbone, autoencoder, clips, schedule, size, blank_is_zero)


def _path(name: str, token: str | None) -> Path:
    """The file or folder of a base; what stands on the Hub is fetched."""
    if name in BUNDLED:
        return Path(str(files("maquette"))) / BUNDLED[name]
    path = Path(name)
    if path.is_file() or (path / "model_index.json").is_file():
        return path
    if not path.exists() and is_hub_id(name):
        folder = snapshot(name, HUB_FILES, ("*.fp16.*", "*non_ema*"), token)
        if not list((folder / "unet").glob("*.safetensors")):
            folder = snapshot(name, HUB_FILES, ("*non_ema*",), token)
        return folder
    hint = "is a folder without a model_index.json" if path.exists() else "does not exist"
    raise MaquetteError(
        f"There is no base {name!r}: it is not bundled ({', '.join(BUNDLED)}) and the path {hint}; give 'diorama', "
        "a folder in diffusers' format, a file in the original layout, or org/name on the Hub."
    )


def _clip(folder: Path, number: str, kind: Any, place: torch.device, precision: torch.dtype) -> Clip:
    encoder = _part(folder, f"text_encoder{number}", kind, dtype=precision).to(place)
    return Clip(encoder, _settings(folder, f"tokenizer{number}", read_tokenizer))


def _part(folder: Path, of: str, kind: Any, **settings: Any) -> Any:
    """One network of a base; in the fp16 variant where that is all there is."""
    names = [path.name for path in (folder / of).glob("*.safetensors*")]
    if names and all(".fp16." in name for name in names):
        settings["variant"] = "fp16"
    return _settings(folder, of, kind.from_pretrained, local_files_only=True, **settings)


def _settings(folder: Path, of: str, read: Callable[..., T], **settings: Any) -> T:
    """One part of a base; whatever its reader stumbles over becomes a sentence."""
    if not (folder / of).is_dir():
        raise MaquetteError(f"The base in {str(folder)!r} has no folder {of!r}; fetch it anew.")
    try:
        return read(folder / of, **settings)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise MaquetteError(
            f"The {of} of the base in {str(folder)!r} cannot be read ({reason}); fetch it anew."
        ) from error
