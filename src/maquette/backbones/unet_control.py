"""ControlNets on Stable Diffusion's U-Nets, laid out like all published ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from maquette.backbones.protocol import ConditionSpace, ControlFamily, Slot
from maquette.backbones.wiring import Wiring
from maquette.errors import MaquetteError
from maquette.formats.control import read_control
from maquette.foundation.weights import Weights

_COPIED_CONFIG = (
    "transformer_layers_per_block", "in_channels", "flip_sin_to_cos", "freq_shift", "down_block_types",
    "only_cross_attention", "block_out_channels", "layers_per_block", "downsample_padding", "mid_block_scale_factor",
    "act_fn", "norm_num_groups", "norm_eps", "cross_attention_dim", "attention_head_dim", "num_attention_heads",
    "use_linear_projection", "upcast_attention", "resnet_time_scale_shift", "addition_embed_type",
    "addition_time_embed_dim", "projection_class_embeddings_input_dim", "mid_block_type",
)  # fmt: skip


@dataclass(frozen=True)
class UNetControl(ControlFamily):
    """One output per slot, and diffusers' names."""

    outputs: tuple[Slot, ...]
    wiring: Wiring
    unet: Mapping[str, Any]  # the U-Net's configuration
    condition_space: ConditionSpace = "pixels"
    first_layer: str = "conv_in.weight"

    def published(self, name: str) -> str:
        part, rest = name.split(".", 1)
        if part == "trainable_copy":
            return rest
        if part == "condition_encoder":
            return f"controlnet_cond_embedding.{rest}"
        number, rest = rest.split(".", 1)
        middle = int(number) == len(self.outputs) - 1
        return f"controlnet_mid_block.{rest}" if middle else f"controlnet_down_blocks.{number}.{rest}"

    def config(self, encoder: nn.Module) -> dict[str, Any]:
        """The configuration of a diffusers `ControlNetModel` for this U-Net."""
        return {
            "_class_name": "ControlNetModel",
            **{name: self.unet.get(name) for name in _COPIED_CONFIG},
            "conditioning_channels": 3,
            "global_pool_conditions": False,
            "controlnet_conditioning_channel_order": "rgb",
            "conditioning_embedding_out_channels": list(encoder.channels),  # type: ignore[arg-type]
        }

    def widened_config(self, channels: int) -> dict[str, Any]:
        """The configuration of a diffusers `UNet2DConditionModel` that takes the latents and `channels` more."""
        plain = {name: value for name, value in self.unet.items() if not name.startswith("_")}
        wider = self.unet["in_channels"] + channels
        return {"_class_name": "UNet2DConditionModel", **plain, "in_channels": wider}

    def read(self, config: Mapping[str, Any], weights: Weights, base: Weights) -> Weights:
        """Tensors from any format that `formats.control` knows.

        Raises `MaquetteError` for a config.json with other channel widths than this base's.
        """
        theirs, ours = config.get("block_out_channels"), self.unet["block_out_channels"]
        if theirs is not None and list(theirs) != list(ours):
            raise MaquetteError(
                f"The ControlNet in {str(weights.source)!r} is made for a base of widths {list(theirs)}, "
                f"this base has {list(ours)}; load the base it was trained on."
            )
        return read_control(weights, base)
