"""Loading and saving tiny decoders: folders of diffusers' `AutoencoderTiny`, of which the encoder is left alone."""

import json
from pathlib import Path
from typing import Any

import torch

from maquette.backbones.tiny_decoder import TinyDecoder
from maquette.base import Base
from maquette.checkpoints.networks import filled
from maquette.errors import MaquetteError
from maquette.formats.configurations import TINY_DECODER
from maquette.formats.write import write_weights
from maquette.foundation.devices import Placement
from maquette.foundation.files import atomic_write
from maquette.foundation.reading.documents import read_json
from maquette.foundation.reading.networks import check_network
from maquette.foundation.weights import find_weights, open_weights

FOLDER = "tiny_decoder"  # of a base, where it has one of its own


def load_tiny_decoder(base: Base, folder: str | Path) -> TinyDecoder:
    """Give a base another tiny decoder, for `decoder="tiny"`, `speed="draft"` and previews; returns it.

    Args:
        folder: in diffusers' format, as those of TAESD are published: config.json and weights.

    Raises `MaquetteError` for a folder that is missing or holds none, and for one of another family's latents.
    """
    decoder = _read(base, Path(folder), str(folder))
    expected = (base.backbone.latent_channels, base.backbone.downscale)
    if (decoder.latent_channels, decoder.downscale) != expected:
        raise MaquetteError(
            f"The tiny decoder in {str(folder)!r} takes latents of {decoder.latent_channels} channels and enlarges "
            f"them {decoder.downscale} times, the base {base.name!r} has {expected[0]} and {expected[1]}; take the one "
            "that was trained for its family."
        )
    base.tiny_decoder = decoder
    return decoder


def load_own(base: Base, folder: Path) -> None:
    """Give a base the tiny decoder in its own folder, where there is one.

    Raises `MaquetteError` if it is broken.
    """
    if (folder / FOLDER).is_dir():
        base.tiny_decoder = _read(base, folder / FOLDER, None)


def _read(base: Base, folder: Path, name: str | None) -> TinyDecoder:
    weights_path = find_weights(folder) if folder.is_dir() else None
    if weights_path is None or not (folder / "config.json").is_file():
        raise MaquetteError(
            f"There is no tiny decoder in {str(folder)!r}; give a folder of diffusers' AutoencoderTiny, with "
            "config.json and weights, such as a download of madebyollin/taesd."
        )
    stored = open_weights(weights_path)
    config = _config(folder, len(stored))
    weights = stored.renamed({key: key for key in stored if key.startswith("decoder.")})
    return filled(lambda: TinyDecoder(config, name), weights, Placement(base.offload_device, base.dtype))


def _config(folder: Path, tensors: int) -> dict[str, Any]:
    source = str(folder / "config.json")
    try:
        values = read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        raise MaquetteError(f"{source!r} cannot be read ({error}); download it again.") from error
    return check_network(values, TINY_DECODER, tensors, source)


def save_tiny_decoder(decoder: TinyDecoder, folder: Path) -> None:
    """Write a folder that `load_tiny_decoder` reads, in half precision."""
    with atomic_write(folder / "config.json") as path:
        path.write_text(json.dumps(decoder.config, indent=2) + "\n", "utf-8")
    tensors = {name: value.detach().to(torch.float16) for name, value in decoder.state_dict().items()}
    write_weights(tensors, folder / "diffusion_pytorch_model.safetensors", {})
