"""ControlNets on Qwen-Image, laid out like diffusers' `QwenImageControlNetModel`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from maquette.backbones.protocol import ConditionSpace, ControlFamily, Paints, Slot
from maquette.backbones.transformers.packing import SIDE, PackedEncoder
from maquette.backbones.wiring import Wiring, ceil
from maquette.backbones.zero import zero_linear_on_maps
from maquette.formats.transformers.qwen import CONTROLNET, Design, check_control
from maquette.foundation.weights import Weights

_COPIED_CONFIG = (
    "patch_size", "in_channels", "out_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim",
    "axes_dims_rope",
)  # fmt: skip


@dataclass(frozen=True)
class QwenControl(ControlFamily):
    """One output per copied block, each for as many of the base's in a row; the condition enters as latents."""

    parts: ClassVar[Mapping[str, str]] = {
        "trainable_copy.": "",
        "condition_encoder.conv_out.": "controlnet_x_embedder.",
        "zero_convs.": "controlnet_blocks.",
    }
    outputs: tuple[Slot, ...]
    wiring: Wiring
    design: Design
    base: Mapping[str, Any]  # the configuration of its network
    paints: Paints
    condition_space: ConditionSpace = "latents"
    serves_both: bool = True  # as published: the residuals under the prompt serve the negative prompt's branch too
    idle_weights: bool = True  # the text's half of the last block, and outputs that no slot receives

    @staticmethod
    def of(outputs: tuple[Slot, ...], design: Design, base: Mapping[str, Any]) -> "QwenControl":
        """Of N blocks, block i gets output i // ceil(N / M) of M."""
        return QwenControl(
            outputs, ceil(len(outputs), base["num_layers"]), design, base, "only" if design.paints else "never"
        )

    def zero_layer(self, output: Slot) -> nn.Module:
        return zero_linear_on_maps(output.channels)

    def condition_encoder(self) -> nn.Module:
        return PackedEncoder(self.base["in_channels"] // SIDE**2 + self.design.paints, self.outputs[0].channels)

    def config(self, encoder: nn.Module) -> dict[str, Any]:
        """The configuration of a diffusers `QwenImageControlNetModel` for this base."""
        return {
            "_class_name": CONTROLNET,
            **{name: self.base[name] for name in _COPIED_CONFIG},
            "num_layers": self.design.blocks,
            "extra_condition_channels": SIDE**2 * self.design.paints,
        }

    def read(self, config: Mapping[str, Any], weights: Weights, base: Weights) -> Weights:
        """The tensors as they are.

        Raises `MaquetteError` if they are no ControlNet of this family, or made for a base of other widths.
        """
        check_control(weights, self.base, self.design.paints)
        return weights
