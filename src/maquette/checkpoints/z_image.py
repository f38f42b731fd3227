"""Z-Image: a transformer, Qwen3 as its text encoder, and Flux's autoencoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model

from maquette.backbones.protocol import Backbone
from maquette.backbones.transformers.zimage import ZImageBackbone
from maquette.base import Base, Defaults
from maquette.checkpoints.families import TransformerFamily, register
from maquette.checkpoints.networks import at_least, filled, part_config, part_settings, part_weights, renew_positions
from maquette.formats import configurations
from maquette.formats.transformers import zimage
from maquette.formats.transformers.known import ZIMAGE
from maquette.foundation.devices import Placement
from maquette.foundation.weights import Weights
from maquette.text.conditioning import TextEncoder
from maquette.text.language import read_qwen_tokenizer
from maquette.text.qwen3 import Qwen3Text

SIZE = 1024  # pixels; its configurations do not say it


@register
class ZImage(TransformerFamily):
    name = ZImageBackbone.family
    format = ZIMAGE
    network_class = zimage.TRANSFORMER
    controlnet_class = zimage.CONTROLNET
    defaults = Defaults(steps=50, guidance=6.0, sampler="euler")  # diffusers' 5, which counts from 0

    def read_network(self, folder: Path, where: Placement, downscale: int) -> tuple[Backbone, int]:
        weights = self.folder_network(part_weights(folder, self.part))
        config = part_config(folder, self.part, configurations.ZIMAGE, tensors=len(weights))
        transformer = filled(lambda: ZImageTransformer2DModel.from_config(config), weights, where)
        return ZImageBackbone(transformer, downscale), SIZE

    def read_text(self, folder: Path, where: Placement, index: Mapping[str, Any], backbone: Backbone) -> TextEncoder:
        """In bfloat16 instead of float16, which is too narrow for its states; without the layer that names words."""
        weights = part_weights(folder, "text_encoder")
        values = part_config(folder, "text_encoder", configurations.LANGUAGE, tensors=len(weights))
        config = part_settings(folder, "text_encoder", lambda _: Qwen3Config.from_dict(values))
        network = filled(lambda: Qwen3Model(config), _body(weights), at_least(torch.bfloat16, where))
        renew_positions(network, where)
        tokenizer = part_settings(folder, "tokenizer", read_qwen_tokenizer)
        return Qwen3Text(network, tokenizer, backbone.text.width, where.dtype)

    def pipeline(self, base: Base) -> dict[str, object]:
        return {"_class_name": "ZImagePipeline"}


def _body(weights: Weights) -> Weights:
    """A language model's tensors below its head, whose file may hold both."""
    return weights.below("model.") if "model.embed_tokens.weight" in weights else weights
