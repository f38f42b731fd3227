"""Flux.1: a transformer, a CLIP text encoder and T5."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import FluxTransformer2DModel
from transformers import CLIPTextModel

from maquette.backbones.protocol import Backbone
from maquette.backbones.transformers.flux import FluxBackbone
from maquette.base import Base, Defaults
from maquette.checkpoints.families import TransformerFamily, register
from maquette.checkpoints.networks import filled, part_config, part_weights, read_clip, read_t5
from maquette.formats import configurations
from maquette.formats.transformers import flux
from maquette.formats.transformers.known import FLUX
from maquette.foundation.devices import Placement
from maquette.text.conditioning import TextEncoder
from maquette.text.flux import FluxText

SIZE = 1024  # of the images it was trained on, pixels, where the autoencoder's configuration says nothing
TOKENS, TOKENS_UNGUIDED = 512, 256  # of T5, as in diffusers and in the original code of FLUX.1-schnell


@register
class Flux(TransformerFamily):
    name = FluxBackbone.family
    format = FLUX
    network_class = flux.TRANSFORMER
    controlnet_class = flux.CONTROLNET
    defaults = Defaults(steps=28, guidance=1.0, sampler="euler")  # the distilled guidance is another one

    def read_network(self, folder: Path, where: Placement, downscale: int) -> tuple[Backbone, int]:
        weights = self.folder_network(part_weights(folder, self.part))
        config = part_config(folder, self.part, configurations.FLUX, tensors=len(weights))
        transformer = filled(lambda: FluxTransformer2DModel.from_config(config), weights, where)
        size = part_config(folder, "vae", configurations.VAE).get("sample_size", SIZE)
        return FluxBackbone(transformer, downscale), size

    def read_text(self, folder: Path, where: Placement, index: Mapping[str, Any], backbone: Backbone) -> TextEncoder:
        length = TOKENS if backbone.text.guided else TOKENS_UNGUIDED
        t5 = read_t5(folder, "_2", where, length)
        return FluxText(read_clip(folder, "", CLIPTextModel, where), t5, backbone.text.width)

    def pipeline(self, base: Base) -> dict[str, object]:
        unused: dict[str, object] = {"feature_extractor": [None, None], "image_encoder": [None, None]}
        return {"_class_name": "FluxPipeline", **unused}
