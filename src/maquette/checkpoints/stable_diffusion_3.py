"""Stable Diffusion 3 and 3.5: a transformer, two CLIP text encoders and T5, which may be missing."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import SD3Transformer2DModel
from transformers import CLIPTextModelWithProjection

from maquette.backbones.protocol import Backbone
from maquette.backbones.transformers.sd3 import SD3Backbone
from maquette.base import Base, Defaults
from maquette.checkpoints.families import TransformerFamily, register
from maquette.checkpoints.networks import filled, part_config, part_weights, read_clip, read_t5
from maquette.checkpoints.original.parts import TOKENIZER
from maquette.checkpoints.original.stable_diffusion_3 import load
from maquette.errors import MaquetteWarning
from maquette.formats import configurations
from maquette.formats.transformers import sd3
from maquette.formats.transformers.known import SD3
from maquette.foundation.devices import Placement
from maquette.foundation.weights import open_weights
from maquette.noise.process import Prediction
from maquette.text.conditioning import TextEncoder
from maquette.text.sd3 import T5_TOKENS, SD3Text

_ENCODER, _TOKENIZER = "text_encoder_3", "tokenizer_3"
_T5 = {_ENCODER: "T5EncoderModel", _TOKENIZER: "T5TokenizerFast"}


@register
class StableDiffusion3(TransformerFamily):
    name = SD3Backbone.family
    format = SD3
    network_class = sd3.TRANSFORMER
    controlnet_class = sd3.CONTROLNET
    defaults = Defaults(steps=28, guidance=7.0, sampler="euler")  # those of diffusers' pipeline

    def read_network(self, folder: Path, where: Placement, downscale: int) -> tuple[Backbone, int]:
        weights = self.folder_network(part_weights(folder, self.part))
        config = part_config(folder, self.part, configurations.MMDIT, tensors=len(weights))
        transformer = filled(lambda: SD3Transformer2DModel.from_config(config), weights, where)
        return SD3Backbone(transformer, downscale), transformer.config.sample_size * downscale

    def read_text(self, folder: Path, where: Placement, index: Mapping[str, Any], backbone: Backbone) -> TextEncoder:
        """Both CLIPs, and T5 if its folder is there; a base that names it and lacks it warns."""
        first, second = (read_clip(folder, number, CLIPTextModelWithProjection, where) for number in ("", "_2"))
        if (folder / _ENCODER).is_dir():
            return SD3Text(first, second, backbone.text.width, read_t5(folder, "_3", where, T5_TOKENS))
        left_out = bool((index.get(_ENCODER) or [None])[0])
        if left_out:
            warnings.warn(
                f"The base in {str(folder)!r} came without T5 (text_encoder_3): prompts are read by CLIP alone, up to "
                "75 tokens, and long descriptions and writing in images suffer; download that folder and tokenizer_3 "
                "for it.",
                MaquetteWarning,
                stacklevel=4,
            )
        return SD3Text(first, second, backbone.text.width, blank=T5_TOKENS if left_out else 0)

    def pipeline(self, base: Base) -> dict[str, object]:
        unused: dict[str, object] = {"feature_extractor": [None, None], "image_encoder": [None, None]}
        text = base.text
        had_t5 = isinstance(text, SD3Text) and (text.t5 is not None or text.blank > 0)
        third = {part: ["transformers", name] if had_t5 else [None, None] for part, name in _T5.items()}
        return {"_class_name": "StableDiffusion3Pipeline", **unused, **third}

    def read_file(
        self,
        path: Path,
        where: Placement,
        prediction: Prediction | None = None,
        tokenizer: str | Path = TOKENIZER,
        **settings: Any,
    ) -> Base:
        weights = open_weights(path)
        self.file_prediction(weights, prediction)
        return load(weights, where, tokenizer, self.defaults)
