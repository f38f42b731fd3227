"""Qwen-Image: a transformer on packed latents and on the states of a language model (Wu et al. 2025), in two streams.

A residual is added to the image's tokens after every block.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock
from torch import Tensor, nn

from maquette.backbones.protocol import Slot
from maquette.backbones.residuals import Residuals
from maquette.backbones.transformers.blocks import Copied, if_trained, parameters_of, run
from maquette.backbones.transformers.packing import SIDE, pack, packed_grid, tokens_of, unpack
from maquette.backbones.transformers.qwen_control import QwenControl
from maquette.errors import MaquetteError
from maquette.formats.transformers.qwen import Design, told_config
from maquette.foundation.weights import Weights
from maquette.text.conditioning import Conditioning, TextInputs

BLOCKS = 5
"""How many a new ControlNet copies, as the published ones do."""
_OTHER_INPUTS = ("guidance_embeds", "zero_cond_t", "use_additional_t_cond", "use_layer3d_rope")
_EMBEDDERS = ("time_text_embed", "txt_norm", "img_in", "txt_in")


@dataclass(frozen=True)
class QwenState:
    """What precedes the first block."""

    x: Tensor  # (B, L, D) the image's tokens
    time: Tensor  # (B, D)
    context: Tensor  # (B, T, D) the text's tokens
    mask: Tensor | None  # (B, T) bool, True at tokens of the prompt; None where all are
    rotary: tuple[Tensor, Tensor]  # complex: of the image's positions (L, head / 2), of the text's (T, head / 2)
    grid: tuple[int, int]  # rows and columns of the image's tokens


class QwenEncoder(Copied):
    """The embedders and the first blocks, which a ControlNet copies; modules are named as in diffusers.

    diffusers' own `from_transformer` leaves the text's norm as it is initialised; here it is copied like the others.

    Args:
        network: of the base, copied.
        downscale: pixels per latent cell, along a side.
    """

    def __init__(self, network: QwenImageTransformer2DModel, blocks: int, downscale: int) -> None:
        super().__init__()
        self.downscale, self.pos_embed = downscale, network.pos_embed  # without weights
        for name in _EMBEDDERS:
            setattr(self, name, copy.deepcopy(getattr(network, name)))
        self.transformer_blocks = nn.ModuleList(_copied(network, number) for number in range(blocks))

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Tensor | None = None,
        outputs: int | None = None,
    ) -> tuple[Tensor, ...]:
        """The image's tokens after the first `outputs` blocks, or all of them if None: (B, D, h / 2, w / 2) each."""
        state = _embed(self, self.downscale, latents, timestep, Conditioning.of(text))
        x, context, maps = state.x, state.context, []
        if control_features is not None:
            x = x + tokens_of(control_features)
        for block in self.transformer_blocks[:outputs]:
            context, x = run(self, block, x, context, state.mask, state.time, state.rotary)
            maps.append(x.mT.unflatten(2, state.grid))
        return tuple(maps)


def _copied(network: QwenImageTransformer2DModel, number: int) -> nn.Module:
    """One block of a copy. Those that the base has no equal of hold no meaningful weights: they are loaded."""
    if number < len(network.transformer_blocks):
        return copy.deepcopy(network.transformer_blocks[number])
    config = network.config
    return QwenImageTransformerBlock(network.inner_dim, config.num_attention_heads, config.attention_head_dim)


def _embed(of: Any, downscale: int, latents: Tensor, timestep: Tensor | int, text: Conditioning) -> QwenState:
    """Embed latents (B, C, h, w), timestep (B,) or an int, and text with the embedders of a base or a copy.

    Positions count from the image's middle, and the text's begin at its edge; so padding behind the text moves nothing.
    """
    grid = packed_grid(latents, downscale)
    sigma = torch.as_tensor(timestep, device=latents.device).expand(len(latents)) / 1000
    x = of.img_in(pack(latents))
    context = of.txt_in(of.txt_norm(text.hidden_states))
    rotary = of.pos_embed([(1, *grid)], max_txt_seq_len=context.shape[1], device=latents.device)
    return QwenState(x, of.time_text_embed(sigma, x), context, text.mask, rotary, grid)


class QwenBackbone:
    """A transformer of Qwen-Image as a `Backbone`, described by its own configuration.

    Shapes: latents and predictions (B, C, h, w), timestep (B,) or an int, text (B, T, D), perhaps with a mask (B, T).

    Args:
        network: gets locked: its parameters stop requiring gradients.
        downscale: pixels per latent cell, along a side, of the matching autoencoder.

    Raises `MaquetteError` for a transformer that takes more than an image's latents, a time and text.
    """

    family = "qwen-image"

    def __init__(self, network: QwenImageTransformer2DModel, downscale: int = 8) -> None:
        self.network, self.downscale, config = network.requires_grad_(False), downscale, network.config
        taken = [name for name in _OTHER_INPUTS if config.get(name)]
        if taken or SIDE**2 * network.out_channels != config.in_channels:
            raise MaquetteError(
                f"This Qwen-Image takes more than latents, a time and text ({', '.join(taken) or 'in_channels'}): it "
                "edits images or layers them; use the one that makes images from text."
            )
        self.latent_channels: int = network.out_channels
        self.text = TextInputs(config.joint_attention_dim)
        self.slots = _slots(network, config.num_layers)

    def control(self, config: Mapping[str, Any] | None = None) -> QwenControl:
        """A new one copies the first 5 blocks; another number is a configuration's `num_layers`."""
        design = self._design(config)
        return QwenControl.of(_slots(self.network, design.blocks), design, dict(self.network.config))

    def told_config(self, weights: Weights) -> dict[str, Any]:
        return told_config(weights)

    def make_copy(self, outputs: int, config: Mapping[str, Any] | None = None) -> QwenEncoder:
        design = self._design(config)
        assert outputs == design.blocks, "one output per block"
        return QwenEncoder(self.network, design.blocks, self.downscale).requires_grad_(True)

    def _design(self, config: Mapping[str, Any] | None) -> Design:
        return Design.read(config, min(BLOCKS, len(self.network.transformer_blocks)))

    def decoder_parameters(self) -> list[nn.Parameter]:
        network = self.network
        return parameters_of(network.transformer_blocks, network.norm_out, network.proj_out)

    def prepare(self, latents: Tensor, timestep: Tensor | int, text: Tensor | Conditioning) -> QwenState:
        with if_trained(self.network.img_in):
            return _embed(self.network, self.downscale, latents, timestep, Conditioning.of(text))

    def finish(self, state: QwenState, residuals: Residuals | None = None) -> Tensor:
        x, context, network = state.x, state.context, self.network
        for block, residual in zip(network.transformer_blocks, residuals or [None] * len(self.slots), strict=True):
            context, x = run(network, block, x, context, state.mask, state.time, state.rotary)
            if residual is not None:
                x = x + tokens_of(residual)
        return unpack(network.proj_out(network.norm_out(x, state.time)), state.grid)

    @staticmethod
    def guide(negative: Tensor, positive: Tensor, scale: float) -> Tensor:
        """Classifier-free guidance of predictions (B, C, h, w), each token as long as the prompt's own, as published.

        A token's length is that of its 4 C numbers, 2 × 2 cells.
        """
        guided, wanted = (pack(one) for one in (negative + scale * (positive - negative), positive))
        lengths = [one.norm(dim=-1, keepdim=True) for one in (wanted, guided)]
        grid = (positive.shape[2] // SIDE, positive.shape[3] // SIDE)
        return unpack(guided * (lengths[0] / lengths[1].clamp_min(1e-12)), grid)


def _slots(network: QwenImageTransformer2DModel, count: int) -> tuple[Slot, ...]:
    """The image's tokens after each of the first blocks, as maps."""
    return tuple(Slot(f"transformer_blocks.{number}", network.inner_dim, SIDE) for number in range(count))
