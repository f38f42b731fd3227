"""The paper's ablations of the copy: ControlNet-lite."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maquette.backbones.protocol import Encoded, Slot, TextFeatures


class LiteEncoder(nn.Module):
    """Each copied block replaced by one convolution (paper, v3 §4.2): no copy, no text, no time."""

    def __init__(self, latent_channels: int, slots: Sequence[Slot]) -> None:
        super().__init__()
        first = slots[0]
        self.conv_in = nn.Conv2d(latent_channels, first.channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Conv2d(a.channels, b.channels, 3, padding=1, stride=b.downscale // a.downscale)
            for a, b in itertools.pairwise(slots)
        )

    def forward(
        self, latents: Tensor, timestep: Tensor | int, text: Tensor | TextFeatures, added: Tensor | None = None
    ) -> Encoded:
        x = self.conv_in(latents)
        if added is not None:
            x = x + added
        features = [x]
        for block in self.blocks:
            x = nn.functional.silu(block(nn.functional.silu(x)))
            features.append(x)
        return Encoded(tuple(features), torch.empty(0), TextFeatures.of(text).states)
