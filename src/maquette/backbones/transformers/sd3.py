"""Stable Diffusion 3 and 3.5: a transformer on patches of latents and on text alike (MM-DiT, Esser et al. 2024).

A residual is added to the image's tokens after each block but the last, which diffusers' ControlNets leave out too.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, cast

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention import JointTransformerBlock
from diffusers.models.transformers.transformer_sd3 import SD3SingleTransformerBlock
from torch import Tensor, nn

from maquette.backbones.protocol import Slot
from maquette.backbones.residuals import Residuals
from maquette.backbones.transformers.blocks import Copied, if_trained, parameters_of, run
from maquette.backbones.transformers.packing import tokens_of, unpatched
from maquette.backbones.transformers.sd3_context import SD3Context
from maquette.backbones.transformers.sd3_control import SD3Control
from maquette.backbones.transformers.sd3_tokens import SD3State, embed
from maquette.errors import MaquetteError
from maquette.formats.transformers.sd3 import Design, told_config
from maquette.foundation.weights import Weights
from maquette.text.conditioning import Conditioning, TextInputs


class SD3Encoder(Copied):
    """The embedders and the first blocks, which a ControlNet copies; modules are named as in diffusers.

    Args:
        network: of the base, copied.
        downscale: pixels per latent cell, along a side.
    """

    def __init__(self, network: SD3Transformer2DModel, design: Design, downscale: int) -> None:
        super().__init__()
        self.downscale, self.zero_pooled = downscale, design.zero_pooled
        self.borrowed = () if design.embeds else (network.pos_embed,)  # in a tuple, so that it stays the base's
        if design.embeds:
            self.pos_embed = copy.deepcopy(network.pos_embed)
        self.time_text_embed = copy.deepcopy(network.time_text_embed)
        self.context_embedder = copy.deepcopy(network.context_embedder) if design.text else None
        self.transformer_blocks = nn.ModuleList(_copied(network, number, design) for number in range(design.blocks))

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Tensor | None = None,
        outputs: int | None = None,
    ) -> tuple[Tensor, ...]:
        """The image's tokens after the first `outputs` blocks, or all of them if None: (B, D, h / p, w / p) each."""
        text = Conditioning.of(text)
        if self.zero_pooled and text.pooled is not None:
            text = replace(text, pooled=torch.zeros_like(text.pooled))
        patches = self.borrowed[0] if self.borrowed else self.pos_embed
        state = embed(self, patches, self.downscale, latents, timestep, text)
        x, context, maps = state.x, state.context, []
        if control_features is not None:
            x = x + tokens_of(control_features)
        for block in self.transformer_blocks[:outputs]:
            if context is None:
                x = run(self, block, x, state.time)
            else:
                context, x = run(self, block, x, context, state.time)
            maps.append(x.mT.unflatten(2, state.grid))
        return tuple(maps)


class SD3Whole(Copied):
    """All of a transformer, as a copy that predicts by itself; modules are named as in diffusers."""

    def __init__(self, network: SD3Transformer2DModel, downscale: int) -> None:
        super().__init__()
        self.downscale = downscale
        for name, part in copy.deepcopy(network).named_children():
            self.add_module(name, part)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Tensor | None = None,
    ) -> Tensor:
        """The prediction for latents, both (B, C, h, w).

        Args:
            control_features: (B or 1, D, h / p, w / p), added to the image's tokens.
        """
        patches = cast(nn.Module, self.pos_embed)
        state = embed(self, patches, self.downscale, latents, timestep, Conditioning.of(text))
        if control_features is not None:
            state = replace(state, x=state.x + tokens_of(control_features))
        return _finished(self, state)


def _finished(of: Any, state: SD3State, residuals: Sequence[Tensor | None] = ()) -> Tensor:
    """The prediction (B, C, h, w) of a base or a whole copy, with residuals (B, D, h / p, w / p) after its blocks."""
    x, context = state.x, state.context
    assert context is not None, "a base reads the prompt"
    for block, residual in zip_longest(of.transformer_blocks, residuals):
        context, x = run(of, block, x, context, state.time)
        if residual is not None:
            x = x + tokens_of(residual)
    return unpatched(of.proj_out(of.norm_out(x, state.time)), state.grid, of.pos_embed.patch_size)


def _copied(network: SD3Transformer2DModel, number: int, design: Design) -> nn.Module:
    """One block of a copy. Those that the base has no equal of hold no meaningful weights: they are loaded."""
    config, blocks = network.config, network.transformer_blocks
    sizes = (network.inner_dim, config.num_attention_heads, config.attention_head_dim)
    if not design.text:
        return SD3SingleTransformerBlock(*sizes)
    if number < len(blocks) - 1:
        return copy.deepcopy(blocks[number])
    return JointTransformerBlock(
        *sizes, qk_norm=config.qk_norm, use_dual_attention=number in config.dual_attention_layers
    )


class SD3Backbone:
    """A transformer of Stable Diffusion 3 as a `Backbone`, described by its own configuration.

    Shapes: latents and predictions (B, C, h, w), timestep (B,) or an int, text (B, T, D) with a pooled vector (B, P).

    Args:
        network: gets locked: its parameters stop requiring gradients.
        downscale: pixels per latent cell, along a side, of the matching autoencoder.

    Raises `MaquetteError` for a transformer of one block, which has no place for residuals.
    """

    family = "stable-diffusion-3"

    def __init__(self, network: SD3Transformer2DModel, downscale: int = 8) -> None:
        self.network, self.downscale, config = network.requires_grad_(False), downscale, network.config
        self.latent_channels: int = config.in_channels
        self.text = TextInputs(config.joint_attention_dim, config.pooled_projection_dim)
        self.slots = _slots(network, config.num_layers - 1)
        if not self.slots:
            raise MaquetteError("A transformer of one block takes no residuals; use a base of two or more.")

    def control(self, config: Mapping[str, Any] | None = None) -> SD3Control:
        """A new one copies half of the blocks; another number is a configuration's `num_layers`."""
        design = self._design(config)
        return SD3Control.of(_slots(self.network, design.blocks), design, dict(self.network.config))

    def told_config(self, weights: Weights) -> dict[str, Any]:
        return told_config(weights)

    def make_copy(self, outputs: int, config: Mapping[str, Any] | None = None) -> SD3Encoder:
        design = self._design(config)
        assert outputs == design.blocks, "one output per block"
        return SD3Encoder(self.network, design, self.downscale).requires_grad_(True)

    def make_whole_copy(self) -> SD3Whole:
        """For a ControlNet of variant "channels"."""
        return SD3Whole(self.network, self.downscale).requires_grad_(True)

    def make_context(self, rank: int) -> SD3Context:
        """For a ControlNet of variant "context"."""
        return SD3Context(self.network, self.downscale, rank)

    def _design(self, config: Mapping[str, Any] | None) -> Design:
        return Design.read(config, len(self.network.transformer_blocks) // 2)

    def decoder_parameters(self) -> list[nn.Parameter]:
        network = self.network
        return parameters_of(network.transformer_blocks, network.norm_out, network.proj_out)

    def prepare(self, latents: Tensor, timestep: Tensor | int, text: Tensor | Conditioning) -> SD3State:
        with if_trained(self.network.time_text_embed):
            patches = self.network.pos_embed
            return embed(self.network, patches, self.downscale, latents, timestep, Conditioning.of(text))

    def finish(self, state: SD3State, residuals: Residuals | None = None) -> Tensor:
        if residuals is None:
            return _finished(self.network, state)
        return residuals.blended(_finished(self.network, state, residuals))


def _slots(network: SD3Transformer2DModel, count: int) -> tuple[Slot, ...]:
    """The image's tokens after each of the first blocks, as maps."""
    side = network.config.patch_size
    return tuple(Slot(f"transformer_blocks.{number}", network.inner_dim, side) for number in range(count))
