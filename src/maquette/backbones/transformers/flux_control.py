"""ControlNets on Flux.1, laid out like diffusers' `FluxControlNetModel`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from torch import Tensor, nn

from maquette.backbones.protocol import ConditionSpace, ControlFamily, Paints, Slot
from maquette.backbones.transformers.packing import SIDE, PackedEncoder
from maquette.backbones.wiring import Wiring, ceil, modulo
from maquette.backbones.zero import zero_linear_on_maps
from maquette.formats.transformers.flux import CONTROLNET, Design, as_diffusers, check_control
from maquette.foundation.weights import Weights

_COPIED_CONFIG = (
    "in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim", "pooled_projection_dim",
    "axes_dims_rope",
)  # fmt: skip
_HINT_CHANNELS = (16, 16, 16, 16)


class HintEncoder(PackedEncoder):
    """XLabs': eight convolutions on pixels, packed like latents, and a linear layer that does not start at zero."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width)
        self.hint = ControlNetConditioningEmbedding(channels, block_out_channels=_HINT_CHANNELS)

    def forward(self, condition: Tensor) -> Tensor:
        """The condition (B, 3, H, W) in [0, 1] to (B, D, H / 16, W / 16)."""
        result: Tensor = self.conv_out(F.pixel_unshuffle(self.hint(2 * condition - 1), SIDE))
        return result


@dataclass(frozen=True)
class FluxControl(ControlFamily):
    """One output per copied block; those of double and of single blocks are spread over the base's, each by itself."""

    outputs: tuple[Slot, ...]
    wiring: Wiring
    design: Design
    base: Mapping[str, Any]  # the configuration of its network
    condition_space: ConditionSpace
    paints: Paints = "never"
    types: int = 0  # kinds of condition that it tells apart by a token before the text
    joins_types: bool = False  # several kinds are as many runs, which add up
    idle_weights: bool = True  # the text's half of the last double block, and outputs that no slot receives

    @staticmethod
    def of(outputs: tuple[Slot, ...], design: Design, base: Mapping[str, Any]) -> "FluxControl":
        """Of N blocks, block i gets output i // ceil(N / M) of M; of XLabs' nets double block i gets i mod M."""
        doubles, singles = base["num_layers"], base["num_single_layers"]
        first = (modulo if design.hint else ceil)(design.doubles, doubles) if design.doubles else ()
        second = ceil(design.singles, singles) if design.singles else ()
        behind = tuple(tuple(doubles + slot for slot in slots) for slots in second)
        space: ConditionSpace = "pixels" if design.hint else "latents"
        paints: Paints = "only" if design.paints else "never"
        return FluxControl(outputs, (*first, *behind), design, base, space, paints, design.modes)

    def zero_layer(self, output: Slot) -> nn.Module:
        return zero_linear_on_maps(output.channels)

    def condition_encoder(self) -> nn.Module:
        width = self.outputs[0].channels
        if self.design.hint:
            return HintEncoder(self.design.hint, width)
        return PackedEncoder(self.base["in_channels"] // SIDE**2 + self.design.paints, width)

    def published(self, name: str) -> str:
        """Zero layers are counted through both kinds of block here, and for each kind there."""
        part, _, rest = name.partition(".")
        if part == "zero_convs":
            number, _, which = rest.partition(".")
            single = int(number) - self.design.doubles
            return f"controlnet_single_blocks.{single}.{which}" if single >= 0 else f"controlnet_blocks.{rest}"
        if part == "condition_encoder":
            return (
                rest.replace("conv_out.", "controlnet_x_embedder.", 1)
                if rest.startswith("conv_out.")
                else (rest.replace("hint.", "input_hint_block.", 1))
            )
        return rest

    def config(self, encoder: nn.Module) -> dict[str, Any]:
        """The configuration of a diffusers `FluxControlNetModel` for this base; of one with a mask, of alimama's."""
        design = self.design
        return {
            "_class_name": CONTROLNET,
            **{name: self.base[name] for name in _COPIED_CONFIG},
            "patch_size": SIDE if design.hint else 1,
            "num_layers": design.doubles,
            "num_single_layers": design.singles,
            "guidance_embeds": design.guided,
            "num_mode": design.modes or None,
            "conditioning_embedding_channels": design.hint or None,
            **({"extra_condition_channels": SIDE**2} if design.paints else {}),
        }

    def read(self, config: Mapping[str, Any], weights: Weights, base: Weights) -> Weights:
        """The tensors under diffusers' names; XLabs' own are translated.

        Raises `MaquetteError` if they are no ControlNet of this family, or made for a base of other widths.
        """
        renamed = as_diffusers(weights)
        check_control(renamed, self.base, self.design.paints)
        return renamed
