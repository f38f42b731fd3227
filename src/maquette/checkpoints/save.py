"""A base written as a folder in diffusers' format."""

import json
from pathlib import Path

from torch import nn

from maquette.base import Base, Defaults
from maquette.errors import MaquetteError
from maquette.foundation.files import written_whole

SCHEDULE = "scheduler_config.json"
DEFAULTS = "maquette.json"  # steps, guidance and sampler that suit the base


def save_base(base: Base, folder: Path, network: nn.Module | None = None) -> None:
    """Write all parts of a base, each in the dtype it has; `load_base` and diffusers take the folder.

    Args:
        network: its backbone's, where another one's weights are to be kept.

    Raises `MaquetteError` where a part is missing.
    """
    if not base.clips:
        raise MaquetteError(f"The base {base.name!r} came without a text encoder; one without it cannot be kept.")
    base.autoencoder.save_pretrained(folder / "vae")
    (network or base.backbone.network).save_pretrained(folder / "unet")  # type: ignore[operator]
    for number, clip in zip(("", "_2"), base.clips, strict=False):
        clip.encoder.save_pretrained(folder / f"text_encoder{number}")
        clip.tokenizer.save_pretrained(folder / f"tokenizer{number}")  # type: ignore[union-attr]
    with written_whole(folder / "scheduler" / SCHEDULE) as path:
        path.write_text(json.dumps(base.schedule, indent=2) + "\n")
    write_defaults(base.defaults, folder)
    with written_whole(folder / "model_index.json") as path:
        path.write_text(json.dumps(_index(base), indent=2) + "\n")


def write_defaults(defaults: Defaults, folder: Path) -> None:
    """Write what suits a base into its folder, where `load_base` finds it."""
    with written_whole(folder / DEFAULTS) as path:
        path.write_text(json.dumps(vars(defaults)) + "\n")


def _index(base: Base) -> dict[str, object]:
    """Which classes read the parts, in diffusers' words."""
    double = len(base.clips) == 2
    parts: dict[str, object] = {
        "_class_name": "StableDiffusionXLPipeline" if double else "StableDiffusionPipeline",
        "scheduler": ["diffusers", base.schedule.get("_class_name", "DDIMScheduler")],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
    }
    if double:
        return parts | {
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "force_zeros_for_empty_prompt": base.blank_is_zero,
        }
    return parts | {"safety_checker": [None, None], "requires_safety_checker": False}
