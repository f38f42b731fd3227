"""Bases: the bundled one, a folder in diffusers' format, a file in the original layout, or one from the Hub."""

import json
import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from maquette.backbones.protocol import Prediction
from maquette.backbones.unet import UNetBackbone
from maquette.base import Base
from maquette.checkpoints.networks import filled, filled_clip, filled_vae, part_weights
from maquette.checkpoints.original import TOKENIZER, load_original_base, read_unet
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.devices import Placement, find_placement
from maquette.foundation.hub import is_hub_id, snapshot
from maquette.foundation.weights import Weights, find_weights, open_weights
from maquette.text import Clip, read_tokenizer, read_words

BUNDLED = {"diorama": "weights/diorama/base"}
HUB_FILES = ("*.json", "*/*.json", "*/*.txt", "unet/*.safetensors", "vae/*.safetensors", "text_encoder*/*.safetensors")
PICKLED_FILES = ("*.json", "*/*.json", "*/*.txt", "unet/*.bin", "vae/*.bin", "text_encoder*/*.bin")

T = TypeVar("T")


def load_base(
    name: str | Path,
    device: str = "cpu",
    dtype: str | torch.dtype = "float32",
    *,
    low_memory: bool = False,
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
        low_memory: keep weights in the CPU's memory, and on the device only the part at work: the text encoders, then
            the U-Net and ControlNets, then the autoencoder. Slower, by the time that moving them takes.
        prediction: of a file that does not say it: see `load_original_base`.
        tokenizer: of a file, which has none: its folder, or its name on the Hub.
        token: for what is not public on the Hub.

    Raises `MaquetteError` for an unknown name, a device that is not there, or a part that is missing or broken.
    """
    path, where = _path(str(name), token), find_placement(device, dtype)
    home = where._replace(device=torch.device("cpu")) if low_memory else where
    if path.is_file():
        base = load_original_base(path, None, prediction, tokenizer, str(home.device), home.dtype)
    else:
        base = _load_folder(str(name), path, home, prediction)
    if where.device != home.device:
        base.work_on = where.device
    elif low_memory:
        warnings.warn("low_memory has no effect on the CPU: leave it out.", MaquetteWarning, stacklevel=2)
    return base


def base_weights(name: str | Path, token: str | None = None) -> Weights:
    """The weights of a base's U-Net under diffusers' names, unread."""
    path = _path(str(name), token)
    if path.is_file():
        return read_unet(open_weights(path))
    return part_weights(path, "unet")


def _load_folder(name: str, folder: Path, where: Placement, asked: Prediction | None) -> Base:
    index = _settings(folder, ".", lambda path: json.loads((path / "model_index.json").read_text()))
    schedule = _schedule(folder, asked)
    vae_config = _settings(folder, "vae", AutoencoderKL.load_config)
    autoencoder = filled_vae(vae_config, part_weights(folder, "vae"), where)
    unet_config = _settings(folder, "unet", UNet2DConditionModel.load_config)
    unet = filled(lambda: UNet2DConditionModel.from_config(unet_config), part_weights(folder, "unet"), where)
    downscale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    backbone = UNetBackbone(unet, schedule.get("prediction_type", "epsilon"), downscale)
    clips = [_clip(folder, "", CLIPTextModel, where)]
    if backbone.text.pooled_width is not None:
        clips.append(_clip(folder, "_2", CLIPTextModelWithProjection, where))
    size = _side(unet.config.sample_size, folder) * downscale
    blank_is_zero = len(clips) == 2 and index.get("force_zeros_for_empty_prompt", False)
    return Base(name, backbone, autoencoder, clips, schedule, size, blank_is_zero)


def _schedule(folder: Path, asked: Prediction | None) -> dict[str, Any]:
    """The noise schedule's configuration, which says what the U-Net predicts."""
    schedule: dict[str, Any] = _settings(folder, "scheduler", DDIMScheduler.load_config)
    kind = str(schedule.get("_class_name", ""))
    if kind.startswith(("EDM", "FlowMatch")):
        raise MaquetteError(
            f"The base in {str(folder)!r} is trained on the schedule of a {kind}, which no ControlNet here was; give a "
            "base with DDPM's steps."
        )
    said = schedule.get("prediction_type", "epsilon")
    if asked is not None and asked != said:
        raise MaquetteError(f"The base in {str(folder)!r} says that it predicts {said!r}, not {asked!r}; leave it out.")
    return schedule


def _side(size: Any, folder: Path) -> int:
    """Of the latents it was trained on; the longer one of two."""
    sides = size if isinstance(size, list | tuple) else [size]
    if not sides or not all(isinstance(side, int) for side in sides):
        raise MaquetteError(
            f"The U-Net in {str(folder)!r} does not say its sample_size; write it into its config.json."
        )
    return max(sides)


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
        if not find_weights(folder / "unet"):
            folder = snapshot(name, PICKLED_FILES, ("*.fp16.*", "*non_ema*"), token)
        return folder
    hint = "is a folder without a model_index.json" if path.exists() else "does not exist"
    raise MaquetteError(
        f"There is no base {name!r}: it is not bundled ({', '.join(BUNDLED)}) and the path {hint}; give 'diorama', "
        "a folder in diffusers' format, a file in the original layout, or org/name on the Hub."
    )


def _clip(folder: Path, number: str, kind: Any, where: Placement) -> Clip:
    part = f"text_encoder{number}"
    config = _settings(folder, part, CLIPTextConfig.from_pretrained)
    encoder = filled_clip(kind, config, part_weights(folder, part), where)
    tokenizer = _settings(folder, f"tokenizer{number}", read_tokenizer)
    return Clip(encoder, tokenizer, read_words(folder / f"tokenizer{number}"))


def _settings(folder: Path, of: str, read: Callable[[Path], T]) -> T:
    """What a part of a base says of itself; whatever its reader stumbles over becomes a sentence."""
    if not (folder / of).is_dir():
        raise MaquetteError(f"The base in {str(folder)!r} has no folder {of!r}; fetch it anew.")
    try:
        return read(folder / of)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise MaquetteError(
            f"The {of} of the base in {str(folder)!r} cannot be read ({reason}); fetch it anew."
        ) from error
