"""The trainable copy of ControlNets on Z-Image, in the manner of VACE (Jiang et al. 2025).

It has some of the base's blocks and none of its embedders: the condition's tokens, to which the base's own are added
once at the beginning, pass through them beside the base.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel
from torch import Tensor, nn

from maquette.backbones.residuals import Residuals, Tokens
from maquette.backbones.transformers.blocks import Copied, run
from maquette.backbones.transformers.packing import tokens_of
from maquette.backbones.transformers.zimage_sequence import ZImageState, embed, filled, refined
from maquette.backbones.zero import zero_linear
from maquette.formats.transformers.zimage import Design
from maquette.text.conditioning import Conditioning

Early = Callable[[Sequence[Tokens]], Residuals]


class _Borrowed:
    """The base's network, which is not part of a copy, nor of a copy's copies."""

    def __init__(self, network: ZImageTransformer2DModel) -> None:
        self.network = network

    def __deepcopy__(self, memo: Any) -> "_Borrowed":
        return self


class ZImageCopy(Copied):
    """The copied blocks, and the zero layers between the condition's tokens and the base's.

    Args:
        network: of the base, some of whose blocks are copied; the rest of it is run.
        downscale: pixels per latent cell, along a side.
    """

    def __init__(self, network: ZImageTransformer2DModel, design: Design, downscale: int) -> None:
        super().__init__()
        self.runs, self.downscale, self.design = _Borrowed(network), downscale, design
        width = network.config.dim
        self.control_layers = nn.ModuleList(copy.deepcopy(network.layers[place]) for place in design.places)
        self.before_proj = zero_linear(width, width)
        if design.refiner != "control_layers":
            self.control_noise_refiner = copy.deepcopy(network.noise_refiner)
        if design.refiner == "control_noise_refiner":
            self.refiner_before_proj = zero_linear(width, width)

    @property
    def entries(self) -> list[nn.Module]:
        """The layers through which the condition enters, which start at zero."""
        own = self.design.refiner == "control_noise_refiner"
        return [self.before_proj, *([self.refiner_before_proj] if own else [])]

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Tensor | None = None,
        outputs: int | None = None,
        early: Early | None = None,
    ) -> tuple[Tokens, ...]:
        """The first `outputs` outputs, or all of them if None: tokens (B, D, h / 2, w / 2) with those beside them.

        Args:
            control_features: (B or 1, D, h / 2, w / 2), the condition's tokens; None for zeros.
            early: what the first outputs add to the base's refiner of the image; only where the design has any.
        """
        network = self.runs.network
        state = embed(network, self.downscale, latents, timestep, Conditioning.of(text))
        condition = self._condition(control_features, state)
        first: list[Tokens] = []
        if self.design.refiner is None:
            for block in self.control_noise_refiner:
                condition = run(self, block, condition, None, state.image_rotary, state.time)
            x = refined(network, state, None)
        else:
            condition, seen = self._beside_the_refiner(condition, state)
            first = seen[: self.design.early]
            x = refined(network, state, None if early is None else early(first))
        c = torch.cat([condition, state.context], dim=1)
        c = self.before_proj(c) + torch.cat([x, state.context], dim=1)
        count = None if outputs is None else max(0, outputs - len(first))
        _, behind = self._through(self.control_layers[:count], c, state, state.mask, state.rotary)
        return (*first, *behind)

    def _condition(self, features: Tensor | None, state: ZImageState) -> Tensor:
        """The condition's tokens (B, X, D), filled up as the image's are."""
        if features is None:
            return torch.zeros_like(state.x)
        tokens = tokens_of(features).expand(len(state.x), -1, -1)
        return filled(tokens, self.runs.network.x_pad_token)

    def _beside_the_refiner(self, condition: Tensor, state: ZImageState) -> tuple[Tensor, list[Tokens]]:
        """The condition's tokens (B, X, D) behind the blocks that see the image before it is refined, and each block's.

        In version 2.0 these are the same blocks that see it behind.
        """
        own = self.design.refiner == "control_noise_refiner"
        blocks, before = (
            (self.control_noise_refiner, self.refiner_before_proj) if own else (self.control_layers, self.before_proj)
        )
        return self._through(blocks, before(condition) + state.x, state, None, state.image_rotary)

    def _through(
        self, blocks: nn.ModuleList, c: Tensor, state: ZImageState, mask: Tensor | None, rotary: Tensor
    ) -> tuple[Tensor, list[Tokens]]:
        """Tokens (B, L, D) behind blocks, and those behind each; a mask is (B, L), positions (B, L, head / 2)."""
        seen = []
        for block in blocks:
            c = run(self, block, c, mask, rotary, state.time)
            seen.append(Tokens(c[:, : state.tokens].mT.unflatten(2, state.grid), c[:, state.tokens :]))
        return c, seen
