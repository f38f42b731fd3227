"""Qwen-Image: a transformer, Qwen2.5-VL as its text encoder, and an autoencoder of videos."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from maquette.backbones.frames import FrameAutoencoder
from maquette.backbones.protocol import Backbone
from maquette.backbones.transformers.qwen import QwenBackbone
from maquette.base import Base, Defaults
from maquette.checkpoints.families import TransformerFamily, register
from maquette.checkpoints.networks import at_least, filled, part_config, part_settings, part_weights, renew_positions
from maquette.errors import MaquetteError
from maquette.formats import configurations
from maquette.formats.transformers import qwen
from maquette.formats.transformers.known import QWEN
from maquette.foundation.devices import Placement
from maquette.text.conditioning import TextEncoder
from maquette.text.language import read_qwen_tokenizer
from maquette.text.qwen import QwenText

SIZE = 1024  # pixels; its configurations do not say it


@register
class QwenImage(TransformerFamily):
    name = QwenBackbone.family
    format = QWEN
    network_class = qwen.TRANSFORMER
    controlnet_class = qwen.CONTROLNET
    autoencoder_class = "AutoencoderKLQwenImage"
    defaults = Defaults(steps=50, guidance=4.0, sampler="euler")  # those of diffusers' pipeline

    def read_autoencoder(self, folder: Path, where: Placement) -> tuple[FrameAutoencoder, int]:
        """In float32 instead of float16. Raises `MaquetteError` also for latents of unknown statistics."""
        weights = part_weights(folder, "vae")
        config = part_config(folder, "vae", configurations.FRAMES, tensors=len(weights))
        video = filled(lambda: AutoencoderKLQwenImage.from_config(config), weights, at_least(torch.float32, where))
        channels = [len(video.config[name]) for name in ("latents_mean", "latents_std")]
        if channels != [video.config.z_dim] * 2:
            raise MaquetteError(
                f"The autoencoder in {str(folder / 'vae')!r} has {video.config.z_dim} channels of latents, and states "
                f"{channels[0]} means and {channels[1]} deviations; download it again."
            )
        return FrameAutoencoder(video), 2 ** len(video.config.temperal_downsample)

    def read_network(self, folder: Path, where: Placement, downscale: int) -> tuple[Backbone, int]:
        weights = self.folder_network(part_weights(folder, self.part))
        config = part_config(folder, self.part, configurations.QWEN, tensors=len(weights))
        transformer = filled(lambda: QwenImageTransformer2DModel.from_config(config), weights, where)
        backbone = QwenBackbone(transformer, downscale)
        transformer.pos_embed = QwenEmbedRope(10000, list(transformer.config.axes_dims_rope), scale_rope=True)
        return backbone, SIZE

    def read_text(self, folder: Path, where: Placement, index: Mapping[str, Any], backbone: Backbone) -> TextEncoder:
        """In bfloat16 instead of float16, which is too narrow for its states."""
        weights = part_weights(folder, "text_encoder")
        values = part_config(folder, "text_encoder", configurations.LANGUAGE, tensors=len(weights))
        config = part_settings(folder, "text_encoder", lambda _: Qwen2_5_VLConfig.from_dict(values))
        named = weights.renamed({name: _nested(name) for name in weights})
        placed = at_least(torch.bfloat16, where)
        network = filled(lambda: Qwen2_5_VLForConditionalGeneration(config), named, placed)
        for part in (network.model.language_model, network.model.visual):
            renew_positions(part, where)
        tokenizer = part_settings(folder, "tokenizer", read_qwen_tokenizer)
        return QwenText(network, tokenizer, backbone.text.width, where.dtype)

    def pipeline(self, base: Base) -> dict[str, object]:
        return {"_class_name": "QwenImagePipeline"}


def _nested(name: str) -> str:
    """The name in the network of a tensor of Qwen2.5-VL, which published files give with fewer levels."""
    if name.startswith("visual."):
        return f"model.{name}"
    return re.sub(r"^model\.(?!language_model\.|visual\.)", "model.language_model.", name)
