"""Flux.1: a transformer on packed latents and on text (Black Forest Labs 2024), first in two streams, then in one.

A residual is added to the image's tokens after every block, of either kind.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.embeddings import CombinedTimestepGuidanceTextProjEmbeddings, CombinedTimestepTextProjEmbeddings
from diffusers.models.transformers.transformer_flux import FluxSingleTransformerBlock, FluxTransformerBlock
from torch import Tensor, nn

from maquette.backbones.protocol import Slot
from maquette.backbones.residuals import Residuals
from maquette.backbones.transformers.blocks import Copied, if_trained, parameters_of, run
from maquette.backbones.transformers.flux_control import FluxControl
from maquette.backbones.transformers.packing import SIDE, pack, packed_grid, positions, tokens_of, unpack
from maquette.errors import MaquetteError
from maquette.formats.transformers.flux import Design, told_config
from maquette.foundation.weights import Weights
from maquette.text.conditioning import Conditioning, TextInputs

GUIDANCE = 3.5
"""The scale of distilled guidance where none is given, as in training."""


@dataclass(frozen=True)
class FluxState:
    """What precedes the first block."""

    x: Tensor  # (B, L, D) the image's tokens
    time: Tensor  # (B, D) time, pooled text, and the scale of distilled guidance
    context: Tensor  # (B, T, D) the text's tokens
    rotary: tuple[Tensor, Tensor]  # cosines and sines of all tokens' positions, (T + L, head's width) each
    grid: tuple[int, int]  # rows and columns of the image's tokens


class FluxEncoder(Copied):
    """The embedders and the first blocks of both kinds, which a ControlNet copies; named as in diffusers.

    Args:
        network: of the base, copied.
        downscale: pixels per latent cell, along a side.
    """

    def __init__(self, network: FluxTransformer2DModel, design: Design, downscale: int) -> None:
        super().__init__()
        self.downscale, self.pos_embed = downscale, network.pos_embed  # without weights
        self.x_embedder = copy.deepcopy(network.x_embedder)
        self.context_embedder = copy.deepcopy(network.context_embedder)
        self.time_text_embed = _time_embedder(network, design.guided)
        self.controlnet_mode_embedder = nn.Embedding(design.modes, network.inner_dim) if design.modes else None
        sizes = (network.inner_dim, network.config.num_attention_heads, network.config.attention_head_dim)
        doubles, singles = network.transformer_blocks, network.single_transformer_blocks
        self.transformer_blocks = _copied(doubles, design.doubles, lambda: FluxTransformerBlock(*sizes))
        self.single_transformer_blocks = _copied(singles, design.singles, lambda: FluxSingleTransformerBlock(*sizes))

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Any = None,
        outputs: int | None = None,
    ) -> tuple[Tensor, ...]:
        """The image's tokens after the first `outputs` blocks, or all of them if None: (B, D, h / 2, w / 2) each.

        Args:
            control_features: (B or 1, D, h / 2, w / 2); of a net with modes a list of one with its `type`.
        """
        mode = None
        if isinstance(control_features, Sequence):
            (given,) = control_features
            control_features, mode = given.features, self._mode(given.type)
        state = _embed(self, self.downscale, latents, timestep, Conditioning.of(text), mode)
        x, context, maps = state.x, state.context, []
        if control_features is not None:
            x = x + tokens_of(control_features)
        for block in [*self.transformer_blocks, *self.single_transformer_blocks][:outputs]:
            context, x = run(self, block, x, context, state.time, state.rotary)
            maps.append(x.mT.unflatten(2, state.grid))
        return tuple(maps)

    def _mode(self, number: int) -> Tensor:
        """The token of a kind of condition, (1, 1, D)."""
        assert self.controlnet_mode_embedder is not None, "a net without modes is given features alone"
        mode: Tensor = self.controlnet_mode_embedder.weight[number]
        return mode[None, None]


def _copied(blocks: nn.ModuleList, count: int, new: Any) -> nn.ModuleList:
    """The first blocks of a base. Those that it has no equal of hold no meaningful weights: they are loaded."""
    return nn.ModuleList(copy.deepcopy(blocks[number]) if number < len(blocks) else new() for number in range(count))


def _time_embedder(network: FluxTransformer2DModel, guided: bool) -> nn.Module:
    """A copy of the base's embedder of time, text and guidance; of another kind if the net's is, then to be loaded."""
    if guided == network.config.guidance_embeds:
        return copy.deepcopy(network.time_text_embed)
    kind = CombinedTimestepGuidanceTextProjEmbeddings if guided else CombinedTimestepTextProjEmbeddings
    return cast(nn.Module, kind(network.inner_dim, network.config.pooled_projection_dim))


def _embed(
    of: Any, downscale: int, latents: Tensor, timestep: Tensor | int, text: Conditioning, mode: Tensor | None = None
) -> FluxState:
    """Embed latents (B, C, h, w), timestep (B,) or an int, and text with the embedders of a base or a copy.

    Args:
        mode: a token (1, 1, D) before the text.
    """
    assert text.pooled is not None, "this transformer takes pooled text"
    grid = packed_grid(latents, downscale)
    context = of.context_embedder(text.hidden_states)
    if mode is not None:
        context = torch.cat([mode.expand(len(context), -1, -1), context], dim=1)
    places = positions(grid, latents.device)
    rotary = of.pos_embed(torch.cat([places.new_zeros(context.shape[1], 3), places]))
    return FluxState(of.x_embedder(pack(latents)), _time(of, latents, timestep, text), context, rotary, grid)


def _time(of: Any, latents: Tensor, timestep: Tensor | int, text: Conditioning) -> Tensor:
    """(B, D); the scale of guidance enters where the network, base or copy, was trained with one."""
    steps = torch.as_tensor(timestep, device=latents.device).expand(len(latents))
    embedded: Tensor
    if not isinstance(of.time_text_embed, CombinedTimestepGuidanceTextProjEmbeddings):
        embedded = of.time_text_embed(steps, text.pooled)
        return embedded
    scale = text.guidance if text.guidance is not None else torch.full((len(latents),), GUIDANCE)
    embedded = of.time_text_embed(steps, 1000 * scale.to(latents.device, torch.float32), text.pooled)
    return embedded


class FluxBackbone:
    """A transformer of Flux.1 as a `Backbone`, described by its own configuration.

    Shapes: latents and predictions (B, C, h, w), timestep (B,) or an int, text (B, T, D) with a pooled vector (B, P).

    Args:
        network: gets locked: its parameters stop requiring gradients.
        downscale: pixels per latent cell, along a side, of the matching autoencoder.

    Raises `MaquetteError` for a transformer that takes more than an image's latents.
    """

    family = "flux"

    def __init__(self, network: FluxTransformer2DModel, downscale: int = 8) -> None:
        self.network, self.downscale, config = network.requires_grad_(False), downscale, network.config
        if network.out_channels != config.in_channels or config.in_channels % SIDE**2:
            raise MaquetteError(
                f"This Flux takes {config.in_channels} channels and predicts {network.out_channels}: it is one of its "
                "tools (fill, depth, canny), which take an image beside the latents; use FLUX.1-dev or -schnell."
            )
        self.latent_channels: int = config.in_channels // SIDE**2
        self.text = TextInputs(
            config.joint_attention_dim, config.pooled_projection_dim, guided=bool(config.guidance_embeds)
        )
        self.slots = _slots(network, config.num_layers, config.num_single_layers)

    def control(self, config: Mapping[str, Any] | None = None) -> FluxControl:
        """A new one copies a quarter of the double blocks; a number of blocks (`num_layers`) counts both kinds."""
        design = self._design(config)
        outputs = _slots(self.network, design.doubles, design.singles)
        return FluxControl.of(outputs, design, dict(self.network.config))

    def told_config(self, weights: Weights) -> dict[str, Any]:
        return told_config(weights)

    def make_copy(self, outputs: int, config: Mapping[str, Any] | None = None) -> FluxEncoder:
        design = self._design(config)
        assert outputs == design.doubles + design.singles, "one output per block"
        return FluxEncoder(self.network, design, self.downscale).requires_grad_(True)

    def _design(self, config: Mapping[str, Any] | None) -> Design:
        return Design.read(config, self.network.config.num_layers, self.text.guided)

    def decoder_parameters(self) -> list[nn.Parameter]:
        network = self.network
        blocks = (network.transformer_blocks, network.single_transformer_blocks)
        return parameters_of(*blocks, network.norm_out, network.proj_out)

    def prepare(self, latents: Tensor, timestep: Tensor | int, text: Tensor | Conditioning) -> FluxState:
        with if_trained(self.network.time_text_embed):
            return _embed(self.network, self.downscale, latents, timestep, Conditioning.of(text))

    def finish(self, state: FluxState, residuals: Residuals | None = None) -> Tensor:
        x, context, network = state.x, state.context, self.network
        blocks = (*network.transformer_blocks, *network.single_transformer_blocks)
        for block, residual in zip(blocks, residuals or [None] * len(blocks), strict=True):
            context, x = run(network, block, x, context, state.time, state.rotary)
            if residual is not None:
                x = x + tokens_of(residual)
        return unpack(network.proj_out(network.norm_out(x, state.time)), state.grid)


def _slots(network: FluxTransformer2DModel, doubles: int, singles: int) -> tuple[Slot, ...]:
    """The image's tokens after each of the first blocks of both kinds, as maps."""
    kinds = (("transformer_blocks", doubles), ("single_transformer_blocks", singles))
    return tuple(Slot(f"{kind}.{number}", network.inner_dim, SIDE) for kind, count in kinds for number in range(count))
