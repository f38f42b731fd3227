"""ControlNets on Stable Diffusion 3, laid out like diffusers' `SD3ControlNetModel`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from maquette.backbones.protocol import ConditionSpace, ControlFamily, Paints, Slot
from maquette.backbones.wiring import Wiring, floor
from maquette.backbones.zero import zero_linear_on_maps
from maquette.formats.transformers.sd3 import CONTROLNET, TRANSFORMER, Design, as_diffusers, check_control
from maquette.foundation.weights import Weights

_COPIED_CONFIG = (
    "sample_size", "patch_size", "in_channels", "attention_head_dim", "num_attention_heads", "caption_projection_dim",
    "pooled_projection_dim", "out_channels", "pos_embed_max_size", "qk_norm",
)  # fmt: skip


@dataclass(frozen=True)
class SD3Control(ControlFamily):
    """One output per copied block, spread evenly over the base's; the condition enters as latents."""

    parts: ClassVar[Mapping[str, str]] = {
        "trainable_copy.": "",
        "condition_encoder.conv_out.": "pos_embed_input.proj.",
        "zero_convs.": "controlnet_blocks.",
    }
    outputs: tuple[Slot, ...]
    wiring: Wiring
    design: Design
    base: Mapping[str, Any]  # the configuration of its network
    shifts_latents: bool
    paints: Paints
    condition_space: ConditionSpace = "latents"
    idle_weights: bool = True  # the text's half of the last block, and outputs that no slot receives
    first_layer: str = "pos_embed.proj.weight"

    @staticmethod
    def of(outputs: tuple[Slot, ...], design: Design, base: Mapping[str, Any]) -> "SD3Control":
        """Of N blocks, block i gets output int(i / (N / M)) of M; the last block gets none."""
        wiring = floor(len(outputs), base["num_layers"], base["num_layers"] - 1)
        shifted = design.paints or not design.zero_pooled
        return SD3Control(outputs, wiring, design, base, shifted, "only" if design.paints else "never")

    def zero_layer(self, output: Slot) -> nn.Module:
        return zero_linear_on_maps(output.channels)

    def config(self, encoder: nn.Module) -> dict[str, Any]:
        """The configuration of a diffusers `SD3ControlNetModel` for this base."""
        design = self.design
        dual = [number for number in self.base["dual_attention_layers"] if number < design.blocks]
        return {
            "_class_name": CONTROLNET,
            **{name: self.base[name] for name in _COPIED_CONFIG},
            "num_layers": design.blocks,
            "joint_attention_dim": self.base["joint_attention_dim"] if design.text else None,
            "dual_attention_layers": dual,
            "extra_conditioning_channels": int(design.paints),
            "pos_embed_type": "sincos" if design.embeds else None,
            "use_pos_embed": design.embeds,
            "force_zeros_for_pooled_projection": design.zero_pooled,
        }

    def widened_config(self, channels: int) -> dict[str, Any]:
        """The configuration of a diffusers `SD3Transformer2DModel` that takes the latents and `channels` more."""
        plain = {name: value for name, value in self.base.items() if not name.startswith("_")}
        return {"_class_name": TRANSFORMER, **plain, "in_channels": self.base["in_channels"] + channels}

    def read(self, config: Mapping[str, Any], weights: Weights, base: Weights) -> Weights:
        """The tensors under diffusers' names; Stability AI's own are translated.

        Raises `MaquetteError` if they are no ControlNet of this family, or made for a base of other widths.
        """
        renamed = as_diffusers(weights)
        check_control(renamed, self.base, self.design.paints)
        return renamed
