"""Union ControlNets on Stable Diffusion XL (xinsir): one copy for several kinds of condition, alone or together.

Each condition k of type τ, with weight s (1 if it is alone), adds s E(c) + s A(s (mean E(c) + task_τ)) to the first
convolution's output, A being a transformer layer and a zero linear layer, so one number per channel. The set of types
is embedded beside the timestep.

The published code passes the conditions' tokens to its attention with batch and sequence exchanged: each token attends
to the same token of the other images in its batch. For one image, also under guidance, it attends to itself alone,
which is what is computed here for every image: so that no image depends on its neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.controlnets.controlnet_union import ResidualAttentionBlock
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from maquette.backbones.protocol import Slot, Typed
from maquette.backbones.unet_control import UNetControl
from maquette.backbones.wiring import identity
from maquette.errors import MaquetteError
from maquette.formats.union import CLASS
from maquette.text.conditioning import Conditioning

_NOT_TAKEN = ("mid_block_type",)  # settings of a ControlNetModel that diffusers' union has not


class UnionEncoder(nn.Module):
    """The copy of a U-Net's first half, what fuses the conditions, and the embedding of their types.

    Its own weights are named as in diffusers, and hold no meaningful values: they are loaded.

    Args:
        encoder: a `UNetEncoder`.
    """

    def __init__(self, encoder: nn.Module, control: "UnionControl") -> None:
        super().__init__()
        self.encoder: Any = encoder
        config, width = control.unet, control.width
        self.task_embedding = nn.Parameter(torch.zeros(control.types, width))
        self.transformer_layes = nn.ModuleList(
            ResidualAttentionBlock(width, control.heads) for _ in range(control.layers)
        )
        self.spatial_ch_projs = nn.Linear(width, width)
        steps = config["addition_time_embed_dim"]
        self.control_type_proj = Timesteps(steps, config["flip_sin_to_cos"], config["freq_shift"])
        self.control_add_embedding = TimestepEmbedding(steps * control.types, config["block_out_channels"][0] * 4)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Sequence[Typed],
        outputs: int | None = None,
    ) -> tuple[Tensor, ...]:
        """The features at the first `outputs` slots, or all of them if None: (B, C, h, w) each.

        Args:
            control_features: one for each condition, features (B or 1, C, h, w).
        """
        fused = torch.stack(torch.broadcast_tensors(*map(self._fused, control_features))).sum(0)
        types = self._embed_types([one.type for one in control_features])
        features: tuple[Tensor, ...] = self.encoder.run(latents, timestep, text, fused, outputs, types).features
        return features

    def _fused(self, condition: Typed) -> Tensor:
        """What a condition adds, (B or 1, C, h, w)."""
        features, weight = condition.features, condition.weight
        x = (weight * (features.mean((2, 3)) + self.task_embedding[condition.type]))[None]
        for layer in self.transformer_layes:  # on sequences of one token
            x = layer(x)
        return weight * (features + self.spatial_ch_projs(x[0])[:, :, None, None])

    def _embed_types(self, types: Sequence[int]) -> Tensor:
        """The set of types, as (1, T) beside the embedded timestep."""
        given = torch.zeros_like(self.task_embedding[:, 0], dtype=torch.float32)
        given[list(types)] = 1
        embedded: Tensor = self.control_add_embedding(self.control_type_proj(given).to(self.task_embedding).view(1, -1))
        return embedded


@dataclass(frozen=True)
class UnionControl(UNetControl):
    """One output per slot, and several types of condition."""

    types: int = 0
    width: int = 0  # of the conditions' tokens
    layers: int = 1
    heads: int = 8

    @staticmethod
    def of(slots: tuple[Slot, ...], unet: Mapping[str, Any], config: Mapping[str, Any]) -> "UnionControl":
        """The one that a config.json describes.

        Raises `MaquetteError` for a base other than XL, or of other widths.
        """
        first, width = unet["block_out_channels"][0], config.get("num_trans_channel", 320)
        if unet.get("addition_time_embed_dim") is None or {width, config.get("num_proj_channel", 320)} != {first}:
            raise MaquetteError(
                f"This union ControlNet is made for a Stable Diffusion XL whose first layer is {width} wide, which "
                "this base is not; load the base that it was trained on."
            )
        layers, heads = config.get("num_trans_layer", 1), config.get("num_trans_head", 8)
        wiring = identity(len(slots))
        return UnionControl(
            slots, wiring, unet, types=config.get("num_control_type", 6), width=width, layers=layers, heads=heads
        )

    def published(self, name: str) -> str:
        return super().published(name).removeprefix("encoder.")

    def config(self, encoder: nn.Module) -> dict[str, Any]:
        """The configuration of a diffusers `ControlNetUnionModel` for this U-Net."""
        plain = {name: value for name, value in super().config(encoder).items() if name not in _NOT_TAKEN}
        return {
            **plain,
            "_class_name": CLASS,
            "num_control_type": self.types,
            "num_trans_channel": self.width,
            "num_trans_head": self.heads,
            "num_trans_layer": self.layers,
            "num_proj_channel": self.width,
        }
