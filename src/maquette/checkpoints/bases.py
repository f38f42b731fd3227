"""Loading bases: the bundled one, a folder in diffusers' format, a file in the original layout, or one from the Hub."""

from pathlib import Path
from typing import Any

import torch

from maquette.base import Base, Defaults
from maquette.checkpoints import flux, qwen_image, stable_diffusion, stable_diffusion_3, z_image  # noqa: F401 - they register
from maquette.checkpoints.families import Family, family_of_file, family_of_folder
from maquette.checkpoints.names import local_base
from maquette.checkpoints.networks import part_config, part_settings, part_weights
from maquette.checkpoints.original.parts import TOKENIZER
from maquette.checkpoints.save import DEFAULTS
from maquette.checkpoints.tiny_decoder import load_own
from maquette.errors import MaquetteError
from maquette.formats.configurations import DEFAULTS as DEFAULTS_RULES
from maquette.formats.configurations import INDEX, SCHEDULE
from maquette.foundation.devices import Placement, find_placement
from maquette.foundation.hub import snapshot
from maquette.foundation.reading.documents import read_json
from maquette.foundation.reading.rules import check_values
from maquette.foundation.weights import Weights, find_weights, open_weights
from maquette.noise.config import noise_process
from maquette.noise.process import Prediction

_NETWORKS = ("unet", "transformer")
_SETTINGS = ("*.json", "*/*.json", "*/*.txt", "tokenizer*/*.model")
HUB_FILES, PICKLED_FILES = (
    (*_SETTINGS, *(f"{part}/*.{suffix}" for part in (*_NETWORKS, "vae", "text_encoder*")))
    for suffix in ("safetensors", "bin")
)


def load_base(
    name: str | Path,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    *,
    low_memory: bool = False,
    prediction: Prediction | None = None,
    tokenizer: str | Path = TOKENIZER,
    token: str | None = None,
) -> Base:
    """Load a base: Stable Diffusion 1.x, 2.x, XL, 3 and 3.5, Flux.1, Qwen-Image, Z-Image, or the diorama's two.

    Args:
        name: "diorama" or "diorama-mmdit", which are bundled; a folder in diffusers' format; a .safetensors or .ckpt
            file in the original layout; or org/name[@revision] on the Hub.
        device: a device name as in torch; "auto" for the fastest one available.
        dtype: "float32", "bfloat16", "float16"; "auto" for bfloat16 on a GPU that has it, else float32.
        low_memory: keep weights in CPU memory, and on the device only the part in use: the text encoders, then the
            U-Net and ControlNets, then the autoencoder. Slower by the time it takes to move them. Images are decoded
            one by one, and in bands of rows, on the CPU too: the same up to rounding, in about twice the time.
        prediction: for files that do not say it: see `load_original_base`.
        tokenizer: for files, which contain none: its folder, or its name on the Hub; for Stable Diffusion 3 also a
            folder that has all three below it, as a base in diffusers' format.
        token: access token for private repositories on the Hub.

    Raises `MaquetteError` for an unknown name, an unavailable device, or a missing or broken part.
    """
    path, where = _path(str(name), token), find_placement(device, dtype)
    offload = where._replace(device=torch.device("cpu")) if low_memory else where
    if path.is_file():
        family = family_of_file(open_weights(path))
        base = family.read_file(path, offload, prediction=prediction, tokenizer=tokenizer)
        base.requested_prediction = prediction
    else:
        base = _load_folder(str(name), path, offload, prediction)
    base.low_memory = low_memory
    if where.device != offload.device:
        base.execution_device = where.device
    return base


def base_prediction(name: str | Path, prediction: Prediction | None = None, token: str | None = None) -> str | None:
    """What a base predicts: a `Prediction`; None for a file that does not say it, of a family that has several.

    Args:
        prediction: as for `load_base`.

    Raises `MaquetteError` for a base that says otherwise, or cannot be read.
    """
    path = _path(str(name), token)
    if path.is_file():
        weights = open_weights(path)
        return family_of_file(weights).file_prediction(weights, prediction)
    return noise_process(_scheduler_config(path, prediction, family_of_folder(path, _index(path)))).prediction


def base_weights(name: str | Path, token: str | None = None) -> Weights:
    """The weights of a base's network under diffusers' names, loaded lazily."""
    path = _path(str(name), token)
    if path.is_file():
        weights = open_weights(path)
        return family_of_file(weights).file_network(weights)
    family = family_of_folder(path, _index(path))
    return family.folder_network(part_weights(path, family.part))


def _load_folder(name: str, folder: Path, where: Placement, prediction: Prediction | None) -> Base:
    index = _index(folder)
    family = family_of_folder(folder, index)
    autoencoder, downscale = family.read_autoencoder(folder, where)
    scheduler_config = _scheduler_config(folder, prediction, family)
    backbone, size = family.read_network(folder, where, downscale)
    text = family.read_text(folder, where, index, backbone)
    defaults = _defaults(folder, scheduler_config) or family.defaults
    base = Base(name, backbone, autoencoder, text, scheduler_config, size, defaults)
    load_own(base, folder)
    return base


def _defaults(folder: Path, scheduler_config: dict[str, Any]) -> Defaults | None:
    """Steps, guidance and sampler from the base's folder; None if it has none.

    Raises `MaquetteError` if they are not as `save_base` writes them.
    """
    path = folder / DEFAULTS
    if not path.exists():
        return None
    try:
        stated = check_values(read_json(path), DEFAULTS_RULES, str(path))
        defaults = Defaults(**{"sampler": noise_process(scheduler_config).samplers[0], **stated})
    except (OSError, ValueError, TypeError) as error:
        raise MaquetteError(
            f"The {DEFAULTS} of the base in {str(folder)!r} cannot be read ({error}); it holds steps, guidance and "
            'sampler, as in {"steps": 20, "guidance": 9.0, "sampler": "ddim"}. Fix or delete it.'
        ) from error
    return defaults


def _index(folder: Path) -> dict[str, Any]:
    """The contents of model_index.json: which classes load the parts."""
    return part_config(folder, ".", INDEX, "model_index.json")


def _scheduler_config(folder: Path, prediction: Prediction | None, family: Family) -> dict[str, Any]:
    """The noise schedule's configuration, including what the network predicts."""
    config = part_config(folder, "scheduler", SCHEDULE, "scheduler_config.json")
    family.check_schedule(str(config.get("_class_name", "")), folder)
    stated = config.get("prediction_type", "epsilon")
    if prediction is not None and prediction != stated:
        raise MaquetteError(
            f"The base in {str(folder)!r} says that it predicts {stated!r}, not {prediction!r}; leave out prediction."
        )
    part_settings(folder, "scheduler", lambda _: _try_schedule(config))
    return config


def _try_schedule(config: dict[str, Any]) -> None:
    """Make a sampler on a schedule, since settings that are valid alone may not fit together."""
    process = noise_process(config)
    process.sampler(process.samplers[0], 1, 1)


def _path(name: str, token: str | None) -> Path:
    """The file or folder of a base; downloaded first if it is on the Hub."""
    path = local_base(name)
    if path is not None:
        return path
    folder = snapshot(name, HUB_FILES, ("*.fp16.*", "*non_ema*"), token)
    if not any(list((folder / part).glob("*.safetensors")) for part in _NETWORKS):
        folder = snapshot(name, HUB_FILES, ("*non_ema*",), token)
    if not any(find_weights(folder / part) for part in _NETWORKS):
        folder = snapshot(name, PICKLED_FILES, ("*.fp16.*", "*non_ema*"), token)
    return folder
