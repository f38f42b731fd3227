"""Stable Diffusion 1.x, 2.x, XL and the diorama's base: a U-Net and one or two CLIP text encoders."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from maquette.backbones.protocol import Backbone
from maquette.backbones.unet import UNetBackbone
from maquette.base import Base
from maquette.checkpoints.families import Family, register
from maquette.checkpoints.networks import filled, part_config, part_weights, read_clip
from maquette.checkpoints.original.stable_diffusion import (
    UNET,
    known_prediction,
    load_original_base,
    read_unet,
    version_of,
)
from maquette.errors import MaquetteError, shortened
from maquette.formats import configurations
from maquette.foundation.devices import Placement
from maquette.foundation.weights import Weights
from maquette.noise.process import Prediction
from maquette.text.clip import ClipText, XLText
from maquette.text.conditioning import TextEncoder


@register
class StableDiffusion(Family):
    name = UNetBackbone.family
    part = "unet"
    network_class = "UNet2DConditionModel"
    controlnet_class = "ControlNetModel"
    foreign_schedules = ("EDM", "FlowMatch")

    def read_network(self, folder: Path, where: Placement, downscale: int) -> tuple[Backbone, int]:
        weights = part_weights(folder, self.part)
        config = part_config(folder, self.part, configurations.UNET, tensors=len(weights))
        unet = filled(lambda: UNet2DConditionModel.from_config(config), weights, where)
        backbone = UNetBackbone(unet, downscale)
        return backbone, _side(unet.config.sample_size, folder) * downscale

    def read_text(self, folder: Path, where: Placement, index: Mapping[str, Any], backbone: Backbone) -> TextEncoder:
        """XL's two if the U-Net takes a pooled vector, otherwise one."""
        first = read_clip(folder, "", CLIPTextModel, where)
        if backbone.text.pooled_width is None:
            return ClipText(first)
        second = read_clip(folder, "_2", CLIPTextModelWithProjection, where)
        return XLText(first, second, index.get("force_zeros_for_empty_prompt", False))

    def pipeline(self, base: Base) -> dict[str, object]:
        unused: dict[str, object] = {"feature_extractor": [None, None], "image_encoder": [None, None]}
        if isinstance(base.text, XLText):
            return {
                "_class_name": "StableDiffusionXLPipeline",
                **unused,
                "force_zeros_for_empty_prompt": base.text.zero_empty_prompt,
            }
        checker = {"safety_checker": [None, None], "requires_safety_checker": False}
        return {"_class_name": "StableDiffusionPipeline", **unused, **checker}

    def holds(self, weights: Weights) -> bool:
        return f"{UNET}input_blocks.0.0.weight" in weights

    def read_file(self, path: Path, where: Placement, **settings: Any) -> Base:
        return load_original_base(path, device=str(where.device), dtype=where.dtype, **settings)

    def file_network(self, weights: Weights) -> Weights:
        return read_unet(weights)

    def file_prediction(self, weights: Weights, requested: Prediction | None) -> Prediction | None:
        return known_prediction(weights, version_of(read_unet(weights)), requested)

    def stand_in(self, config: Mapping[str, Any]) -> Backbone:
        """A U-Net without values. Raises `MaquetteError` for a configuration that describes none."""
        up_blocks = [block.replace("Down", "Up") for block in reversed(config["down_block_types"])]
        known = inspect.signature(UNet2DConditionModel.__init__).parameters
        shared = {key: value for key, value in config.items() if key in known}
        settings = {**shared, "out_channels": config["in_channels"], "up_block_types": up_blocks}
        try:
            with torch.device("meta"):
                return UNetBackbone(UNet2DConditionModel(**settings).eval())
        except MaquetteError:
            raise
        except Exception as error:  # settings that are valid alone but not together
            reason = shortened(next(iter(str(error).splitlines()), type(error).__name__))
            raise MaquetteError(
                f"The configuration of the ControlNet fits no base ({reason}); download it again."
            ) from error


def _side(size: Any, folder: Path) -> int:
    """Side of the latents it was trained on; the longer side if there are two."""
    sides = size if isinstance(size, list | tuple) else [size]
    if not sides or not all(isinstance(side, int) for side in sides):
        raise MaquetteError(
            f"The U-Net in {str(folder)!r} does not say its sample_size; write it into its config.json."
        )
    return max(sides)
