"""Flux.1: a transformer, a CLIP text encoder and T5."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import FluxTransformer2DModel
from transformers import CLIPTextModel

from maquette.backbones.protocol import Backbone
from maquette.backbones.transformers.flux import FluxBackbone
from maquette.base import Base, Defaults
from maquette.checkpoints.families import Family, register
from maquette.checkpoints.networks import filled, part_config, part_weights, read_clip, read_t5
from maquette.errors import MaquetteError
from maquette.formats import configurations
from maquette.formats.transformers import flux
from maquette.foundation.devices import Placement
from maquette.foundation.weights import Weights
from maquette.noise.process import Prediction
from maquette.text.conditioning import TextEncoder
from maquette.text.flux import FluxText

SIZE = 1024  # of the images it was trained on, pixels, where the autoencoder's configuration says nothing
TOKENS, TOKENS_UNGUIDED = 512, 256  # of T5, as in diffusers and in the original code of FLUX.1-schnell


@register
class Flux(Family):
    name = FluxBackbone.family
    part = "transformer"
    network_class = flux.TRANSFORMER
    controlnet_class = flux.CONTROLNET
    defaults = Defaults(steps=28, guidance=1.0, sampler="euler")  # the distilled guidance is another one

    def read_network(self, folder: Path, where: Placement, downscale: int) -> tuple[Backbone, int]:
        weights = self.folder_network(part_weights(folder, self.part))
        config = part_config(folder, self.part, configurations.FLUX, tensors=len(weights))
        transformer = filled(lambda: FluxTransformer2DModel.from_config(config), weights, where)
        size = part_config(folder, "vae", configurations.VAE).get("sample_size", SIZE)
        return FluxBackbone(transformer, downscale), size

    def check_schedule(self, scheduler: str, folder: Path) -> None:
        """Raises `MaquetteError` for anything but flow matching."""
        if not scheduler.startswith("FlowMatch"):
            raise MaquetteError(
                f"The base in {str(folder)!r} is trained by flow matching, and its scheduler is a {scheduler or '?'}; "
                "write the configuration of a FlowMatchEulerDiscreteScheduler into its scheduler folder."
            )

    def read_text(self, folder: Path, where: Placement, index: Mapping[str, Any], backbone: Backbone) -> TextEncoder:
        length = TOKENS if backbone.text.guided else TOKENS_UNGUIDED
        t5 = read_t5(folder, "_2", where, length)
        return FluxText(read_clip(folder, "", CLIPTextModel, where), t5, backbone.text.width)

    def pipeline(self, base: Base) -> dict[str, object]:
        unused: dict[str, object] = {"feature_extractor": [None, None], "image_encoder": [None, None]}
        return {"_class_name": "FluxPipeline", **unused}

    def holds(self, weights: Weights) -> bool:
        return flux.holds_original(weights) or flux.holds_transformer(weights)

    def read_file(self, path: Path, where: Placement, **settings: Any) -> Base:
        """Raises `MaquetteError`: a file holds the transformer alone."""
        raise MaquetteError(
            f"{str(path)!r} holds Flux's transformer alone, without text encoders and autoencoder; give its folder in "
            "diffusers' format, with this file in its folder transformer, or its name on the Hub."
        )

    def folder_network(self, weights: Weights) -> Weights:
        return flux.as_diffusers(weights)

    def file_network(self, weights: Weights) -> Weights:
        return flux.as_diffusers(weights)

    def file_prediction(self, weights: Weights, requested: Prediction | None) -> Prediction | None:
        """Raises `MaquetteError` for a request of anything but flow."""
        if requested not in (None, "flow"):
            raise MaquetteError(f"{str(weights.source)!r} is Flux, which predicts flow, not {requested!r}.")
        return "flow"
