"""Saving a base as a folder in diffusers' format."""

import json
from pathlib import Path

from torch import nn

from maquette.base import Base, Defaults
from maquette.checkpoints import flux, qwen_image, stable_diffusion, stable_diffusion_3, z_image  # noqa: F401 - they register
from maquette.checkpoints.families import family_named
from maquette.checkpoints.tiny_decoder import FOLDER, save_tiny_decoder
from maquette.errors import MaquetteError
from maquette.foundation.files import atomic_files, atomic_write

SCHEDULE = "scheduler_config.json"
DEFAULTS = "maquette.json"  # recommended steps, guidance and sampler


def save_base(base: Base, folder: Path, network: nn.Module | None = None) -> None:
    """Write all parts of a base in their current dtypes; `load_base` and diffusers can load the folder.

    Args:
        network: saved instead of the backbone's own, for example one with averaged weights.

    Raises `MaquetteError` if a part is missing.
    """
    if base.text_encoder is None:
        raise MaquetteError(f"The base {base.name!r} came without a text encoder; a base without one cannot be saved.")
    family, network = family_named(base.backbone.family), network or base.backbone.network
    with atomic_files(folder) as temporary:
        base.autoencoder.save_pretrained(temporary / "vae")
        network.save_pretrained(temporary / family.part)  # type: ignore[operator]
        text = base.text.save(temporary)
    index: dict[str, object] = {
        "_class_name": "DiffusionPipeline",
        "scheduler": ["diffusers", base.scheduler_config.get("_class_name", "DDIMScheduler")],
        **text,
        family.part: ["diffusers", family.network_class],
        "vae": ["diffusers", family.autoencoder_class],
        **family.pipeline(base),
    }
    schedule_path, index_path = folder / "scheduler" / SCHEDULE, folder / "model_index.json"
    for path, values in ((schedule_path, base.scheduler_config), (index_path, index)):
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n")
    if base.tiny_decoder is not None:
        save_tiny_decoder(base.tiny_decoder, folder / FOLDER)
    write_defaults(base.defaults, folder)


def write_defaults(defaults: Defaults, folder: Path) -> None:
    """Write a base's recommended settings into its folder, where `load_base` finds them."""
    with atomic_write(folder / DEFAULTS) as path:
        path.write_text(json.dumps(vars(defaults)) + "\n")
