"""Stable Diffusion 3 and 3.5 in one file: the transformer, the autoencoder, and in some files text encoders.

| part | names in the file |
| --- | --- |
| transformer | model.diffusion_model., or nothing before them |
| autoencoder | first_stage_model. |
| CLIPs | text_encoders.clip_l.transformer., text_encoders.clip_g.transformer. |
| T5 | text_encoders.t5xxl.transformer. |

Configurations follow from the shapes; the autoencoder's scale and shift, and that of the noise, are those of all that
are published.
"""

import warnings
from pathlib import Path

from diffusers import SD3Transformer2DModel
from transformers import CLIPTextModelWithProjection, T5Config

from maquette.backbones.transformers.sd3 import SD3Backbone
from maquette.base import Base, Defaults
from maquette.checkpoints.networks import filled, filled_t5
from maquette.checkpoints.original.parts import read_clip, read_vae, tokenizer_from
from maquette.errors import MaquetteWarning
from maquette.formats import configurations, topology
from maquette.formats.transformers.sd3 import as_diffusers, transformer_config
from maquette.foundation.devices import Placement
from maquette.foundation.reading.rules import check_values
from maquette.foundation.weights import Weights
from maquette.text.sd3 import T5, T5_TOKENS, SD3Text, read_t5_tokenizer

TEXT = "text_encoders."
AUTOENCODER = {"scaling_factor": 1.5305, "shift_factor": 0.0609}
SCHEDULE = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
T5_TOKENIZER, T5_PART = "google/t5-v1_1-xxl", "tokenizer_3"
T5_FILES = ("tokenizer*.json", "spiece.model", "special_tokens_map.json")


def load(weights: Weights, where: Placement, tokenizer: str | Path, defaults: Defaults | None) -> Base:
    """The base in a file. It lacks the parts that the file lacks; without T5 it warns.

    Args:
        tokenizer: folder of CLIP's, or its name on the Hub; or a folder that has `tokenizer`, `tokenizer_2` and
            `tokenizer_3`, as a base in diffusers' format.

    Raises `MaquetteError` for tensors of another network, or shapes that fit none.
    """
    network, source = as_diffusers(weights), str(weights.source)
    config = check_values(transformer_config(network.shapes), configurations.MMDIT, source)
    autoencoder = read_vae(weights, where, **AUTOENCODER)
    downscale = 2 ** (len(autoencoder.config.block_out_channels) - 1) if autoencoder else 8
    backbone = SD3Backbone(filled(lambda: SD3Transformer2DModel(**config), network, where), downscale)
    text = _text(weights, tokenizer, where, backbone.text.width)
    return Base(source, backbone, autoencoder, text, SCHEDULE, config["sample_size"] * downscale, defaults)


def _text(weights: Weights, tokenizer: str | Path, where: Placement, width: int) -> SD3Text | None:
    """Both CLIPs, and T5 where the file holds it; None for a file without CLIPs."""
    clips = [weights.below(f"{TEXT}{name}.transformer.") for name in ("clip_l", "clip_g")]
    if not all(clip.shapes for clip in clips):
        return None
    first, second = (
        read_clip(CLIPTextModelWithProjection, clip, is_second, tokenizer, where, part)
        for clip, is_second, part in zip(clips, (False, True), ("tokenizer", "tokenizer_2"), strict=True)
    )
    return SD3Text(first, second, width, _t5(weights, tokenizer, where), blank=T5_TOKENS)


def _t5(weights: Weights, tokenizer: str | Path, where: Placement) -> T5 | None:
    """T5 with its tokenizer; None with a warning where either is missing."""
    t5, lacks = weights.below(f"{TEXT}t5xxl.transformer."), "holds no T5; give a file with it, or a folder"
    if t5.shapes:
        is_own = (Path(tokenizer) / T5_PART).is_dir()
        found, reason = tokenizer_from(tokenizer if is_own else T5_TOKENIZER, T5_PART, T5_FILES, read_t5_tokenizer)
        if found is not None:
            values = check_values(topology.t5_config(t5.shapes), configurations.T5, str(weights.source))
            return T5(filled_t5(T5Config(**values), t5, where), found, T5_TOKENS)
        lacks = (
            f"holds T5 without its tokenizer, and {T5_TOKENIZER!r} could not be loaded ({reason}); download it once "
            f"while online, or give a folder with {T5_PART!r} in it (tokenizer=)"
        )
    warnings.warn(
        f"{str(weights.source)!r} {lacks}. Until then prompts are read by CLIP alone, up to 75 tokens, and long "
        "descriptions and writing in images suffer.",
        MaquetteWarning,
        stacklevel=5,
    )
    return None
