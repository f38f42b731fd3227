"""A base written as a folder in diffusers' format."""

import json
from pathlib import Path

from torch import nn

from maquette.base import Base, Defaults
from maquette.checkpoints import stable_diffusion  # noqa: F401 - it registers its family
from maquette.checkpoints.families import family_named
from maquette.errors import MaquetteError
from maquette.foundation.files import atomic_write

SCHEDULE = "scheduler_config.json"
DEFAULTS = "maquette.json"  # steps, guidance and sampler that suit the base


def save_base(base: Base, folder: Path, network: nn.Module | None = None) -> None:
    """Write all parts of a base, each in the dtype it has; `load_base` and diffusers take the folder.

    Args:
        network: its backbone's, where another one's weights are to be kept.

    Raises `MaquetteError` where a part is missing.
    """
    if base.text_encoder is None:
        raise MaquetteError(f"The base {base.name!r} came without a text encoder; one without it cannot be kept.")
    family, kept = family_named(base.backbone.family), network or base.backbone.network
    base.autoencoder.save_pretrained(folder / "vae")
    kept.save_pretrained(folder / family.part)  # type: ignore[operator]
    index: dict[str, object] = {
        "_class_name": "DiffusionPipeline",
        "scheduler": ["diffusers", base.schedule.get("_class_name", "DDIMScheduler")],
        **base.text.save(folder),
        family.part: ["diffusers", family.network_class],
        "vae": ["diffusers", "AutoencoderKL"],
        **family.pipeline(base),
    }
    for path, words in ((folder / "scheduler" / SCHEDULE, base.schedule), (folder / "model_index.json", index)):
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(words, indent=2) + "\n")
    write_defaults(base.defaults, folder)


def write_defaults(defaults: Defaults, folder: Path) -> None:
    """Write what suits a base into its folder, where `load_base` finds it."""
    with atomic_write(folder / DEFAULTS) as path:
        path.write_text(json.dumps(vars(defaults)) + "\n")
